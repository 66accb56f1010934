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
    return [_arrays(node, jnp.dtype(network.dtype)) for node in network.nodes]


def _arrays(node: graph.Node, dtype: jnp.dtype) -> Arrays:
    if isinstance(node, (graph.Conv, graph.Dense)):
        return {"kernel": jnp.asarray(node.kernel.dense(), dtype)}
    if isinstance(node, graph.Normalize):
        return {name: jnp.asarray(array, dtype) for name, array in node.arrays().items()}
    if isinstance(node, graph.Offset):
        return {"values": jnp.asarray(node.values)}
    return {}


def apply(network: graph.Network, parameters: Sequence[Arrays], images: jax.Array) -> jax.Array:
    """Compute logits; what the trained network computes, operation for operation.

    Args:
      network: The network.
      parameters: What `parameters` returned for it.
      images: uint8 `[B, H, W, C]`.

    Returns:
      Logits `[B, classes]` in the network's dtype.
    """
    return values(network, parameters, images)[-1]


def values(network: graph.Network, parameters: Sequence[Arrays], images: jax.Array) -> list[jax.Array]:
    """Compute all values of a network, see `apply`: the images, then what every operation makes."""
    dtype = jnp.dtype(network.dtype)
    values = [images.astype(jnp.float32)]
    for node, arrays in zip(network.nodes, parameters, strict=True):
        inputs = (values[i] for i in node.inputs)
        values.append(_RUN[type(node)](node, arrays, dtype, *inputs))
    return values


def _conv(node: graph.Conv, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    return convolve(inputs.astype(dtype), arrays["kernel"], node.stride)


def _dense(node: graph.Dense, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    return inputs.astype(dtype) @ arrays["kernel"]


def _normalize(node: graph.Normalize, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    factor = lax.rsqrt(arrays["variance"] + node.epsilon)
    if "scale" in arrays:
        factor = factor * arrays["scale"]
    outputs = (inputs.astype(dtype) - arrays["mean"]) * factor
    return outputs + arrays["offset"] if "offset" in arrays else outputs


def _offset(node: graph.Offset, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    return inputs + arrays["values"].astype(inputs.dtype)


def _max_pool(node: graph.MaxPool, arrays: Arrays, dtype: Any, inputs: jax.Array) -> jax.Array:
    sides = ((0, 0), (node.padding, node.padding), (node.padding, node.padding), (0, 0))
    lowest = jnp.finfo(inputs.dtype).min
    return max_pool(jnp.pad(inputs, sides, constant_values=lowest), node.window, node.stride)


_RUN: dict[type[graph.Node], Callable[..., jax.Array]] = {
    graph.Standardize: lambda node, arrays, dtype, inputs: standardize(inputs),
    graph.Conv: _conv,
    graph.Dense: _dense,
    graph.Normalize: _normalize,
    graph.Offset: _offset,
    graph.Elu: lambda node, arrays, dtype, inputs: nnx.elu(inputs),
    graph.MaxPool: _max_pool,
    graph.Flatten: lambda node, arrays, dtype, inputs: lax.collapse(inputs, 1),
    graph.Mean: lambda node, arrays, dtype, inputs: inputs.mean((1, 2)),
    graph.Add: lambda node, arrays, dtype, left, right: left + right,
}
