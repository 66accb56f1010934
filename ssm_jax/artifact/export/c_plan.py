"""What the C export's networks do, step by step, and where their values lie in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export.c_memory import TILE, Buffer, Layout, Place, allocate

# Floats of the scratch memory, and numbers of all tables: far beyond what C is written for.
MOST_FLOATS = 2**27
MOST_NUMBERS = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Constant numbers of one C type."""

    name: str
    values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A call of one of the functions; arguments are places, tables and whole numbers."""

    function: str
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A result of the network: its buffer and what lies where in it."""

    buffer: Buffer
    layout: Layout


class Plan:
    """The steps of a network, its tables and its scratch memory.

    Args:
      network: The network.

    Attributes:
      steps: Calls in their order.
      result: Where the logits lie in the end.
      scratch: Floats of the scratch memory.

    Raises:
      InputError: The network takes too much memory or too many constants for C.
    """

    def __init__(self, network: graph.Network) -> None:
        self.network = network
        self.steps: list[Step] = []
        self.tables: list[Table] = []
        self._buffers: list[Buffer] = []
        self._numbers = 0
        self._shapes = network.shapes()
        self._convolutions = [node for node in network.nodes if isinstance(node, graph.Conv)]
        reaches = [_reach(node, self._shapes[node.inputs[0]]) for node in self._convolutions]
        self._margin = max(reaches, default=0)
        self._consumers: list[list[graph.Node]] = [[] for _ in self._shapes]
        for node in network.nodes:
            for i in node.inputs:
                self._consumers[i].append(node)
        image = self._new(self._layout(0), 0)
        self._call("read_image", "image", Place(image.buffer, image.layout.first), *image.layout.geometry)
        self._border(image)
        self._values = [image]
        for number, node in enumerate(network.nodes):
            self._values.append(_WRITERS[type(node)](self, node, number + 1))
        result = self._values[-1]
        self._call("copy", Place(result.buffer), "logits", network.classes)
        self.scratch = allocate(self._buffers)
        self._check_floats(self.scratch)

    def _check_floats(self, count: int) -> None:
        if count > MOST_FLOATS:
            raise errors.InputError(
                f"the network works on {count:,} floats at once; in C at most {MOST_FLOATS:,} are allowed"
            )

    def _layout(self, number: int) -> Layout:
        shape = self._shapes[number]
        if len(shape) == 1:
            return Layout(shape[0])
        return Layout(shape[2], shape[0], shape[1], self._margin, TILE if self._convolutions else 1)

    def _new(self, layout: Layout, number: int) -> Value:
        """Make the value of that number; -1 for one between two steps."""
        now, pending = len(self.steps), self._uses(number) if number >= 0 else 1
        # A tile of the last plane reads beyond its end, by less than what lies before its first pixel.
        buffer = Buffer(layout.count + layout.first, now, now, pending)
        self._check_floats(buffer.size)
        self._buffers.append(buffer)
        return Value(buffer, layout)

    def _uses(self, number: int) -> int:
        return len(self._consumers[number]) + (number == len(self._shapes) - 1)

    def _call(self, function: str, *arguments: Any) -> None:
        for argument in arguments:
            if isinstance(argument, Place):
                argument.buffer.dies = len(self.steps)
            elif isinstance(argument, Table):
                if not np.isfinite(argument.values).all():
                    raise errors.InputError(f"{argument.name} would hold numbers that are not finite")
                self.tables.append(argument)
        self.steps.append(Step(function, arguments))

    def _border(self, value: Value) -> None:
        if value.layout.margin:
            self._call("border", Place(value.buffer), *value.layout.geometry, value.layout.first)

    def _take(self, node: graph.Node, which: int = 0) -> Value:
        value = self._values[node.inputs[which]]
        value.buffer.pending -= 1
        return value

    def _changed(self, value: Value, number: int) -> Value:
        """Make a value that starts as another one: in its place, if nothing else needs that."""
        if not value.buffer.pending:
            value.buffer.pending = self._uses(number)
            return value
        made = self._new(value.layout, number)
        self._call("copy", Place(value.buffer), Place(made.buffer), value.layout.count)
        return made

    def standardize(self, node: graph.Standardize, number: int) -> Value:
        value = self._changed(self._take(node), number)
        self._call("standardize", Place(value.buffer, value.layout.first), *value.layout.geometry)
        return value

    def conv(self, node: graph.Conv, number: int) -> Value:
        value, layout, stride = self._take(node), self._layout(number), node.stride
        side, _, channels, units = node.kernel.shape
        image = value.layout.height, value.layout.width, channels
        # Of every tap of the kernel: the pixel that it reads for the first pixel of the result.
        tops, lefts = ([i - before for i in range(side)] for before, _ in node.padding(image))
        taps = [(top, left) for top in tops for left in lefts]
        phases = sorted({(top % stride, left % stride) for top, left in taps})
        source = value if stride == 1 else self._phases(value, layout, stride, phases)
        number_of = {phase: i for i, phase in enumerate(phases)}
        planes = [number_of[top % stride, left % stride] * channels for top, left in taps]
        shifts = [top // stride * layout.row + left // stride for top, left in taps]
        first = layout.first + np.array(planes) * layout.plane + shifts
        places = first[:, None] + np.arange(channels) * layout.plane
        made = self._new(layout, number)
        where = Place(source.buffer), Place(made.buffer, layout.first)
        self._lists("conv", node, where, places.ravel(), layout.positions, layout.plane)
        self._border(made)
        return made

    def _phases(self, value: Value, layout: Layout, stride: int, phases: list[tuple[int, int]]) -> Value:
        """Spread an image over several of the result's size, one a phase: a stride becomes none."""
        channels = value.layout.channels
        made = self._new(dataclasses.replace(layout, channels=channels * len(phases)), -1)
        for i, (top, left) in enumerate(phases):
            self._call(
                "every",
                Place(value.buffer, value.layout.first),
                Place(made.buffer, i * channels * layout.plane + layout.first),
                *value.layout.geometry,
                *layout.geometry[1:],
                stride,
                top,
                left,
            )
        self._border(made)
        return made

    def dense(self, node: graph.Dense, number: int) -> Value:
        value = self._take(node)
        made = self._new(self._layout(number), number)
        places = value.layout.places().ravel()
        self._lists("dense", node, (Place(value.buffer), Place(made.buffer)), places)
        return made

    def _lists(
        self,
        function: str,
        node: graph.Conv | graph.Dense,
        where: tuple[Place, Place],
        places: np.ndarray,
        *rest: Any,
    ) -> None:
        units, values = node.kernel.shape[-1], node.kernel.values
        self._numbers += node.kernel.remaining + 2 * len(_sizes(values)) * units
        if self._numbers > MOST_NUMBERS:
            raise errors.InputError(
                f"the network's kernels are {self._numbers:,} numbers or more in C; at most {MOST_NUMBERS:,} "
                "are allowed"
            )
        list_, numbers = kernel_lists(values.reshape(-1, units), places)
        bits = next(bits for bits in (8, 16, 32) if list_.max() < 2**bits)
        table = Table(f"{node.name}_list", list_.astype(f"uint{bits}"))
        if node.kernel.values.dtype == np.int8:
            factors = numbers.astype(np.float32) * np.float32(node.kernel.scale)
            rest = (Table(f"{node.name}_factors", factors), len(factors), units, *rest)
        else:
            function += "_weights"
            rest = (Table(f"{node.name}_weights", numbers), units, *rest)
        self._call(f"{function}_uint{bits}", *where, table, *rest)

    def normalize(self, node: graph.Normalize, number: int) -> Value:
        value = self._changed(self._take(node), number)
        factors = 1 / np.sqrt(node.variance.astype(np.float64) + node.epsilon)
        if node.scale is not None:
            factors *= node.scale
        offsets = -node.mean.astype(np.float64) * factors
        if node.offset is not None:
            offsets += node.offset
        tables = (
            Table(f"{node.name}_factors", factors.astype(np.float32)),
            Table(f"{node.name}_offsets", offsets.astype(np.float32)),
        )
        self._call("scale", Place(value.buffer, value.layout.first), *value.layout.geometry, *tables)
        return value

    def offset(self, node: graph.Offset, number: int) -> Value:
        value = self._changed(self._take(node), number)
        values = node.values.astype(np.float32)
        each = values.ndim == 3
        table = Table(f"offset_{number}", (values.transpose(2, 0, 1) if each else values).ravel())
        where = Place(value.buffer, value.layout.first)
        self._call("offset_each" if each else "offset", where, *value.layout.geometry, table)
        return value

    def elu(self, node: graph.Elu, number: int) -> Value:
        value = self._changed(self._take(node), number)
        self._call("elu", Place(value.buffer), value.layout.count)
        return value

    def max_pool(self, node: graph.MaxPool, number: int) -> Value:
        value = self._take(node)
        made = self._new(self._layout(number), number)
        self._call(
            "max_pool",
            Place(value.buffer, value.layout.first),
            Place(made.buffer, made.layout.first),
            *value.layout.geometry,
            *made.layout.geometry[1:],
            node.window,
            node.stride,
            node.padding,
        )
        self._border(made)
        return made

    def flatten(self, node: graph.Flatten, number: int) -> Value:
        value = self._take(node)
        dense = [isinstance(consumer, graph.Dense) for consumer in self._consumers[number]]
        if all(dense) and len(dense) == self._uses(number):
            # Dense layers find their inputs wherever these lie.
            value.buffer.pending += len(dense)
            return value
        made = self._new(self._layout(number), number)
        self._call(
            "flatten", Place(value.buffer, value.layout.first), Place(made.buffer), *value.layout.geometry
        )
        return made

    def mean(self, node: graph.Mean, number: int) -> Value:
        value = self._take(node)
        made = self._new(self._layout(number), number)
        self._call(
            "mean", Place(value.buffer, value.layout.first), Place(made.buffer), *value.layout.geometry
        )
        return made

    def add(self, node: graph.Add, number: int) -> Value:
        left, right = self._take(node), self._take(node, 1)
        if left.buffer.pending and not right.buffer.pending:
            left, right = right, left
        if left is right and not left.buffer.pending:
            left.buffer.pending += 1  # It is both: one of them has to be a copy.
        made = self._changed(left, number)
        self._call("add", Place(made.buffer), Place(right.buffer), made.layout.count)
        return made


_WRITERS: dict[type[graph.Node], Callable[[Plan, Any, int], Value]] = {
    kind: getattr(Plan, name) for name, kind in graph.OPERATIONS.items()
}


def kernel_lists(values: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write a kernel as lists of places.

    Args:
      values: The kernel `[I, O]`, int8 or float32.
      places: Where every input lies, whole numbers `[I]`.

    Returns:
      For every output, and of an int8 kernel for every absolute value, places to add and places to subtract;
      of a float32 kernel places: their number, then the distance of each from the one before. And of an int8
      kernel the absolute values, of a float32 kernel the weights in the lists' order.

    Examples:
      >>> kernel_lists(np.int8([[1], [-1], [1]]), np.array([10, 20, 40]))[0].tolist()
      [2, 10, 30, 1, 20]
    """
    units, inputs = np.nonzero(values.T)
    places, weights = places[inputs], values[inputs, units]
    sizes = _sizes(values)
    if values.dtype == np.int8:
        lists = 2 * (len(sizes) * units + np.searchsorted(sizes, np.abs(weights))) + (weights < 0)
        count = 2 * len(sizes) * values.shape[1]
    else:
        lists, count = units, values.shape[1]
    order = np.lexsort((places, lists))
    lists, places, weights = lists[order], places[order], weights[order]
    lengths = np.bincount(lists, minlength=count)
    starts = np.cumsum(lengths) - lengths
    distances = np.diff(places, prepend=0)
    heads = starts[lengths > 0]
    distances[heads] = places[heads]
    numbers = weights if weights.size else np.zeros(1, np.float32)
    return np.insert(distances, starts, lengths), sizes if values.dtype == np.int8 else numbers


def _sizes(values: np.ndarray) -> np.ndarray:
    """The absolute values of an int8 kernel that are not 0, at least one."""
    sizes = np.unique(np.abs(values)) if values.dtype == np.int8 else np.empty(0)
    return sizes[sizes > 0] if sizes.any() else np.array([1])


def _reach(node: graph.Conv, shape: graph.Shape) -> int:
    """How many pixels beyond an image a convolution reads, in pixels of its result."""
    side, stride = node.kernel.shape[0], node.stride
    befores = [before for before, _ in node.padding(shape)]
    return max(max(-(-before // stride), (side - 1 - before) // stride) for before in befores)
