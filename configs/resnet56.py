"""ResNet56 on CIFAR-100: the row "ResNet56" of the paper's main table; and on CIFAR-10.

    python train.py --config=configs/resnet56.py               # signed supermask
    python train.py --config=configs/resnet56.py:batch_norm    # batch norm everywhere
    python train.py --config=configs/resnet56.py:dense         # the dense baseline
    python train.py --config=configs/resnet56.py:cifar10       # what the authors ran on CIFAR-10

The paper: 60.01 % at 29.39 % remaining weights; dense 68.04 %. As in the authors' released code the
masked network has no normalization that learns, and on CIFAR-100 an epoch is two passes over the
training set.
"""

from ml_collections import ConfigDict

from configs import common
from ssm_jax import config as base

VARIANTS: base.Variants = common.RIVALS | {
    "batch_norm": common.BATCH_NORM
    | {
        "init.score": "xavier_uniform",
        "optimizer.learning_rate": 0.25,
        "training.epochs": 120,
    },
    "dense": common.DENSE_RESNET
    | {
        "optimizer.learning_rate": 0.15,
        "schedule.patience": 10,
        "training.epochs": 90,
    },
    "cifar10": {
        "mask.threshold": 0.8,
        "init.elus_factor": 1.3,
        "init.score": "xavier_uniform",
        "data.name": "cifar10",
        "data.augment": "none",
        "data.passes": 1,
        "optimizer.learning_rate": 0.15,
        "training.epochs": 120,
    },
}


def get_config(variants: str = "") -> ConfigDict:
    """Return the settings of the main row, or of some of `VARIANTS`."""
    config = base.default()
    config.model.name = "resnet56"
    config.model.normalization = "paper"
    config.mask.threshold = 0.75
    config.init.score = "elu"
    config.data.name = "cifar100"
    config.data.augment = "crop_flip"
    config.data.passes = 2
    config.optimizer.learning_rate = 0.3
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "plateau"
    config.schedule.factor = 0.1
    config.schedule.patience = 15
    config.schedule.max_reductions = 7
    config.training.epochs = 110
    return base.with_variant(config, variants, VARIANTS)
