"""Networks of plain data, run by JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from ssm_jax import graph
from ssm_jax.data.batches import standardize
from ssm_jax.nn.convolution import convolve
from ssm_jax.nn.pooling import max_pool

# The arrays of one node, by name.
Arrays = dict[str, jax.Array]


def parameters(network: graph.Network) -> list[Arrays]:
    """Put the arrays of a network onto the device, one entry a node; kernels in the compute dtype.

    Args:
      network: The network.
    """
    dtype, arrays = jnp.dtype(network.dtype), list[Arrays]()
    for node in network.nodes:
        kernel = {"kernel": jnp.asarray(node.kernel.dense(), dtype)} if isinstance(node, graph.Layer) else {}
        cast = dtype if isinstance(node, graph.Normalize) else None
        arrays.append(kernel | {name: jnp.asarray(array, cast) for name, array in node.arrays().items()})
    return arrays


def apply(network: graph.Network, parameters: Sequence[Arrays], images: jax.Array) -> jax.Array:
    """Compute logits; what the trained network computes, operation for operation.

    Args:
      network: The network.
      parameters: What `parameters` returned for it.
      images: Inputs with their batch, such as uint8 `[B, H, W, C]`.

    Returns:
      Logits `[B, ..., classes]` in the network's dtype.
    """
    return values(network, parameters, images)[-1]


def values(network: graph.Network, parameters: Sequence[Arrays], images: jax.Array) -> list[jax.Array]:
    """Compute all values of a network, see `apply`: the images, then what every operation makes."""
    dtype = jnp.dtype(network.dtype)
    values = [images if network.image_dtype == "int32" else images.astype(jnp.float32)]
    for node, arrays in zip(network.nodes, parameters, strict=True):
        inputs = (values[i] for i in node.inputs)
        values.append(COMPUTE[type(node)](node, arrays, dtype, *inputs))
    return values


def _normalize(node: graph.Normalize, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    factor = lax.rsqrt(arrays["variance"] + node.epsilon)
    if "scale" in arrays:
        factor = factor * arrays["scale"]
    outputs = (inputs.astype(dtype) - arrays["mean"]) * factor
    return outputs + arrays["offset"] if "offset" in arrays else outputs


def _max_pool(node: graph.MaxPool, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    sides, lowest = ((node.padding, node.padding),) * 2, jnp.finfo(inputs.dtype).min
    padded = jnp.pad(inputs, ((0, 0), *sides, (0, 0)), constant_values=lowest)
    return max_pool(padded, node.window, node.stride)


def _element(node: graph.Unary | graph.Binary, arrays: Arrays, dtype: Any, *inputs: jax.Array) -> jax.Array:
    operands = jnp.broadcast_arrays(*inputs)
    if node.function == "round":
        return jnp.round(operands[0])
    logic = {"and": "bitwise_and", "or": "bitwise_or", "not": "bitwise_not"}
    return getattr(lax, logic.get(node.function, node.function))(*operands)


def _concatenate(node: graph.Concatenate, arrays: Arrays, dtype: Any, *inputs: jax.Array) -> jax.Array:
    batch = next((each.shape[0] for each in inputs if each.shape[0] != 1), 1)  # that of constants is 1
    return jnp.concatenate(
        [jnp.broadcast_to(each, (batch, *each.shape[1:])) for each in inputs], node.axis + 1
    )


_POOLS: dict[str, tuple[float, Any]] = {
    "sum": (0.0, lax.add),
    "max": (-jnp.inf, lax.max),
    "min": (jnp.inf, lax.min),
}


def _pool(node: graph.Pool, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    first, combine = _POOLS[node.function]
    sides, start = ((0, 0), *zip(node.low, node.high)), jnp.asarray(first, inputs.dtype)
    return lax.reduce_window(inputs, start, combine, (1, *node.window), (1, *node.stride), sides)


def _convolution(node: graph.Convolution, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    last = inputs.ndim - 1
    places, sides = tuple(range(1, last)), tuple(range(last - 1))
    return lax.conv_general_dilated(
        inputs.astype(dtype),
        arrays["kernel"],
        node.stride,
        list(zip(node.low, node.high)),
        node.spread,
        node.dilation,
        lax.ConvDimensionNumbers((0, last, *places), (last, last - 1, *sides), (0, last, *places)),
        node.groups,
    )


# Of an operation, its arrays, the network's dtype and what it takes.
COMPUTE: dict[type[graph.Node], Callable[..., jax.Array]] = {
    graph.Standardize: lambda node, arrays, dtype, x: standardize(x),
    graph.Conv: lambda node, arrays, dtype, x: convolve(x.astype(dtype), arrays["kernel"], node.stride),
    graph.Convolution: _convolution,
    graph.Dense: lambda node, arrays, dtype, x: x.astype(dtype) @ arrays["kernel"],
    graph.Product: lambda node, arrays, dtype, left, right: left @ right,
    graph.Embed: lambda node, arrays, dtype, x: arrays["kernel"].at[x].get(mode="clip"),
    graph.Normalize: _normalize,
    graph.Offset: lambda node, arrays, dtype, x: x + arrays["values"].astype(x.dtype),
    graph.Elu: lambda node, arrays, dtype, x: nnx.elu(x),
    graph.MaxPool: _max_pool,
    graph.Pool: _pool,
    graph.Flatten: lambda node, arrays, dtype, x: lax.collapse(x, 1),
    graph.Mean: lambda node, arrays, dtype, x: x.mean((1, 2)),
    graph.Add: lambda node, arrays, dtype, left, right: left + right,
    graph.Constant: lambda node, arrays, dtype: arrays["values"][None],
    graph.Unary: _element,
    graph.Binary: _element,
    graph.Select: lambda node, arrays, dtype, condition, yes, no: jnp.where(condition, yes, no),
    graph.Cast: lambda node, arrays, dtype, x: x.astype(node.dtype),
    graph.Reshape: lambda node, arrays, dtype, x: x.reshape((x.shape[0], *node.sizes)),
    graph.Broadcast: lambda node, arrays, dtype, x: jnp.broadcast_to(x, (x.shape[0], *node.sizes)),
    graph.Transpose: lambda node, arrays, dtype, x: x.transpose((0, *(axis + 1 for axis in node.axes))),
    graph.Slice: lambda node, arrays, dtype, x: x[:, *map(slice, node.start, node.stop, node.step)],
    graph.Pad: lambda node, arrays, dtype, x: jnp.pad(
        x, ((0, 0), *zip(node.low, node.high)), constant_values=node.value
    ),
    graph.Concatenate: _concatenate,
    graph.Reduce: lambda node, arrays, dtype, x: getattr(jnp, node.function)(
        x, axis=tuple(axis + 1 for axis in node.axes)
    ),
}
