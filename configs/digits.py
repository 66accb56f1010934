"""Conv2 on the real 8x8 digits that ship with scikit-learn: no download, some seconds on a laptop.

    python train.py --config=configs/digits.py            # signed supermask
    python train.py --config=configs/digits.py:dense      # the dense baseline, kernels trained

Not a row of the paper. The training set is small (1,437 scans), so half of Conv2's width, small batches, a
higher learning rate and a weight decay four times the paper's. The last 360 scans, of other writers, are
the test set. The settings of both were chosen by training without blocks of 360 consecutive scans of the
training set and testing on these.

Measured on 2 CPU cores, means of 20 seeds: 95.60 % at 2.85 % (`results/single/digits.json`); dense 95.68 %
(`results/single/digits-dense.json`), which is the same within the error of the means, 0.15.
"""

from ml_collections import ConfigDict

from configs import common
from ssm_jax import config as base

# What the first run's screen says beside its own accuracy.
DENSE = "a dense network gets 95.68 ± 0.39 %, 20 seeds on 2 CPU cores (results/single/digits-dense.json)"

VARIANTS: base.Variants = common.RIVALS | {
    "dense": common.DENSE
    | {
        "optimizer.learning_rate": 0.05,
        "optimizer.clip": 0.5,  # without it every one of five networks diverges
    },
}


def get_config(variants: str = "") -> ConfigDict:
    """Return the main settings, or some of `VARIANTS`."""
    config = base.default()
    config.model.name = "conv2"
    config.model.width = 0.5
    config.data.name = "digits"
    config.optimizer.learning_rate = 0.2
    config.optimizer.weight_decay = 2e-3
    config.schedule.name = "cosine"
    config.training.batch_size = 16
    config.training.epochs = 40
    return base.with_variant(config, variants, VARIANTS)
