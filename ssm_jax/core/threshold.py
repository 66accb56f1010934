"""Rules with one threshold per layer, fixed once after initialization unless there is a density to reach.

The threshold is the share p of the largest initial score of the layer, `p * max|scores|` (Koster et al., ICLR
2022), or a number in the units of the scores. With a density it is fixed no more: the training step moves the
thresholds of all layers in proportion.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ssm_jax import errors
from ssm_jax.core.density import check, check_shares
from ssm_jax.core.rule import Rescaled, State, straight_through


@straight_through
def ternary(scores: jax.Array, threshold: jax.Array) -> jax.Array:
    """Select by sign and size: `+1` above the threshold, `-1` below minus the threshold, else `0`.

    Args:
      scores: Floating point, any shape.
      threshold: A scalar in the units of the scores; below 0 where all weights remain, of which none is
        inverted then whose score is 0.

    Returns:
      The mask, in the scores' shape and dtype.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(ternary(jnp.array([0.5, 0.1, -0.1, -0.5]), jnp.float32(0.1)))
      [ 1.  0.  0. -1.]
    """
    # Two comparisons and a subtraction fuse into one pass over the scores, whatever their number.
    kept = scores > threshold
    inverted = (scores < -threshold) & ~kept
    return kept.astype(scores.dtype) - inverted.astype(scores.dtype)


@straight_through
def above(scores: jax.Array, threshold: jax.Array) -> jax.Array:
    """Select by size: `1` above the threshold, else `0`.

    Args:
      scores: Floating point, any shape.
      threshold: A scalar in the units of the scores.

    Returns:
      The mask, in the scores' shape and dtype.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(above(jnp.array([0.5, 0.1, -0.5]), jnp.float32(0.1)))
      [1. 0. 0.]
    """
    return (scores > threshold).astype(scores.dtype)


@dataclasses.dataclass(frozen=True)
class Threshold(Rescaled):
    """The common part of rules with a fixed threshold.

    Attributes:
      threshold: The share p of the largest initial score, in [0, 1]: 0.4 for the paper's main rows, 0.6 for
        extreme pruning. Where it is not relative, in the units of the scores, at least 0: the paper's authors
        tried 0.01 with the binary mask.
      relative: Whether the threshold is a share.
      density: The share of weights that remain, at most 1, by thresholds that move in training: see
        `ssm_jax.core.density`. 0 leaves the threshold fixed.
      floor: The least share of every layer under a density, at most the density.
      budget: What the density is a share of, a key of `ssm_jax.core.density.BUDGETS`.
      rescale: See `Rescaled`.

    Raises:
      InputError: A setting is out of range.
    """

    threshold: float = 0.4
    relative: bool = True
    density: float = 0.0
    floor: float = 0.0
    budget: str = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.threshold <= (1.0 if self.relative else float("inf")):
            allowed = "0 to 1" if self.relative else "at least 0"
            raise errors.out_of_range("threshold", self.threshold, allowed)
        if self.density != 0.0:
            check(self.density)
        check_shares(self.density, self.floor, self.budget)

    def init(self, scores: jax.Array) -> State:
        """Fix the threshold: `{"threshold": p * max|scores|}`, or what was given; a float scalar.

        Under a density the state also holds what stays: `scale`, of which the threshold is a multiple, and
        `start`, the share of weights that remained at first.
        """
        scale = jnp.max(jnp.abs(scores)) if self.relative else jnp.ones((), scores.dtype)
        threshold = self.threshold * scale
        if not self.density:
            return {"threshold": threshold}
        start = jnp.mean(self.selection_values(scores) > threshold, dtype=scores.dtype)
        return {"threshold": threshold, "scale": scale, "start": start}

    def selection_values(self, scores: jax.Array) -> jax.Array:
        """What has to be above the threshold for a weight to remain, in the shape of the scores."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Signed(Threshold):
    """The signed supermask: keep (+1), hide (0) or invert (-1) every weight.

    Koster et al., "Signing the Supermask: Keep, Hide, Invert" (ICLR 2022).

    Examples:
      >>> import jax.numpy as jnp
      >>> rule = Signed(threshold=0.5)
      >>> scores = jnp.array([0.8, 0.3, -0.6])
      >>> print(rule.mask(scores, rule.init(scores)))
      [ 1.  0. -1.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Compare both signs of the scores with the threshold; the same in training and evaluation."""
        return ternary(scores, state["threshold"])

    def selection_values(self, scores: jax.Array) -> jax.Array:
        """The sizes of the scores."""
        return jnp.abs(scores)


@dataclasses.dataclass(frozen=True)
class Binary(Threshold):
    """The supermask without inversion: keep (1) or hide (0) every weight, an ablation of the paper.

    Examples:
      >>> import jax.numpy as jnp
      >>> rule = Binary(threshold=0.5)
      >>> scores = jnp.array([0.8, 0.3, -0.6])
      >>> print(rule.mask(scores, rule.init(scores)))
      [1. 0. 0.]
    """

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Compare the scores with the threshold; the same in training and evaluation."""
        return above(scores, state["threshold"])

    def selection_values(self, scores: jax.Array) -> jax.Array:
        """The scores."""
        return scores
