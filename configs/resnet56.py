"""ResNet56 on CIFAR-100: the row "ResNet56" of the paper's main table.

    python train.py --config=configs/resnet56.py
    python train.py --config=configs/resnet56.py --config.model.normalization=batch

The paper (mean of 50 runs): 60.01 % at 29.39 % remaining weights; dense 68.04 %. The authors left no
settings of the dense baseline.
"""

from ml_collections import ConfigDict

from ssm_jax import config as base


def get_config(variant: str = "") -> ConfigDict:
    """The settings of the main row; there are no variants."""
    config = base.default()
    config.model.name = "resnet56"
    config.model.normalization = "paper"
    config.mask.threshold = 0.8
    config.init.elus_factor = 1.3
    config.data.name = "cifar100"
    config.data.augment = "crop_flip"
    config.optimizer.learning_rate = 0.15
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "plateau"
    config.schedule.factor = 0.1
    config.schedule.patience = 15
    config.schedule.times = 7
    config.training.epochs = 120
    return base.with_variant(config, variant, {})
