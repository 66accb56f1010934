"""Small masked networks of every family, as if trained, and images for them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from flax import nnx

import ssm_jax
from ssm_jax import graph
from ssm_jax.artifact import to_graph

IMAGES = {"fcn": (6, 6, 1), "conv2": (8, 8, 3), "conv4": (8, 8, 3), "micro": (9, 8, 3), "resnet20": (8, 8, 3)}
CLASSES = 5


@functools.cache
def model_of(name: str, normalization: str = "none", **masking: Any) -> nnx.Module:
    """A network of a few units, whose normalizations have statistics of their own; in evaluation mode."""
    model = ssm_jax.build(
        name,
        IMAGES[name],
        CLASSES,
        width=0.25 if name == "resnet20" else 0.1,
        normalization=normalization,
        masking=ssm_jax.Masking(**masking),
        rngs=nnx.Rngs(1),
    )
    rng = np.random.default_rng(0)
    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.BatchNorm):
            for variable in (module.mean, module.var, module.scale, module.bias):
                if variable is not None:
                    variable[...] = rng.uniform(0.5, 1.5, variable.shape).astype(np.float32)
    model.eval()
    return model


def network_of(name: str, normalization: str = "none", **masking: Any) -> graph.Network:
    """The same as plain data."""
    return to_graph.network(model_of(name, normalization, **masking), IMAGES[name])


def images_of(name: str, batch: int = 3) -> np.ndarray:
    """Random uint8 images for a network."""
    return np.random.default_rng(7).integers(0, 256, (batch, *IMAGES[name]), np.uint8)


NETWORKS = [
    ("fcn", "none"),
    ("conv2", "none"),
    ("conv4", "none"),
    ("micro", "none"),
    ("resnet20", "none"),
    ("resnet20", "paper"),
    ("resnet20", "batch"),
    ("resnet20", "batch_affine"),
]
