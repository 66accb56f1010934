"""Masks: what turns trainable scores into the mask that multiplies a frozen kernel.

A rule is a function `(scores, threshold) -> mask` with a straight-through gradient. `RULES` names
every rule a config may ask for; a new rule joins by an entry there. Section 3 of Koster et al.,
"Signing the Supermask: Keep, Hide, Invert" (ICLR 2022), defines the signed mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssm_jax import errors

Rule = Callable[..., jax.Array]


@jax.custom_vjp
def _ternary(scores: jax.Array, threshold: jax.Array) -> jax.Array:
    # Two comparisons and a subtraction fuse into one pass over the scores, whatever their number.
    return (scores > threshold).astype(scores.dtype) - (scores < -threshold).astype(scores.dtype)


def _ternary_forward(scores: jax.Array, threshold: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _ternary(scores, threshold), threshold


def _ternary_backward(threshold: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    return cotangent, jnp.zeros_like(threshold)


_ternary.defvjp(_ternary_forward, _ternary_backward)


def signed(scores: jax.Array, threshold: jax.Array) -> jax.Array:
    """Signed ternary mask with a fixed threshold: keep, hide or invert.

    `+1` where `scores > threshold`, `-1` where `scores < -threshold`, `0` elsewhere. The gradient is
    straight-through: that of the mask is handed to the scores unchanged, everywhere, and the
    threshold gets none (Section 3 of the paper).

    Args:
      scores: floating point, any shape.
      threshold: non-negative scalar, in the units of the scores.

    Returns:
      The mask, in the scores' shape and dtype, with values -1, 0 and 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(signed(jnp.array([0.5, 0.1, -0.1, -0.5]), jnp.float32(0.1)))
      [ 1.  0.  0. -1.]
    """
    return _ternary(scores, threshold)


RULES: dict[str, Rule] = {"signed": signed}


def rule(name: str) -> Rule:
    """The mask rule of that name.

    Args:
      name: a key of `RULES`.

    Raises:
      InputError: the name is unknown.
    """
    if name not in RULES:
        raise errors.unknown("mask rule", name, RULES)
    return RULES[name]


def fixed_threshold(scores: jax.Array, share: float) -> jax.Array:
    """The threshold of one layer, fixed once after initialisation: `share * max|scores|`.

    Args:
      scores: the initial scores, any shape.
      share: p of the paper, in [0, 1]: 0.4 for its main rows, 0.6 for extreme pruning.

    Returns:
      A float scalar.
    """
    return share * jnp.max(jnp.abs(scores))


class Counts(NamedTuple):
    """How many weights of a layer are inverted, hidden and kept (int32 scalars)."""

    inverted: Any
    hidden: Any
    kept: Any


def count(mask: jax.Array) -> Counts:
    """Count the values of a mask.

    Args:
      mask: any shape, values -1, 0 and 1 (a binary mask inverts nothing).

    Returns:
      The numbers of -1, 0 and +1; their sum is the number of weights.

    Examples:
      >>> import jax.numpy as jnp
      >>> [int(n) for n in count(jnp.array([[1, 0], [-1, 0]]))]
      [1, 2, 1]
    """
    inverted = jnp.sum(mask < 0, dtype=jnp.int32)
    kept = jnp.sum(mask > 0, dtype=jnp.int32)
    return Counts(inverted, jnp.int32(mask.size) - inverted - kept, kept)
