"""A rule that hides nothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ssm_jax.core.rule import Rescaled, State, straight_through


@straight_through
def sign(scores: jax.Array) -> jax.Array:
    """Select by sign: `-1` below zero, else `+1`.

    Args:
      scores: Floating point, any shape.

    Returns:
      The mask, in the scores' shape and dtype.
    """
    return jnp.where(scores < 0, -1, 1).astype(scores.dtype)


@dataclasses.dataclass(frozen=True)
class SignOnly(Rescaled):
    """Keep (+1) or invert (-1) every weight and hide none; a score of 0 keeps.

    Ivan & Florian, "Training highly effective connectivities within neural networks with randomly
    initialized, fixed weights" (arXiv 2006.16627).

    Examples:
      >>> import jax.numpy as jnp
      >>> print(SignOnly().mask(jnp.array([0.8, 0.0, -0.6]), {}))
      [ 1.  1. -1.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Take the signs of the scores; the same in training and evaluation."""
        return sign(scores)
