"""Micro on MNIST, for a microcontroller; see `docs/guides/microcontroller.md`.

    python train.py --config=configs/mcu.py          # 60 epochs
    python train.py --config=configs/mcu.py:large    # one and a half times as wide
    python train.py --config=configs/mcu.py:fast     # 12 epochs

The images are MNIST's own, 28x28, turned, scaled and shifted at random. The first convolution halves them, so
that no value of the network takes more than 4 kB.

Measured, means of 3 seeds on 2 busy CPU cores: `fast` 99.41 % at 40 % (`results/mcu/micro-fast.json`). As C
in whole numbers it takes 5.2 kB of tables and 5.5 kB of RAM
(`benchmarks/results/microcontroller/cortex-m.json`). The learning rate was chosen among 0.02, 0.05 and 0.2
in 3 epochs, on a tenth of the training set that was held out. `large` and the 60 epochs have not been
measured.
"""

from ml_collections import ConfigDict

from configs import common
from ssm_jax import config as base

MICRO = common.COSINE | {
    "data.augment": "affine",
    "mask.density": 0.4,
    "mask.ramp": 0.5,
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
