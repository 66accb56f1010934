"""A smaller network with equal logits: without what no path from image to logits uses.

A channel is removed that nothing reads, and one whose value is the same for every image: what it contributes
is added as a constant, if that is not 0. Nothing is approximated; sums of fewer terms round differently.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from ssm_jax import graph


def compact(network: graph.Network) -> graph.Network:
    """Remove the units of a network that its logits don't depend on.

    An empty sum is 0, and so is its ELU: without normalization a unit that no weight enters falls away with
    all weights that read it. Behind a normalization it is a constant, and a `graph.Offset` behind its readers
    adds what they made of it: one value a channel or, where SAME padding lets the edges count less, one a
    channel and place. Of values that are added to each other a channel is removed from all or from none. A
    value keeps at least one channel; the image and the logits keep all of theirs.

    Args:
      network: The network; one that is not `plain` stays as it is.

    Returns:
      A network of the same operations, with smaller kernels and with offsets where they are needed. Its
      logits are equal but for rounding. Compacted again it stays as it is.

    Examples:
      >>> first = graph.Kernel(np.int8([[1, 0, 1], [1, 0, 0]]))
      >>> second = graph.Kernel(np.int8([[1, 0], [1, 0], [0, 0]]))
      >>> nodes = (
      ...     graph.Flatten(inputs=(0,)),
      ...     graph.Dense(inputs=(1,), name="first", kernel=first),
      ...     graph.Dense(inputs=(2,), name="second", kernel=second),
      ... )
      >>> made = compact(graph.Network(image_shape=(1, 2, 1), classes=2, nodes=nodes))
      >>> [layer.kernel.shape for layer in made.layers()]
      [(2, 1), (1, 2)]
    """
    if not network.plain:
        return network
    constants = _constants(network)
    channels = _Channels(network)
    channels.need(network, constants)
    nodes: list[graph.Node] = []
    values = [0]  # where a value of the network is among those of the new one
    for i, node in enumerate(network.nodes):
        inputs = tuple(values[j] for j in node.inputs)
        nodes.append(_smaller(node, inputs, channels, i + 1))
        if isinstance(node, (graph.Conv, graph.Dense)):
            offset = _of_removed(node, constants[node.inputs[0]], channels)[..., channels.kept(i + 1)]
            if offset.any():
                nodes.append(graph.Offset(inputs=(len(nodes),), values=_per_channel(offset)))
        values.append(len(nodes))
    return dataclasses.replace(network, nodes=tuple(nodes))


@dataclasses.dataclass(frozen=True)
class _Constant:
    """What is known of a value: `known`, bool `[C]`, and `values` of its shape, 0 where that is nothing."""

    known: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, known: np.ndarray, values: np.ndarray) -> _Constant:
        return cls(known, np.where(known, values, np.float32(0)).astype(np.float32))


def _constants(network: graph.Network) -> list[_Constant]:
    """Of every value, the channels that are the same for all images."""
    constants: list[_Constant] = []
    for shape, node in zip(network.shapes(), (None, *network.nodes), strict=True):
        if node is None or isinstance(node, graph.Standardize):
            constants.append(_Constant(np.zeros(shape[-1], bool), np.zeros(shape, np.float32)))
            continue
        inputs = [constants[i] for i in node.inputs]
        if isinstance(node, (graph.Conv, graph.Dense)):
            known = ~_read(node)[~inputs[0].known].any(0)
        elif isinstance(node, graph.Flatten):
            known = np.broadcast_to(inputs[0].known, inputs[0].values.shape).reshape(-1)
        else:
            known = np.logical_and.reduce([given.known for given in inputs])
        constants.append(_Constant.of(known, _apply(node, [given.values for given in inputs])))
    return constants


def _read(node: graph.Conv | graph.Dense) -> np.ndarray:
    """Whether an input is read by an output, bool `[I, O]`."""
    return (node.kernel.values != 0).any(tuple(range(node.kernel.values.ndim - 2)))


def _apply(node: graph.Node, values: Sequence[np.ndarray]) -> np.ndarray:
    """What an operation makes of constants; what is 0 because it is not known makes no difference."""
    (value, *others) = values
    match node:
        case graph.Conv() | graph.Dense():
            return _layer(node, value)
        case graph.Normalize():
            factor = 1 / np.sqrt(node.variance + np.float32(node.epsilon))
            factor = factor if node.scale is None else factor * node.scale
            return (value - node.mean) * factor + (0 if node.offset is None else node.offset)
        case graph.Offset():
            return value + node.values
        case graph.Elu():
            return np.where(value > 0, value, np.expm1(np.minimum(value, 0)))
        case graph.MaxPool():
            return _max_pool(node, value)
        case graph.Flatten():
            return value.reshape(-1)
        case graph.Mean():
            return value.mean((0, 1))
        case graph.Add():
            return value + others[0]
    raise AssertionError(node)


def _layer(node: graph.Conv | graph.Dense, value: np.ndarray) -> np.ndarray:
    """The outputs for one input, of which most channels are 0."""
    some = value.any(tuple(range(value.ndim - 1)))
    kernel = node.kernel.values[..., some, :].astype(np.float32) * node.kernel.scale
    if isinstance(node, graph.Dense):
        return value[some] @ kernel
    side, outputs = kernel.shape[0], np.zeros(node.shape(value.shape), np.float32)
    padded = np.pad(value[..., some], [*node.padding(value.shape), (0, 0)])
    for row in range(side):
        for column in range(side):
            outputs += _places(padded, row, column, node.stride, outputs.shape) @ kernel[row, column]
    return outputs


def _max_pool(node: graph.MaxPool, value: np.ndarray) -> np.ndarray:
    sides = ((node.padding, node.padding), (node.padding, node.padding), (0, 0))
    padded = np.pad(value, sides, constant_values=np.finfo(np.float32).min)
    shape = node.shape(value.shape)
    places = (
        _places(padded, i, j, node.stride, shape) for i in range(node.window) for j in range(node.window)
    )
    return functools.reduce(np.maximum, places)


def _places(padded: np.ndarray, row: int, column: int, stride: int, shape: graph.Shape) -> np.ndarray:
    """What one position of a window meets, `[H, W, I]` of the output's H and W."""
    height, width = ((side - 1) * stride + 1 for side in shape[:2])
    return padded[row : row + height : stride, column : column + width : stride]


class _Channels:
    """Which channels of every value stay.

    Values without a layer between them share theirs: they have one label. Flattened, they repeat them; the
    channels of a label are as many as its `periods` says.
    """

    def __init__(self, network: graph.Network) -> None:
        self.sizes = [shape[-1] for shape in network.shapes()]
        self.labels = [0]
        for i, node in enumerate(network.nodes):
            if isinstance(node, (graph.Conv, graph.Dense)):
                self.labels.append(i + 1)
                continue
            first, *others = (self.labels[j] for j in node.inputs)
            self.labels = [first if label in others else label for label in self.labels]
            self.labels.append(first)
        self.periods = dict.fromkeys(self.labels, 0)
        for label, size in zip(self.labels, self.sizes, strict=True):
            self.periods[label] = math.gcd(self.periods[label], size)
        self.needed = {label: np.zeros(period, bool) for label, period in self.periods.items()}
        for label in (self.labels[0], self.labels[-1]):
            self.needed[label][:] = True

    def need(self, network: graph.Network, constants: Sequence[_Constant]) -> None:
        """Find what the logits depend on, from them backwards."""
        readers: dict[int, list[tuple[int, int, np.ndarray, np.ndarray]]] = {}  # by the label of their result
        for i, node in enumerate(network.nodes):
            if isinstance(node, (graph.Conv, graph.Dense)):
                read = _read(node) & ~constants[node.inputs[0]].known[:, None]
                reader = node.inputs[0], i + 1, read, np.zeros(read.shape[1], bool)
                readers.setdefault(self.labels[i + 1], []).append(reader)
        # A residual network reads a label's channels and writes to them again: until there is no news. Every
        # output is looked at once.
        news = [self.labels[0], self.labels[-1]]
        while news:
            for value, result, read, seen in reversed(readers.get(news.pop(), [])):
                label, new = self.labels[value], self.of(self.needed, result) & ~seen
                seen |= new
                reads = read[:, new].any(1).reshape(-1, self.periods[label]).any(0)
                if (reads & ~self.needed[label]).any():
                    self.needed[label] = self.needed[label] | reads
                    news.append(label)

    def of(self, table: dict[int, np.ndarray], value: int) -> np.ndarray:
        """What a table says of a value's channels."""
        label = self.labels[value]
        return np.tile(table[label], self.sizes[value] // self.periods[label])

    def used(self, value: int) -> np.ndarray:
        """Whether a channel of a value has a meaning, bool `[C]`."""
        return self.of(self.needed, value)

    def kept(self, value: int) -> np.ndarray:
        """Numbers of the channels of a value that stay; where none is used, the first, without a meaning."""
        needed = self.needed[self.labels[value]]
        first = np.arange(len(needed)) == 0
        return np.flatnonzero(self.of({self.labels[value]: needed if needed.any() else first}, value))


def _of_removed(node: graph.Conv | graph.Dense, constant: _Constant, channels: _Channels) -> np.ndarray:
    """What the channels that don't stay contribute to a layer's outputs."""
    removed = ~channels.used(node.inputs[0])
    return _layer(node, np.where(removed, constant.values, np.float32(0)))


def _per_channel(offset: np.ndarray) -> np.ndarray:
    """One value a channel, if it is the same everywhere."""
    places = offset.reshape(-1, offset.shape[-1])
    return places[0] if (places == places[0]).all() else offset


def _smaller(node: graph.Node, inputs: tuple[int, ...], channels: _Channels, value: int) -> graph.Node:
    """The operation on the channels that stay."""
    kept = channels.kept(value)
    if isinstance(node, (graph.Conv, graph.Dense)):
        used = channels.used(node.inputs[0])[:, None] & channels.used(value)
        values = np.where(used, node.kernel.values, node.kernel.values.dtype.type(0))
        values = np.ascontiguousarray(values[..., channels.kept(node.inputs[0]), :][..., kept])
        return dataclasses.replace(node, inputs=inputs, kernel=graph.Kernel(values, node.kernel.scale))
    if isinstance(node, graph.Normalize):
        arrays = {name: array[kept] for name, array in node.arrays().items()}
        return dataclasses.replace(node, inputs=inputs, **arrays)
    if isinstance(node, graph.Offset):
        return dataclasses.replace(node, inputs=inputs, values=node.values[..., kept])
    return dataclasses.replace(node, inputs=inputs)
