"""Rules whose masks have a structure that hardware can use: N of every M weights, or whole blocks.

Which weights remain is told by the sizes of the scores, and by their signs whether they are kept or inverted.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax

from ssm_jax import errors
from ssm_jax.core.blocks import Blocks
from ssm_jax.core.density import check
from ssm_jax.core.rule import Rescaled, State, straight_through
from ssm_jax.core.selection import largest


def n_of_m(scores: jax.Array, n: int, m: int) -> jax.Array:
    """Select the `n` largest in size of every `m` neighbors along the axis of inputs: their signs, else 0.

    Args:
      scores: Floating point, `(..., I, O)`; the last group is smaller where I is no multiple of `m`.
      n: How many are selected; of those that tie the first ones.
      m: How many are neighbors.

    Returns:
      The mask, in the shape and dtype of the scores.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(n_of_m(jnp.array([[0.5], [0.1], [-0.6], [0.2]]), 2, 4).ravel())
      [ 1.  0. -1.  0.]
    """
    *window, inputs, outputs = scores.shape
    groups = -(-inputs // m)
    ends = [(0, 0)] * len(window) + [(0, groups * m - inputs), (0, 0)]
    sizes = jnp.pad(jnp.abs(scores), ends, constant_values=-1)
    sizes = sizes.reshape(*window, groups, m, outputs)
    place = lax.broadcasted_iota(jnp.int32, sizes.shape, sizes.ndim - 2)
    larger = jnp.zeros(sizes.shape, jnp.int32)  # how many neighbors come before each
    for neighbor in range(m):
        its = sizes[..., neighbor : neighbor + 1, :]
        larger += ((its > sizes) | ((its == sizes) & (neighbor < place))).astype(jnp.int32)
    kept = (larger < n).reshape(*window, groups * m, outputs)[..., :inputs, :]
    return jnp.where(kept, _signs(scores), 0).astype(scores.dtype)


def top_blocks(scores: jax.Array, side: int, density: float) -> jax.Array:
    """Select the blocks of the largest mean size: the signs of their scores, elsewhere 0.

    Args:
      scores: Floating point, `(..., I, O)`.
      side: The side of a block of inputs by outputs; those at the ends may be smaller.
      density: The share of blocks that is selected, at least one; those that tie with the last one too.

    Returns:
      The mask, in the shape and dtype of the scores.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(top_blocks(jnp.array([[0.5, 0.1], [-0.6, 0.2]]), 1, 0.5))
      [[ 1.  0.]
       [-1.  0.]]
    """
    *window, inputs, outputs = scores.shape
    rows, columns = -(-inputs // side), -(-outputs // side)

    def sums(values: jax.Array) -> jax.Array:
        widths = [(0, 0)] * len(window) + [(0, rows * side - inputs), (0, columns * side - outputs)]
        return jnp.pad(values, widths).reshape(*window, rows, side, columns, side).sum((-3, -1))

    means = sums(jnp.abs(scores).astype(jnp.float32)) / sums(jnp.ones(scores.shape, jnp.float32))
    kept = largest(means, max(1, round(density * math.prod(means.shape))))
    kept = jnp.repeat(jnp.repeat(kept, side, axis=-2), side, axis=-1)[..., :inputs, :outputs]
    return jnp.where(kept, _signs(scores), 0).astype(scores.dtype)


def _signs(scores: jax.Array) -> jax.Array:
    return jnp.where(scores < 0, -1, 1).astype(scores.dtype)


@dataclasses.dataclass(frozen=True)
class Structured(Rescaled):
    """The common part of rules for which inputs and outputs are not the same.

    Attributes:
      blocks: What the axes of a kernel mean that is not `(..., I, O)`; whoever makes a layer sets it.
      rescale: See `Rescaled`.
    """

    blocks: Blocks | None = dataclasses.field(default=None, kw_only=True)

    def select(self, scores: jax.Array) -> jax.Array:
        """Make the mask of scores `(..., I, O)`."""
        raise NotImplementedError

    def mask(self, scores: jax.Array, state: State, key: jax.Array | None = None) -> jax.Array:
        """Select in the order of inputs and outputs; the same in training and evaluation."""
        select = straight_through(self.select)
        if self.blocks is None:
            return select(scores)
        return self.blocks.assemble(jax.vmap(select)(self.blocks.apart(scores)))


@dataclasses.dataclass(frozen=True)
class NOfM(Structured):
    """N:M sparsity, signed: of every M neighbors along the input axis N remain.

    2:4 is what sparse tensor cores compute. Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural
    Networks From Scratch" (ICLR 2021), train weights so; here scores are.

    Attributes:
      n: N, how many remain, at least 1.
      m: M, how many are neighbors, at least N.
      rescale: See `Rescaled`.

    Raises:
      InputError: A setting is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(NOfM(1, 2).mask(jnp.array([[0.5], [0.1], [-0.6], [0.2]]), {}).ravel())
      [ 1.  0. -1.  0.]
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n <= self.m:
            raise errors.out_of_range("n", self.n, f"1 to m, {self.m}")

    def select(self, scores: jax.Array) -> jax.Array:
        """Select in every group."""
        return n_of_m(scores, self.n, self.m)


@dataclasses.dataclass(frozen=True)
class Tiles(Structured):
    """Block sparsity, signed: whole blocks of inputs by outputs remain, those of the largest scores.

    Attributes:
      density: The share of a layer's blocks that remains, above 0 and at most 1.
      side: The side of a block, at least 1.
      rescale: See `Rescaled`.

    Raises:
      InputError: A setting is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> print(Tiles(density=0.5, side=1).mask(jnp.array([[0.5, 0.1], [-0.6, 0.2]]), {}))
      [[ 1.  0.]
       [-1.  0.]]
    """

    density: float = 0.1
    side: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.density)
        if self.side < 1:
            raise errors.out_of_range("side", self.side, "at least 1")

    def select(self, scores: jax.Array) -> jax.Array:
        """Select blocks."""
        return top_blocks(scores, self.side, self.density)
