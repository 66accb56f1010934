"""Conv2 on CIFAR-10: the row "Conv2" of the paper's main table.

    python train.py --config=configs/conv2.py            # signed supermask
    python train.py --config=configs/conv2.py:dense      # the dense baseline, kernels trained
    python train.py --config=configs/conv2.py:extreme    # the authors' extreme pruning

The paper (mean of 50 runs): 68.37 % at 0.60 % remaining weights; dense 68.79 %. The extreme row was
also run with learning rate 0.008, weight decay 3e-4 and the schedule per 10 epochs.

Measured so far, one seed on 2 CPU cores: 68.05 % at 0.69 % after 40 of the 100 epochs, one hour
(`results/conv2-40-epochs.json`).
"""

from ml_collections import ConfigDict

from ssm_jax import config as base

DENSE = {
    "mask.rule": base.DENSE,
    "init.kernel": "elu",
    "optimizer.learning_rate": 0.008,
    "optimizer.weight_decay": 7e-4,
    "schedule.epochs": 5.0,
    "training.epochs": 50,
}
EXTREME = {
    "mask.threshold": 0.6,
    "optimizer.learning_rate": 0.01,
    "optimizer.weight_decay": 5e-4,
    "schedule.epochs": 5.0,
}


def get_config(variant: str = "") -> ConfigDict:
    """The settings of the main row, or of the variant `dense` or `extreme`."""
    config = base.default()
    config.model.name = "conv2"
    config.data.name = "cifar10"
    config.optimizer.learning_rate = 0.04
    return base.with_variant(config, variant, {"dense": DENSE, "extreme": EXTREME})
