"""What a network may take of a machine: a file of a few bytes must not keep it busy or fill its memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssm_jax import errors, graph

# More than any network here takes. Of one image: multiply-adds and comparisons, and what one convolution
# reads, its windows side by side. Of all layers: positions in windows of convolutions, which are steps of a
# program, and in those of pools, which are code. Of a kernel: its side.
MOST_WORK = 2**34
MOST_WINDOWS = 2**26
MOST_CONV_POSITIONS = 2**16
MOST_POOL_POSITIONS = 2**8
MOST_SIDE = 64


class Cost(NamedTuple):
    """What an operation takes for one image, see `MOST_WORK` and the others."""

    work: int = 0
    windows: int = 0
    conv_positions: int = 0
    pool_positions: int = 0


def cost(node: graph.Node, shape: graph.Shape, result: graph.Shape) -> Cost:
    """Say what an operation takes.

    Args:
      node: The operation.
      shape: Shape of the value that it takes.
      result: Shape of the value that it makes.
    """
    match node:
        case graph.Conv() | graph.Convolution():
            *window, channels, units = node.kernel.shape
            places = math.prod(result[:-1]) * math.prod(window)
            reads = places * channels * node.general(shape).groups
            return Cost(places * channels * units, reads, conv_positions=math.prod(window))
        case graph.Dense() | graph.Product():
            return Cost(math.prod(shape) * result[-1])
        case graph.Pool() | graph.MaxPool():
            positions = math.prod(node.general().window)
            return Cost(math.prod(result) * positions, pool_positions=positions)
    return Cost(max(math.prod(shape), math.prod(result)))


def check(network: graph.Network) -> None:
    """Check that computing a network is no more than any machine does.

    Args:
      network: The network.

    Raises:
      InputError: It takes too much, or holds numbers with which it computes nothing.
    """
    shapes, work, conv_positions, pool_positions = network.shapes(), 0, 0, 0
    for number, node in enumerate(network.nodes):
        _check_numbers(node, number)
        if isinstance(node, (graph.Conv, graph.Convolution)):
            side = max(node.kernel.shape[:-2], default=1)
            if side > MOST_SIDE:
                raise errors.out_of_range(f"the side of {node.name}'s kernel", side, f"1 to {MOST_SIDE}")
        taken = cost(node, _given(node, shapes), shapes[number + 1])
        work += taken.work
        conv_positions += taken.conv_positions
        pool_positions += taken.pool_positions
        for what, count, most in (
            ("multiply-adds and comparisons for one image", work, MOST_WORK),
            ("elements of a convolution's windows", taken.windows, MOST_WINDOWS),
            ("positions in windows of convolutions", conv_positions, MOST_CONV_POSITIONS),
            ("positions in windows of pools", pool_positions, MOST_POOL_POSITIONS),
        ):
            if count > most:
                raise errors.InputError(
                    f"the network takes {count:,} {what} up to operation {number}; allowed are {most:,}"
                )


def live(network: graph.Network) -> int:
    """Count the elements that are needed at the same time for one image: values and a convolution's windows.

    Args:
      network: The network.
    """
    shapes = network.shapes()
    last = list(range(len(shapes)))  # the operation behind which a value is needed no more
    for number, node in enumerate(network.nodes):
        for value in node.inputs:
            last[value] = number + 1
    sizes, most, now = [math.prod(shape) for shape in shapes], 0, math.prod(shapes[0])
    for number, node in enumerate(network.nodes):
        now += sizes[number + 1]
        most = max(most, now + cost(node, _given(node, shapes), shapes[number + 1]).windows)
        now -= sum(sizes[value] for value in {*node.inputs, number + 1} if last[value] == number + 1)
    return most


def _given(node: graph.Node, shapes: Sequence[graph.Shape]) -> graph.Shape:
    return shapes[node.inputs[0]] if node.inputs else ()


def _check_numbers(node: graph.Node, number: int) -> None:
    arrays = node.arrays()
    if isinstance(node, graph.Layer):
        arrays = {"kernel": node.kernel.values, "scale": np.asarray(node.kernel.scale)}
    elif isinstance(node, graph.Normalize):
        # Below the least normal number a processor may take it for 0.
        added = node.variance.astype(np.float32) + np.float32(node.epsilon)
        if not (added >= np.finfo(np.float32).tiny).all():
            raise errors.wrong_value(f"node {number}.variance + epsilon", float(np.min(added)), "above 0")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise errors.InputError(f"node {number}.{name} holds numbers that are not finite")
