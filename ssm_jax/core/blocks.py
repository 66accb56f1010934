"""Kernels whose axes have other meanings than `(..., I, O)`, so that their fans are right.

The initializers take a kernel `(..., I, O)`. Any other is made of one or several such blocks, each drawn by
itself: a projection of attention of one matrix of all its inputs by all its outputs, a grouped convolution of
one small kernel per group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ssm_jax.core.initializers import Initializer, SignedConstant


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A kernel as equal blocks.

    Attributes:
      kernel: The kernel's shape.
      count: The number of blocks.
      block: The shape in which a block is drawn, `(..., I, O)`.
      parts: The shape of all blocks with every axis apart: those of the blocks, the inputs, the outputs.
      order: The axes of `parts` in the kernel's order; neighbors that make one axis of the kernel are merged.

    Examples:
      >>> import numpy as np
      >>> two = Blocks(kernel=(3, 4), count=2, block=(3, 2), parts=(2, 3, 2), order=(1, 0, 2))
      >>> print(two.assemble(np.stack([np.full((3, 2), 1), np.full((3, 2), 2)])))
      [[1 1 2 2]
       [1 1 2 2]
       [1 1 2 2]]
    """

    kernel: tuple[int, ...]
    count: int
    block: tuple[int, ...]
    parts: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], groups: Sequence[int], outputs: Sequence[int]) -> Blocks:
        """Tell the axes of a kernel apart; each of its blocks is a matrix.

        Args:
          shape: The kernel's shape.
          groups: Its axes that are neither summed over nor made, one block each.
          outputs: Its axes that are made; the others are summed over, the inputs.
        """
        inputs = [axis for axis in range(len(shape)) if axis not in {*groups, *outputs}]
        axes = [*groups, *inputs, *outputs]
        sizes = [math.prod(shape[axis] for axis in some) for some in (groups, inputs, outputs)]
        return cls(
            kernel=tuple(shape),
            count=sizes[0],
            block=(sizes[1], sizes[2]),
            parts=tuple(shape[axis] for axis in axes),
            order=tuple(int(place) for place in np.argsort(axes)),
        )

    def assemble(self, blocks: jax.Array) -> jax.Array:
        """Make the kernel of its blocks `[count, *block]`."""
        return blocks.reshape(self.parts).transpose(self.order).reshape(self.kernel)

    def apart(self, kernel: jax.Array) -> jax.Array:
        """Take a kernel apart into its blocks `[count, *block]`: what `assemble` undoes."""
        parts = kernel.reshape([self.parts[place] for place in self.order])
        return parts.transpose([*np.argsort(self.order)]).reshape(self.count, *self.block)

    def draw(self, init: Callable[..., jax.Array], key: jax.Array) -> jax.Array:
        """Draw every block by a function `(key, shape)` and make the kernel of them."""
        if self.count == 1:
            return self.assemble(init(key, self.block)[None])
        return self.assemble(jax.vmap(lambda key: init(key, self.block))(jax.random.split(key, self.count)))


@dataclasses.dataclass(frozen=True)
class _InBlocks:
    """An initializer that draws a kernel in blocks."""

    init: Initializer
    blocks: Blocks

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return self.blocks.draw(lambda key, block: self.init(key, block, dtype), key)


@dataclasses.dataclass(frozen=True)
class _SignedConstantInBlocks(SignedConstant):
    """The same of a signed constant; it stays one, of the blocks' fans."""

    blocks: Blocks = dataclasses.field(kw_only=True)

    def signs(self, key: jax.Array, shape: Sequence[int]) -> jax.Array:
        return self.blocks.draw(super().signs, key)

    def constant(self, shape: Sequence[int]) -> jax.Array:
        return super().constant(self.blocks.block)


def in_blocks(init: Initializer, blocks: Blocks | None) -> Initializer:
    """Make an initializer draw a kernel in blocks.

    Args:
      init: An initializer of kernels `(..., I, O)`.
      blocks: The kernel's blocks; None where the kernel is one of these itself.
    """
    if blocks is None:
        return init
    if isinstance(init, SignedConstant):
        return _SignedConstantInBlocks(init.scale, init.mode, blocks=blocks)
    return _InBlocks(init, blocks)
