"""Conv2 on CIFAR-10: the row "Conv2" of the paper's main table.

    python train.py --config=configs/conv2.py                    # signed supermask
    python train.py --config=configs/conv2.py:dense              # the dense baseline, kernels trained
    python train.py --config=configs/conv2.py:best,twin          # dense, by our recipe
    python train.py --config=configs/conv2.py:extreme            # the authors' extreme pruning
    python train.py --config=configs/conv2.py:extreme_008_3e4    # with learning rate 0.008, decay 3e-4
    python train.py --config=configs/conv2.py:older              # the authors' older recipe
    python train.py --config=configs/conv2.py:best               # our recipe, 50 epochs
    python train.py --config=configs/conv2.py:fast               # the same in 16 epochs

The paper (mean of 50 runs): 68.37 % at 0.60 % remaining weights; dense 68.79 %.

Measured, at 0.60 %: `best` 75.36 % on an H200 (5 seeds; `results/paper/`), `fast` 73.06 % there (5 seeds;
`results/h200/`) and 72.71 % on one CPU core (3 seeds, 22 minutes each; `results/paper/`). The main row, one
seed on 2 CPU cores: 68.05 % at 0.69 % after 40 of its 100 epochs (`results/single/conv2-40-epochs.json`).
"""

from ml_collections import ConfigDict

from configs import common
from ssm_jax import config as base

BEST = common.COSINE_CONV | {"mask.density": 0.006}
VARIANTS: base.Variants = common.RIVALS_CONV | {
    "dense": common.DENSE_CONV,
    "twin": common.TWIN,
    "extreme": common.EXTREME | {"schedule.decay_epochs": 5.0},
    "extreme_008_3e4": common.EXTREME_008_3E4,
    "older": common.OLDER,
    "best": BEST,
    "fast": BEST | common.FAST_CONV,
}


def get_config(variants: str = "") -> ConfigDict:
    """Return the settings of the main row, or of some of `VARIANTS`."""
    config = base.default()
    config.model.name = "conv2"
    config.data.name = "cifar10"
    config.optimizer.learning_rate = 0.04
    return base.with_variant(config, variants, VARIANTS)
