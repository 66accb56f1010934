"""ResNet110 on CIFAR-100: the row "ResNet110" of the paper's main table.

    python train.py --config=configs/resnet110.py               # signed supermask
    python train.py --config=configs/resnet110.py:batch_norm    # batch norm everywhere
    python train.py --config=configs/resnet110.py:dense         # the dense baseline, a plain ResNet110

The paper: 46.42 % at 20.64 % remaining weights; dense 62.70 %. As in the authors' released code the
masked network has a second block with a projection in every stage and no normalization that learns, and
an epoch is two passes over the training set.
"""

from ml_collections import ConfigDict

from configs import common, resnet56
from ssm_jax import config as base

VARIANTS: base.Variants = common.RIVALS | {
    "batch_norm": common.BATCH_NORM
    | {
        "mask.threshold": 0.75,
        "init.elus_factor": 1.5,
        "optimizer.learning_rate": 0.1,
        "optimizer.weight_decay": 1e-4,
        "training.epochs": 120,
    },
    "dense": common.DENSE_RESNET
    | {
        "model.name": "resnet110_plain",
        "optimizer.learning_rate": 0.15,
        "optimizer.weight_decay": 1e-4,
        "schedule.patience": 10,
        "training.epochs": 100,
    },
}


def get_config(variants: str = "") -> ConfigDict:
    """Return the settings of the main row, or of some of `VARIANTS`."""
    config = resnet56.get_config()
    config.model.name = "resnet110"
    config.mask.threshold = 0.85
    config.init.elus_factor = 1.3
    config.optimizer.learning_rate = 0.08
    config.optimizer.weight_decay = 1e-5
    return base.with_variant(config, variants, VARIANTS)
