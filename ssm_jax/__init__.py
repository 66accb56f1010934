"""Signed supermasks in JAX: random networks whose frozen weights are kept, hidden or inverted."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ssm_jax.errors import InputError, Preempted, RunError
from ssm_jax.version import __version__

if TYPE_CHECKING:
    from ssm_jax.artifact.load import load
    from ssm_jax.artifact.model import export
    from ssm_jax.config import default as default_config
    from ssm_jax.core import Binary, Masking, Rule, Signed
    from ssm_jax.data.batches import standardize
    from ssm_jax.nn.convert import supermask
    from ssm_jax.nn.density import set_density
    from ssm_jax.nn.layers import Conv, Dense, apply_masks, masked_layers
    from ssm_jax.nn.networks import BATCH_AXIS, build
    from ssm_jax.nn.pooling import max_pool
    from ssm_jax.nn.remaining import mask_table, remaining_weights
    from ssm_jax.nn.statistics import recalibrate
    from ssm_jax.nn.variables import Frozen, Score
    from ssm_jax.optim import Optimizer, score_optimizer
    from ssm_jax.runs.summary import Summary
    from ssm_jax.saved import load_into, save
    from ssm_jax.trained import Trained, restore
    from ssm_jax.training.run import train_and_evaluate

__all__ = [
    "BATCH_AXIS",
    "Binary",
    "Conv",
    "Dense",
    "Frozen",
    "InputError",
    "Masking",
    "Optimizer",
    "Preempted",
    "Rule",
    "RunError",
    "Score",
    "Signed",
    "Summary",
    "Trained",
    "__version__",
    "apply_masks",
    "build",
    "default_config",
    "export",
    "load",
    "load_into",
    "mask_table",
    "masked_layers",
    "max_pool",
    "recalibrate",
    "remaining_weights",
    "restore",
    "save",
    "score_optimizer",
    "set_density",
    "standardize",
    "supermask",
    "train_and_evaluate",
]

# Imported when they are first used, so that an artifact is read where JAX is not installed.
_ON_FIRST_USE = {
    "BATCH_AXIS": "nn.networks",
    "Binary": "core",
    "Conv": "nn.layers",
    "Dense": "nn.layers",
    "Frozen": "nn.variables",
    "Masking": "core",
    "Optimizer": "optim",
    "Rule": "core",
    "Score": "nn.variables",
    "Signed": "core",
    "Summary": "runs.summary",
    "Trained": "trained",
    "apply_masks": "nn.layers",
    "build": "nn.networks",
    "default_config": "config:default",
    "export": "artifact.model",
    "load": "artifact.load",
    "load_into": "saved",
    "mask_table": "nn.remaining",
    "masked_layers": "nn.layers",
    "max_pool": "nn.pooling",
    "recalibrate": "nn.statistics",
    "remaining_weights": "nn.remaining",
    "restore": "trained",
    "save": "saved",
    "score_optimizer": "optim",
    "set_density": "nn.density",
    "standardize": "data.batches",
    "supermask": "nn.convert",
    "train_and_evaluate": "training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _ON_FIRST_USE[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
