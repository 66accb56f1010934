"""Micro on MNIST, for a microcontroller; see `docs/guides/microcontroller.md`.

    python train.py --config=configs/mcu.py          # 60 epochs
    python train.py --config=configs/mcu.py:large    # one and a half times as wide
    python train.py --config=configs/mcu.py:fast     # 12 epochs

The images are MNIST's own, 28x28, turned, scaled and shifted at random. The first convolution halves them, so
that no value of the network takes more than 4 kB.

Measured, means of 3 seeds on 2 CPU cores, in whole numbers on all test images
(`results/mcu`, `benchmarks/results/microcontroller/cortex-m.json`):

    variant  accuracy  tables   RAM      training of a seed
    fast     99.41 %    5.2 kB  5.5 kB
    large    99.58 %   10.7 kB  7.8 kB   5 minutes

The learning rate was chosen among 0.02, 0.05 and 0.2 in 3 epochs, on a tenth of the training set that was
held out. The 60 epochs at the first width have not been measured.
"""

from ml_collections import ConfigDict

from configs import common
from ssm_jax import config as base

MICRO = common.COSINE | {
    "data.augment": "affine",
    "mask.density": 0.4,
    "mask.density_ramp": 0.5,
    "optimizer.learning_rate": 0.05,
    "training.epochs": 60,
}
VARIANTS: base.Variants = common.RIVALS_CONV | {
    "large": {"model.width": 1.5},
    "fast": {"training.epochs": 12},
}


def get_config(variants: str = "") -> ConfigDict:
    """Return the main settings, or some of `VARIANTS`."""
    config = base.default()
    config.model.name = "micro"
    base.override(config, MICRO)
    return base.with_variant(config, variants, VARIANTS)
