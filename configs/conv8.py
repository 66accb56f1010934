"""Conv8 on CIFAR-10: the row "Conv8" of the paper's main table.

    python train.py --config=configs/conv8.py            # signed supermask
    python train.py --config=configs/conv8.py:dense      # the dense baseline, kernels trained
    python train.py --config=configs/conv8.py:extreme    # the authors' extreme pruning

The paper (mean of 50 runs): 80.91 % at 1.17 % remaining weights; dense 72.24 %. All settings are
those of Conv6.
"""

from ml_collections import ConfigDict

from configs import conv6


def get_config(variant: str = "") -> ConfigDict:
    """The settings of the main row, or of the variant `dense` or `extreme`."""
    config = conv6.get_config(variant)
    config.model.name = "conv8"
    return config
