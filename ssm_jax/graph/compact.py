"""A smaller network with equal logits: without what no path from image to logits uses.

A channel is removed that nothing reads, and one whose value is the same for every image: what it contributes
is added as a constant, if that is not 0. Nothing is approximated; sums of fewer terms round differently.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from ssm_jax import graph
from ssm_jax.graph.fold import fold


def compact(network: graph.Network) -> graph.Network:
    """Remove the units of a network that its logits don't depend on.

    An empty sum is 0, and so is its ELU: without normalization a unit that no weight enters falls away with
    all weights that read it. Behind a normalization it is a constant, and a `graph.Offset` behind its readers
    adds what they made of it: one value a channel or, where SAME padding lets the edges count less, one a
    channel and place. Of values that are added to each other a channel is removed from all or from none. A
    value keeps at least one channel; the image and the logits keep all of theirs.

    Args:
      network: The network. Operations that mix channels, such as a product of two values, need all of theirs.

    Returns:
      A network with factors and offsets in the layers before them, see `graph.fold`, smaller kernels, and
      offsets where they are needed. Its
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
    constants = _constants(network)
    channels = _Channels(network)
    channels.need(network, constants)
    nodes: list[graph.Node] = []
    values = [0]  # where a value of the network is among those of the new one
    for i, node in enumerate(network.nodes):
        inputs = tuple(values[j] for j in node.inputs)
        nodes.append(_smaller(node, inputs, channels, i + 1))
        if _is_layer(node):
            offset = _of_removed(node, constants[node.inputs[0]], channels)[..., channels.kept(i + 1)]
            if offset.any():
                nodes.append(graph.Offset(inputs=(len(nodes),), values=_per_channel(offset)))
        values.append(len(nodes))
    return fold(dataclasses.replace(network, nodes=tuple(nodes)))


@dataclasses.dataclass(frozen=True)
class _Constant:
    """What is known of a value: `known`, bool `[C]`, and `values` of its shape, 0 where that is nothing."""

    known: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, known: np.ndarray, values: np.ndarray) -> _Constant:
        return cls(known, np.where(known, values, np.float32(0)).astype(np.float32))

    @classmethod
    def nothing(cls, shape: graph.Shape) -> _Constant:
        return cls(np.zeros(shape[-1:], bool), np.zeros(shape, np.float32))


def _constants(network: graph.Network) -> list[_Constant]:
    """Of every value, the channels that are the same for all images."""
    shapes = network.shapes()
    constants = [_Constant.nothing(shapes[0])]
    for shape, node in zip(shapes[1:], network.nodes, strict=True):
        inputs = [constants[i] for i in node.inputs]
        if isinstance(node, graph.Constant):
            constants.append(_Constant.of(np.ones(shape[-1:], bool), node.values))
            continue
        kept = _is_layer(node) or _keeps(node, [shapes[i] for i in node.inputs], shape)
        known_function = getattr(node, "function", None) in (None, *_FUNCTIONS)
        if not (kept and known_function and type(node) in _COMPUTE):
            constants.append(_Constant.nothing(shape))
            continue
        if _is_layer(node):
            known = ~_read(node)[~inputs[0].known].any(0)
        elif isinstance(node, graph.Flatten):
            known = np.broadcast_to(inputs[0].known, inputs[0].values.shape).reshape(-1)
        else:
            known = np.logical_and.reduce([np.broadcast_to(one.known, shape[-1:]) for one in inputs])
        with np.errstate(all="ignore"):  # of what is not known and nothing else
            values = _COMPUTE[type(node)](node, *(one.values for one in inputs))
        finite = np.isfinite(values).all(tuple(range(values.ndim - 1)))
        constants.append(_Constant.of(known & finite, np.broadcast_to(values, shape)))
    return constants


def _is_layer(node: graph.Node) -> TypeGuard[graph.Conv | graph.Dense | graph.Convolution]:
    """Whether an output of an operation reads what its kernel says; groups are not told apart."""
    plain = not isinstance(node, graph.Convolution) or (node.groups == 1 and {*node.spread} == {1})
    return isinstance(node, graph.Linear) and plain


def _keeps(node: graph.Node, inputs: Sequence[graph.Shape], result: graph.Shape) -> bool:
    """Whether a channel of the result is made of that channel of the inputs, or of one that all share."""
    channels = {shape[-1] if shape else 1 for shape in (*inputs, result)}
    last = len(inputs[0]) - 1 if inputs else 0
    match node:
        case graph.Unary() | graph.Cast() | graph.Elu() | graph.Normalize() | graph.Offset():
            return True
        case graph.Standardize() | graph.MaxPool() | graph.Mean() | graph.Flatten():
            return bool(result) and bool(inputs[0])
        case graph.Add() | graph.Binary() | graph.Select():
            return bool(result) and channels <= {1, result[-1]}
        case graph.Pool():
            return (node.window[-1], node.low[-1], node.high[-1]) == (1, 0, 0) and len(channels) == 1
        case graph.Reduce():
            return last not in node.axes
        case graph.Transpose():
            return node.axes[-1] == last
        case graph.Pad():
            return (node.low[-1], node.high[-1]) == (0, 0)
        case graph.Reshape() | graph.Broadcast() | graph.Slice():
            return bool(result) and bool(inputs[0]) and len(channels) == 1
        case graph.Concatenate():
            return node.axis != last
    return False


def _read(node: graph.Linear) -> np.ndarray:
    """Whether an input is read by an output, bool `[I, O]`."""
    return (node.kernel.values != 0).any(tuple(range(node.kernel.values.ndim - 2)))


def _layer(node: graph.Conv | graph.Dense | graph.Convolution, value: np.ndarray) -> np.ndarray:
    """The outputs for one input, of which most channels are 0."""
    some = value.any(tuple(range(value.ndim - 1)))
    kernel = node.kernel.values[..., some, :].astype(np.float32) * node.kernel.scale
    if isinstance(node, graph.Dense):
        return value[..., some] @ kernel
    outputs, whole = np.zeros(node.shape(value.shape), np.float32), node.general(value.shape)
    padded = np.pad(value[..., some], [*zip(whole.low, whole.high), (0, 0)])
    settings = kernel.shape[:-2], whole.stride, whole.dilation, outputs.shape[:-1]
    for tap, met in graph.taps(padded, *settings):
        outputs += met @ kernel[tap]
    return outputs


def _normalize(node: graph.Normalize, value: np.ndarray) -> np.ndarray:
    factor = 1 / np.sqrt(node.variance + np.float32(node.epsilon))
    factor = factor if node.scale is None else factor * node.scale
    return (value - node.mean) * factor + (0 if node.offset is None else node.offset)


def _max_pool(node: graph.MaxPool, value: np.ndarray) -> np.ndarray:
    pool = node.general()
    padded = np.pad(value, [*zip(pool.low, pool.high)], constant_values=np.finfo(np.float32).min)
    met = graph.taps(padded, pool.window[:2], pool.stride[:2], (1, 1), node.shape(value.shape)[:2])
    return functools.reduce(np.maximum, (values for _, values in met))


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    **{name: getattr(np, name) for name in ("abs", "ceil", "cos", "exp", "expm1", "floor", "log", "log1p")},
    **{name: getattr(np, name) for name in ("sign", "sin", "sqrt", "square", "tan", "tanh")},
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "neg": np.negative,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power},
    **{"max": np.maximum, "min": np.minimum, "gt": np.greater, "ge": np.greater_equal, "lt": np.less},
    **{"le": np.less_equal, "eq": np.equal, "ne": np.not_equal},
}
# What operations make of constants; what is 0 because it is not known makes no difference.
_COMPUTE: dict[type[graph.Node], Callable[..., Any]] = {
    **dict.fromkeys((graph.Conv, graph.Dense, graph.Convolution), _layer),
    **dict.fromkeys((graph.Unary, graph.Binary), lambda node, *values: _FUNCTIONS[node.function](*values)),
    graph.Select: lambda node, value, *others: np.where(value != 0, *others),
    graph.Normalize: _normalize,
    graph.Offset: lambda node, value: value + node.values,
    graph.Elu: lambda node, value: np.where(value > 0, value, np.expm1(np.minimum(value, 0))),
    graph.MaxPool: _max_pool,
    graph.Flatten: lambda node, value: value.reshape(-1),
    graph.Mean: lambda node, value: value.mean((0, 1)),
    graph.Add: lambda node, left, right: left + right,
}


class _Channels:
    """Which channels of every value stay.

    Values without a layer between them share theirs: they have one label. Flattened, they repeat them; the
    channels of a label are as many as its `periods` says.
    """

    def __init__(self, network: graph.Network) -> None:
        shapes = network.shapes()
        self.sizes = [(shape or (1,))[-1] for shape in shapes]
        self.labels, whole = [0], [0]  # labels, and values of which every channel is needed
        for i, node in enumerate(network.nodes):
            if isinstance(node, graph.Constant) or _is_layer(node):
                self.labels.append(i + 1)
                continue
            if not _keeps(node, [shapes[j] for j in node.inputs], shapes[i + 1]):
                whole += [*node.inputs, i + 1]
                self.labels.append(i + 1)
                continue
            # One channel that all share is none of theirs.
            combined = isinstance(node, (graph.Add, graph.Binary, graph.Select))
            shared = [j for j in node.inputs if combined and self.sizes[j] == 1 < self.sizes[i + 1]]
            whole += shared
            first, *others = (self.labels[j] for j in node.inputs if j not in shared)
            self.labels = [first if label in others else label for label in self.labels]
            self.labels.append(first)
        self.periods = dict.fromkeys(self.labels, 0)
        for label, size in zip(self.labels, self.sizes, strict=True):
            self.periods[label] = math.gcd(self.periods[label], size)
        self.needed = {label: np.zeros(period, bool) for label, period in self.periods.items()}
        self.whole = {self.labels[value] for value in (*whole, len(self.labels) - 1)}
        for label in self.whole:
            self.needed[label][:] = True

    def need(self, network: graph.Network, constants: Sequence[_Constant]) -> None:
        """Find what the logits depend on, from them backwards."""
        readers: dict[int, list[tuple[int, int, np.ndarray, np.ndarray]]] = {}  # by the label of their result
        for i, node in enumerate(network.nodes):
            if _is_layer(node):
                read = _read(node) & ~constants[node.inputs[0]].known[:, None]
                reader = node.inputs[0], i + 1, read, np.zeros(read.shape[1], bool)
                readers.setdefault(self.labels[i + 1], []).append(reader)
        # A residual network reads a label's channels and writes to them again: until there is no news. Every
        # output is looked at once.
        news = sorted(self.whole)
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


def _of_removed(node: Any, constant: _Constant, channels: _Channels) -> np.ndarray:
    """What the channels that don't stay contribute to a layer's outputs."""
    removed = ~channels.used(node.inputs[0])
    return _layer(node, np.where(removed, constant.values, np.float32(0)))


def _per_channel(offset: np.ndarray) -> np.ndarray:
    """One value a channel, if it is the same everywhere."""
    places = offset.reshape(-1, offset.shape[-1])
    return places[0] if (places == places[0]).all() else offset


def _smaller(node: graph.Node, inputs: tuple[int, ...], channels: _Channels, value: int) -> graph.Node:
    """The operation on the channels that stay."""
    kept, changed = channels.kept(value), dict[str, Any]()
    if _is_layer(node):
        used = channels.used(node.inputs[0])[:, None] & channels.used(value)
        values = np.where(used, node.kernel.values, node.kernel.values.dtype.type(0))
        values = np.ascontiguousarray(values[..., channels.kept(node.inputs[0]), :][..., kept])
        changed = {"kernel": graph.Kernel(values, node.kernel.scale)}
    elif isinstance(node, (graph.Reshape, graph.Broadcast)) and node.sizes:
        changed = {"sizes": (*node.sizes[:-1], len(kept))}
    elif isinstance(node, graph.Slice) and len(kept) < channels.sizes[value]:
        changed = {"stop": (*node.stop[:-1], len(kept))}
    else:
        arrays = {name: array for name, array in node.arrays().items() if array.ndim}
        changed = {name: np.ascontiguousarray(array[..., kept]) for name, array in arrays.items()}
    return dataclasses.replace(node, inputs=inputs, **changed)
