"""How the kernels of Flax's layers are drawn, so that their fans are right whatever axes they have.

The initializers take a kernel `(..., I, O)`. A kernel whose axes have other meanings is made of one or
several such blocks, each drawn by itself: that of a `LinearGeneral` of one matrix of all its inputs by all
its outputs, that of a grouped convolution of one small kernel per group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
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


def _linear(layer: nnx.Linear) -> tuple[tuple[int, ...], Blocks | None]:
    return (layer.in_features, layer.out_features), None


def _linear_general(layer: nnx.LinearGeneral) -> tuple[tuple[int, ...], Blocks | None]:
    groups = tuple(layer.batch_axis.values())
    shape = (*groups, *layer.in_features, *layer.out_features)
    return shape, Blocks.of(
        shape, range(len(groups)), range(len(shape) - len(layer.out_features), len(shape))
    )


def _einsum(layer: nnx.Einsum) -> tuple[tuple[int, ...], Blocks | None]:
    shape = tuple(layer.kernel_shape)
    if layer.einsum_str is None:  # it comes with the call; the convention of all initializers is all there is
        return shape, None
    operands, _, result = layer.einsum_str.replace(" ", "").partition("->")
    inputs, kernel = operands.split(",")
    before, dots, behind = kernel.partition("...")
    axes = {letter: axis for axis, letter in enumerate(before)}
    axes |= {letter: len(shape) - len(behind) + axis for axis, letter in enumerate(behind)}
    made = [axis for letter, axis in axes.items() if letter in result]
    groups = [axis for letter, axis in axes.items() if letter in result and letter in inputs]
    if dots:  # any axes; those that the inputs have too are taken one by one
        (groups if "..." in inputs else made).extend(range(len(before), len(shape) - len(behind)))
    return shape, Blocks.of(shape, groups, [axis for axis in made if axis not in groups])


def _conv(layer: nnx.Conv) -> tuple[tuple[int, ...], Blocks | None]:
    shape, count = tuple(layer.kernel_shape), layer.feature_group_count
    if count == 1:
        return shape, None
    block = (*shape[:-1], shape[-1] // count)
    # The last axis holds one group's outputs after the other's.
    order = (*range(1, len(shape)), 0, len(shape))
    return shape, Blocks(shape, count, block, parts=(count, *block), order=order)


def _conv_transpose(layer: nnx.ConvTranspose) -> tuple[tuple[int, ...], Blocks | None]:
    shape = tuple(layer.kernel_shape)
    if not layer.transpose_kernel:
        return shape, None
    block = (*shape[:-2], shape[-1], shape[-2])
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    return shape, Blocks(shape, 1, block, parts=block, order=order)


# What is known of Flax's layers that have a kernel.
LAYERS: dict[type[nnx.Module], Callable[..., tuple[tuple[int, ...], Blocks | None]]] = {
    nnx.Linear: _linear,
    nnx.LinearGeneral: _linear_general,
    nnx.Einsum: _einsum,
    nnx.Conv: _conv,
    nnx.ConvTranspose: _conv_transpose,
}


def of_layer(layer: nnx.Module) -> tuple[tuple[int, ...], Blocks | None]:
    """Find the shape that a layer's kernel has by its settings, and the blocks in which it is drawn.

    Args:
      layer: An instance of one of `LAYERS`.
    """
    return next(find(layer) for kind, find in LAYERS.items() if isinstance(layer, kind))
