"""The contract of a mask rule: what turns trainable scores into the mask of a frozen kernel.

A rule is a frozen dataclass; its settings are its fields and are compiled into the program. Any object with
the methods of `Rule` is one: a subclass need only define `mask`. Koster et al., "Signing the Supermask: Keep,
Hide, Invert" (ICLR 2022), define the signed mask, the first of the family in `ssm_jax.masks.threshold`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

# What a rule keeps of a layer beside its scores, for example a threshold, by name.
State = Mapping[str, jax.Array]


class Counts(NamedTuple):
    """How many weights of a layer are inverted, hidden and kept.

    Scalars: int32, or float32 where a rule can only tell what is expected.
    """

    inverted: jax.Array
    hidden: jax.Array
    kept: jax.Array


def count(mask: jax.Array) -> Counts:
    """Count the values of a mask.

    Args:
      mask: Any shape, values -1, 0 and 1 (a binary mask inverts nothing).

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


@runtime_checkable
class Rule(Protocol):
    """What a layer asks of a mask rule; immutable and hashable.

    The methods see one layer of one network, arrays in the shape of its kernel, `(..., I, O)`; `vmap` over
    networks is the caller's.
    """

    def init(self, scores: jax.Array) -> State:
        """Make what the rule keeps of a layer, from its initial scores; it is saved with the network.

        Args:
          scores: The initial scores, float32.
        """
        return {}

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Make the mask, differentiable in the scores (see `straight_through`).

        Args:
          scores: The scores, float32.
          state: What `init` returned.
          key: A key of this layer and step, in training only; None asks for the mask of an evaluation.
        """
        ...

    def kernel(self, kernel: jax.Array, mask: jax.Array, state: State) -> jax.Array:
        """Apply the mask: make the effective kernel.

        Args:
          kernel: The frozen kernel, float32.
          mask: What `mask` returned.
          state: What `init` returned.
        """
        return kernel * mask

    def count(self, mask: jax.Array) -> Counts:
        """Count what the mask inverts, hides and keeps.

        Args:
          mask: What `mask` returned for an evaluation.
        """
        return count(mask)


def straight_through(select: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Give a selection by scores the straight-through gradient.

    The gradient of the mask is handed to the scores unchanged, everywhere; nothing else gets one.

    Args:
      select: A function `(scores, *others) -> mask` whose mask has the shape of the scores.

    Returns:
      The same function with that gradient.

    Examples:
      >>> import jax
      >>> step = straight_through(lambda scores: (scores > 0).astype(scores.dtype))
      >>> print(jax.grad(lambda scores: 3 * step(scores))(jax.numpy.float32(-2.0)))
      3.0
    """

    @jax.custom_vjp
    def selected(scores: jax.Array, others: tuple[Any, ...]) -> jax.Array:
        return select(scores, *others)

    def forward(scores: jax.Array, others: tuple[Any, ...]) -> tuple[jax.Array, None]:
        return select(scores, *others), None

    def backward(_: None, cotangent: jax.Array) -> tuple[jax.Array, None]:
        return cotangent, None

    selected.defvjp(forward, backward)
    return functools.wraps(select)(lambda scores, *others: selected(scores, others))
