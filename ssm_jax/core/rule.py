"""The contract of a mask rule: what turns trainable scores into the mask of a frozen kernel.

A rule is a frozen dataclass; its settings are its fields and are compiled into the program. Any object with
the methods of `Rule` is one: a subclass need only define `mask`. Koster et al., "Signing the Supermask: Keep,
Hide, Invert" (ICLR 2022), define the signed mask, the first of the family in `ssm_jax.core.threshold`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax import errors

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
      mask: Any shape, values -1, 0 and 1 (a binary mask inverts nothing), which rounding may have changed.

    Returns:
      The numbers of -1, 0 and +1; their sum is the number of weights.

    Examples:
      >>> import jax.numpy as jnp
      >>> [int(n) for n in count(jnp.array([[1, 0], [-1, 0]]))]
      [1, 2, 1]
    """
    whole = jnp.rint(mask)
    inverted = jnp.sum(whole < 0, dtype=jnp.int32)
    kept = jnp.sum(whole > 0, dtype=jnp.int32)
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


@dataclasses.dataclass(frozen=True)
class Rescaled(Rule):
    """The common part of the rules here: the kernel can make up for what the mask hides.

    Attributes:
      rescale: The exponent a >= 0 of the factor `density^-a` on a layer's kernel, where density is the share
        of its weights that the mask does not hide; 0 leaves the kernel as it is, 0.5 keeps the variance of
        the layer's output as the mask empties. The factor has no gradient.

    Raises:
      InputError: The exponent is negative.
    """

    rescale: float = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.rescale >= 0.0:
            raise errors.out_of_range("rescale", self.rescale, "at least 0")

    def kernel(self, kernel: jax.Array, mask: jax.Array, state: State) -> jax.Array:
        """Make the effective kernel, `kernel * mask * density^-rescale`."""
        if not self.rescale:
            return kernel * mask
        # Of a layer that hides everything any finite factor will do.
        factor = (jnp.maximum(self.remaining(mask), 1) / mask.size) ** -self.rescale
        return kernel * mask * factor.astype(kernel.dtype)

    def remaining(self, mask: jax.Array) -> jax.Array:
        """Count the weights that a mask does not hide, without a gradient: a float32 scalar."""
        counts = self.count(lax.stop_gradient(mask))
        return (counts.inverted + counts.kept).astype(jnp.float32)


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
