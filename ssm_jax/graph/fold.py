"""A network of fewer operations: normalizations, factors and offsets are folded into the layer before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ssm_jax.graph.elementary import Binary, Constant, Normalize, Offset
from ssm_jax.graph.network import Network, used
from ssm_jax.graph.operations import Kernel, Linear, Node, Shape


def fold(network: Network) -> Network:
    """Put what is one factor and one offset a channel into the layer before it.

    A float32 kernel takes any factors; one of whole numbers takes what is the same for all its channels, and
    else stays as it is, for whole numbers are what keeps it small.

    Args:
      network: The network.

    Returns:
      A network with logits that are equal but for rounding, and as many operations or fewer.
    """
    if network.dtype != "float32":
        return network  # a normalization that rounds would round elsewhere
    users, shapes = network.readers(), network.shapes()
    folded: dict[int, tuple[Node, np.ndarray]] = {}
    within: dict[int, int] = {}  # the layer that an operation becomes part of
    for number, node in enumerate(network.nodes):
        if isinstance(node, Linear):
            chain, factors, offsets = _chain(network, users, shapes, number)
            scaled = _scaled(node, factors) if chain else None
            if scaled is not None and np.isfinite(offsets).all():
                folded[number] = scaled, offsets.astype(np.float32)
                within |= dict.fromkeys(chain, number)
    nodes, values = list[Node](), [0]  # where a value of the network is among those of the new one
    for number, node in enumerate(network.nodes):
        if number in within:
            values.append(values[within[number] + 1])
            continue
        scaled, offsets = folded.get(number, (node, np.zeros(0)))
        nodes.append(dataclasses.replace(scaled, inputs=tuple(values[i] for i in node.inputs)))
        if offsets.any():
            nodes.append(Offset(inputs=(len(nodes),), values=offsets))
        values.append(len(nodes))
    return dataclasses.replace(network, nodes=used(nodes, values[-1]))


def _chain(
    network: Network, users: Sequence[Sequence[int]], shapes: Sequence[Shape], number: int
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The operations behind a layer that are a factor and an offset a channel, and what they are together."""
    chain, value, channels = list[int](), number + 1, shapes[number + 1][-1]
    factors, offsets = np.ones(channels), np.zeros(channels)
    layer = network.nodes[number]
    assert isinstance(layer, Linear)
    whole = layer.kernel.whole
    while len(users[value]) == 1:
        (following,) = users[value]
        affine = _affine(network, following, value, shapes, whole)
        if affine is None:
            break
        factors, offsets = factors * affine[0], offsets * affine[0] + affine[1]
        chain.append(following)
        value = following + 1
    return chain, factors, offsets


def _affine(
    network: Network, number: int, value: int, shapes: Sequence[Shape], whole: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """The factors and offsets `[C]` of an operation on a value; None of one that is another.

    Where numbers must stay `whole`, factors are one number whatever channels there are.
    """
    node = network.nodes[number]
    channels = shapes[value][-1]
    ones, nothing = np.ones(channels), np.zeros(channels)
    match node:
        case Offset() if node.values.ndim == 1:
            return ones, node.values.astype(np.float64)
        case Normalize() if not whole:
            return node.affine()
        case Binary(function="add" | "sub" | "mul" | "div"):
            first, second = node.inputs
            operand = network.nodes[(second if first == value else first) - 1]
            if not isinstance(operand, Constant) or shapes[number + 1] != shapes[value]:
                return None
            if max(operand.values.shape[:-1], default=1) > 1 or (whole and operand.values.size > 1):
                return None
            number_of = np.broadcast_to(operand.values.astype(np.float64).reshape(-1), (channels,))
            match node.function, first == value:
                case "mul", _:
                    return number_of, nothing
                case "div", True if number_of.all():
                    return 1 / number_of, nothing
                case "add", _:
                    return ones, number_of
                case "sub", True:
                    return ones, -number_of
                case "sub", False:
                    return -ones, number_of
    return None


def _scaled(layer: Linear, factors: np.ndarray) -> Node | None:
    """The layer with factors; None of one whose numbers would not be finite."""
    kernel = layer.kernel
    if kernel.whole:
        kernel = Kernel(kernel.values, np.float32(kernel.scale * factors[0]))
    else:
        kernel = Kernel((kernel.values * factors).astype(np.float32))
    finite = np.isfinite(kernel.values).all() and np.isfinite(kernel.scale)
    return dataclasses.replace(layer, kernel=kernel) if finite else None
