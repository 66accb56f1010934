"""What is known of the kernels of Flax's layers: their shapes, and the blocks in which they are drawn."""

from __future__ import annotations

from collections.abc import Callable

from flax import nnx

from ssm_jax.core.blocks import Blocks


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
    outputs = [axis for letter, axis in axes.items() if letter in result]
    groups = [axis for letter, axis in axes.items() if letter in result and letter in inputs]
    if dots:  # any axes; those that the inputs have too are taken one by one
        (groups if "..." in inputs else outputs).extend(range(len(before), len(shape) - len(behind)))
    return shape, Blocks.of(shape, groups, [axis for axis in outputs if axis not in groups])


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
