"""A model of a user's own, as `--model` finds it."""

from __future__ import annotations

import jax
from flax import nnx

import ssm_jax


class Own(nnx.Module):
    """One layer of each kind."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = ssm_jax.Conv(1, 3, rngs=rngs)
        self.head = ssm_jax.Dense(3, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.conv(images)).mean((1, 2)))


def fails(rngs: nnx.Rngs) -> nnx.Module:
    """Nothing can be built of it."""
    raise ValueError("no such layer\nat all")
