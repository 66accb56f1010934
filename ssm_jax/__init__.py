"""Signed supermasks in JAX: random networks whose frozen weights are kept, hidden or inverted."""

from ssm_jax.config import default as default_config
from ssm_jax.data.batches import standardize
from ssm_jax.errors import InputError, Preempted, RunError
from ssm_jax.nn.layers import Conv, Dense, Frozen, Kernel, Masking, Score, Threshold, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS, build
from ssm_jax.nn.pooling import max_pool
from ssm_jax.trained import Trained, restore
from ssm_jax.training.run import train_and_evaluate
from ssm_jax.version import __version__

__all__ = [
    "BATCH_AXIS",
    "Conv",
    "Dense",
    "Frozen",
    "InputError",
    "Kernel",
    "Masking",
    "Preempted",
    "RunError",
    "Score",
    "Threshold",
    "Trained",
    "__version__",
    "build",
    "default_config",
    "masked_layers",
    "max_pool",
    "restore",
    "standardize",
    "train_and_evaluate",
]
