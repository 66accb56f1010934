"""Conv6 on CIFAR-10: the row "Conv6" of the paper's main table.

    python train.py --config=configs/conv6.py            # signed supermask
    python train.py --config=configs/conv6.py:dense      # the dense baseline, kernels trained
    python train.py --config=configs/conv6.py:extreme    # the authors' extreme pruning

The paper (mean of 50 runs): 79.17 % at 2.36 % remaining weights; dense 75.91 %.
"""

from ml_collections import ConfigDict

from ssm_jax import config as base

DENSE = {
    "mask.rule": base.DENSE,
    "init.kernel": "elu",
    "optimizer.learning_rate": 0.01,
    "optimizer.weight_decay": 7e-4,
    "schedule.epochs": 10.0,
    "training.epochs": 50,
}
EXTREME = {
    "mask.threshold": 0.6,
    "optimizer.learning_rate": 0.01,
    "optimizer.weight_decay": 5e-4,
    "training.epochs": 110,
}


def get_config(variant: str = "") -> ConfigDict:
    """The settings of the main row, or of the variant `dense` or `extreme`."""
    config = base.default()
    config.model.name = "conv6"
    config.data.name = "cifar10"
    config.optimizer.learning_rate = 0.05
    return base.with_variant(config, variant, {"dense": DENSE, "extreme": EXTREME})
