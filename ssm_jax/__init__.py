"""Signed supermasks in JAX: random networks whose frozen weights are kept, hidden or inverted."""

from ssm_jax.config import default as default_config
from ssm_jax.data.batches import standardize
from ssm_jax.errors import InputError, Preempted, RunError
from ssm_jax.masks import Binary, Rule, Signed
from ssm_jax.nn.layers import Conv, Dense, Frozen, Masking, Score, apply_masks, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS, build
from ssm_jax.nn.pooling import max_pool
from ssm_jax.trained import Trained, restore
from ssm_jax.training.run import train_and_evaluate
from ssm_jax.version import __version__

__all__ = [
    "BATCH_AXIS",
    "Binary",
    "Conv",
    "Dense",
    "Frozen",
    "InputError",
    "Masking",
    "Preempted",
    "Rule",
    "RunError",
    "Score",
    "Signed",
    "Trained",
    "__version__",
    "apply_masks",
    "build",
    "default_config",
    "masked_layers",
    "max_pool",
    "restore",
    "standardize",
    "train_and_evaluate",
]
