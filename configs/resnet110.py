"""ResNet110 on CIFAR-100: the row "ResNet110" of the paper's main table.

    python train.py --config=configs/resnet110.py

The paper (mean of 50 runs): 46.42 % at 20.64 % remaining weights; dense 62.70 %. The authors left no
settings of it; these are those of ResNet56.
"""

from ml_collections import ConfigDict

from configs import resnet56


def get_config(variant: str = "") -> ConfigDict:
    """The settings of the main row; there are no variants."""
    config = resnet56.get_config(variant)
    config.model.name = "resnet110"
    return config
