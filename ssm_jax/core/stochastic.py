"""A rule that draws its mask at random in training."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ssm_jax.core.rule import Counts, Rescaled, State, straight_through


@straight_through
def bernoulli(probability: jax.Array, key: jax.Array) -> jax.Array:
    """Draw `1` with a probability, else `0`; the gradient is that of the expectation.

    Args:
      probability: Floating point in [0, 1], any shape.
      key: A key.

    Returns:
      The mask, in the probability's shape and dtype.
    """
    drawn = jax.random.uniform(key, probability.shape, jnp.float32)
    return (drawn < probability.astype(jnp.float32)).astype(probability.dtype)


@dataclasses.dataclass(frozen=True)
class Stochastic(Rescaled):
    """The supermask that keeps each weight with the probability `sigmoid(score)`, drawn anew at every step.

    An evaluation takes the expectation, so that its mask is not binary and the remaining weights are the
    expected ones. The gradient passes the draw straight through: `dL/ds = dL/dm * sigmoid'(s)`. Zhou et al.,
    "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask" (NeurIPS 2019).

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> rule, scores = Stochastic(), jnp.array([0.0, 100.0, -100.0])
      >>> print(rule.mask(scores, {}))
      [0.5 1.  0. ]
      >>> print(rule.mask(scores, {}, jax.random.key(0))[1:])
      [1. 0.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Draw the mask in training, by the key; make its expectation for an evaluation."""
        probability = jax.nn.sigmoid(scores)
        return probability if key is None else bernoulli(probability, key)

    def count(self, mask: jax.Array) -> Counts:
        """Count what is expected to be kept and hidden, in float32."""
        kept = jnp.sum(mask, dtype=jnp.float32)
        return Counts(jnp.zeros_like(kept), mask.size - kept, kept)
