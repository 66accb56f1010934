"""Which weights of a whole network lie on a path from its input to its output.

A weight that remains does nothing where no other leads to it, or none leads on. What is reached is followed
forwards and what is needed backwards, place by place and channel by channel, over the network's operations:
numbers that are 0 or 1 go through the linear part of each, and their gradient back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ssm_jax import graph
from ssm_jax.analysis.masks import Masks
from ssm_jax.artifact import run


def connected(masks: Masks, network: graph.Network) -> dict[str, np.ndarray]:
    """Hide every weight that lies on no path from the image to a logit.

    Without offsets of normalizations the network computes what it computed before: a unit that nothing
    reaches is 0, and so is what ELU makes of it.

    Args:
      masks: The masks of a network by layer.
      network: The operations of a network with these layers, see `ssm_jax.graph.trace`; its kernels are those
        of the layers that have no mask.

    Returns:
      The masks of the same layers, in the same dtypes.
    """
    remaining = {name: jnp.asarray(mask != 0, jnp.float32) for name, mask in masks.items()}
    outputs, pull = jax.vjp(lambda remaining: _reached(network, remaining), remaining)
    (paths,) = pull(jnp.ones_like(outputs))
    return {name: np.where(np.asarray(paths[name]) > 0, mask, 0) for name, mask in masks.items()}


def _reached(network: graph.Network, kernels: dict[str, jax.Array]) -> jax.Array:
    values = [jnp.ones((1, *network.image_shape))]
    own = {layer.name: jnp.asarray(layer.kernel.values != 0, jnp.float32) for layer in network.layers()}
    kernels = own | kernels
    for node in network.nodes:
        inputs = [values[i] for i in node.inputs]
        values.append(_there(_LINEAR.get(type(node), _as_it_is)(node, kernels, *inputs)))
    return values[-1]


@jax.custom_vjp
def _there(values: jax.Array) -> jax.Array:
    """1 where a value is above 0, else 0; and so back."""
    return (values > 0).astype(values.dtype)


_there.defvjp(lambda values: (_there(values), None), lambda _, needed: (_there(needed),))


def _same(node: graph.Node, kernels: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return inputs


def _sum(node: graph.Node, kernels: dict[str, jax.Array], *inputs: jax.Array) -> jax.Array:
    return functools.reduce(jnp.add, inputs)


def _summed(node: Any, kernels: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return _as_it_is(dataclasses.replace(node, function="sum"), kernels, inputs)


def _as_it_is(node: graph.Node, kernels: dict[str, jax.Array], *inputs: jax.Array) -> jax.Array:
    """What is linear, and has no negative number."""
    return run.COMPUTE[type(node)](node, {}, jnp.float32, *inputs)


def _nothing(node: graph.Constant, kernels: dict[str, jax.Array]) -> jax.Array:
    return jnp.zeros((1, *node.values.shape))


def _everything(node: graph.Embed, kernels: dict[str, jax.Array], inputs: jax.Array) -> jax.Array:
    return jnp.ones((*inputs.shape, node.kernel.shape[1]))


def _convolution(
    node: graph.Conv | graph.Convolution, kernels: dict[str, jax.Array], inputs: jax.Array
) -> jax.Array:
    whole = node.general(inputs.shape[1:])
    return run.COMPUTE[graph.Convolution](whole, {"kernel": kernels[node.name]}, jnp.float32, inputs)


_LINEAR: dict[type[graph.Node], Callable[..., jax.Array]] = {
    graph.Standardize: _same,
    graph.Conv: _convolution,
    graph.Dense: lambda node, kernels, inputs: inputs @ kernels[node.name],
    graph.Normalize: _same,
    graph.Offset: _same,
    graph.Elu: _same,
    graph.MaxPool: lambda node, kernels, inputs: _summed(node.general(), kernels, inputs),
    graph.Flatten: lambda node, kernels, inputs: lax.collapse(inputs, 1),
    graph.Mean: lambda node, kernels, inputs: inputs.sum((1, 2)),
    graph.Add: _sum,
    graph.Constant: _nothing,
    graph.Unary: _same,
    graph.Binary: _sum,
    graph.Select: _sum,
    graph.Cast: _same,
    graph.Pad: lambda node, kernels, inputs: _as_it_is(dataclasses.replace(node, value=0.0), kernels, inputs),
    graph.Reduce: _summed,
    graph.Pool: _summed,
    graph.Convolution: _convolution,
    graph.Embed: _everything,
}
