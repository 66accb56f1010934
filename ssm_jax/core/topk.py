"""Rules that keep a fixed share of every layer, its largest scores.

No more than a sample is sorted: see `ssm_jax.core.selection`. A share of a layer is rounded to whole weights
and never below one; weights that tie with the last one kept are kept too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax import errors
from ssm_jax.core.density import check
from ssm_jax.core.rule import Rescaled, State, straight_through
from ssm_jax.core.selection import extremes


@straight_through
def top(scores: jax.Array, numbers: Sequence[jax.Array | int]) -> jax.Array:
    """Select the largest scores: for each number `n`, add `1` to the `n` largest.

    Args:
      scores: Floating point, any shape.
      numbers: How many scores to select; one number makes a mask of 0 and 1.

    Returns:
      The mask, in the scores' shape and dtype.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(top(jnp.array([0.5, 0.1, 0.3]), (1, 2)))
      [2. 0. 1.]
    """
    kept = extremes(scores, numbers)
    return sum((each.astype(scores.dtype) for each in kept), jnp.zeros_like(scores))


@straight_through
def top_and_bottom(scores: jax.Array, number: jax.Array | int) -> jax.Array:
    """Select the largest scores, `+1`, and the smallest, `-1`; else `0`.

    Args:
      scores: Floating point, any shape.
      number: How many scores to select at either end.

    Returns:
      The mask, in the scores' shape and dtype. A score at both ends, because all of them tie, is kept.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(top_and_bottom(jnp.array([0.5, 0.1, -0.2, 0.3]), 1))
      [ 1.  0. -1.  0.]
    """
    kept, inverted = extremes(scores, (number,), (number,))
    return kept.astype(scores.dtype) - (inverted & ~kept).astype(scores.dtype)


@dataclasses.dataclass(frozen=True)
class TopK(Rescaled):
    """The common part of rules that keep a fixed share of every layer.

    Attributes:
      density: The share of a layer's weights that the mask keeps or inverts, above 0 and at most 1.
      rescale: See `Rescaled`.

    Raises:
      InputError: A setting is out of range.
    """

    # Its mask takes many passes over the scores: a step of training makes it once.
    searches: ClassVar[bool] = True

    density: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.density)

    def remaining(self, mask: jax.Array) -> jax.Array:
        """Count in one pass, by rows, in floats: a CPU is slow at counting in integers."""
        rows = jnp.sum(lax.stop_gradient(mask) != 0, -1, dtype=jnp.float32)
        return jnp.sum(rows)

    def number(self, scores: jax.Array, share: float = 1.0) -> int:
        """How many weights make up a share of those that remain, at least one."""
        return max(1, round(share * self.density * scores.size))


@dataclasses.dataclass(frozen=True)
class EdgePopup(TopK):
    """Edge-popup: keep the weights of the largest scores in size.

    The gradient goes straight through the selection to the sizes of the scores, so that a score of either
    sign grows in size where its weight helps. Ramanujan et al., "What's Hidden in a Randomly Weighted Neural
    Network?" (CVPR 2020); their scaled kernels are `rescale=0.5`.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(EdgePopup(density=0.5).mask(jnp.array([0.8, 0.3, -0.6, 0.1]), {}))
      [1. 0. 1. 0.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Select by size; the same in training and evaluation."""
        return top(jnp.abs(scores), (self.number(scores),))


@dataclasses.dataclass(frozen=True)
class SignedTopK(TopK):
    """The signed supermask with fixed shares: half of `density` is kept, half inverted.

    The weights of the largest scores are kept and those of the smallest inverted, whatever the signs of the
    scores: the `variable` mask, an ablation of Koster et al. (ICLR 2022).

    Examples:
      >>> import jax.numpy as jnp
      >>> print(SignedTopK(density=0.5).mask(jnp.array([0.8, 0.3, -0.6, 0.1]), {}))
      [ 1.  0. -1.  0.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Select at both ends; the same in training and evaluation."""
        return top_and_bottom(scores, min(self.number(scores, 0.5), max(1, scores.size // 2)))


@dataclasses.dataclass(frozen=True)
class Biprop(EdgePopup):
    """Edge-popup with binary kernels: the signs of the weights, times one scale per layer.

    The scale is the mean size of the weights that are kept; it has no gradient. Diffenderfer & Kailkhura,
    "Multi-Prize Lottery Ticket Hypothesis: Finding Accurate Binary Neural Networks by Pruning A Randomly
    Weighted Network" (ICLR 2021).
    """

    def kernel(self, kernel: jax.Array, mask: jax.Array, state: State) -> jax.Array:
        """Make the effective kernel, `scale * sign(kernel) * mask`."""
        scale = lax.stop_gradient(jnp.sum(jnp.abs(kernel) * mask) / self.remaining(mask))
        return super().kernel(scale * jnp.sign(kernel), mask, state)


@dataclasses.dataclass(frozen=True)
class Multicoated(TopK):
    """Multicoated supermask: several masks of edge-popup on top of each other.

    A weight is multiplied by the number of coats that keep it. All coats come from the same scores: of N
    coats the n-th keeps the share `density * n / N` of the layer, so that each lies within the next and the
    widest has the density asked for; remaining are the weights in any coat. Okoshi et al., "Multicoated
    Supermasks Enhance Hidden Networks" (ICML 2022), whose coats may also be spaced in other ways.

    Attributes:
      density: The share of a layer's weights in the widest coat, above 0 and at most 1.
      coats: N, the number of coats, 1 to 127, what an int8 of a stored mask holds.
      rescale: See `Rescaled`.

    Raises:
      InputError: A setting is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(Multicoated(density=0.5, coats=2).mask(jnp.array([0.8, 0.3, -0.6, 0.1]), {}))
      [2. 0. 1. 0.]
    """

    coats: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.coats <= 127:
            raise errors.out_of_range("coats", self.coats, "1 to 127")

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Count the coats that keep a weight; the same in training and evaluation."""
        shares = (n / self.coats for n in range(1, self.coats + 1))
        return top(jnp.abs(scores), tuple(self.number(scores, share) for share in shares))
