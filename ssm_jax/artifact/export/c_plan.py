"""What the C export's networks do, step by step, and where their values lie in memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact.export import c_elementary, c_moves
from ssm_jax.artifact.export.c_kernels import Windows, as_images, kernel_lists, sizes, ungrouped
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
        network = as_images(network)
        _check(network)
        self.network = network
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[Step] = []
        self.tables: list[Table] = []
        self._buffers: list[Buffer] = []
        self._numbers = 0
        self.shapes = network.shapes()
        self._convolutions = [
            Windows.of(node, self.shapes[node.inputs[0]])
            for node in network.nodes
            if isinstance(node, (graph.Conv, graph.Convolution))
        ]
        self._margin = max((windows.reach for windows in self._convolutions), default=0)
        self._consumers: list[list[graph.Node]] = [[] for _ in self.shapes]
        for node in network.nodes:
            for i in node.inputs:
                self._consumers[i].append(node)
        image = self.new(self.layout(0), 0)
        self.call("read_image", "image", Place(image.buffer, image.layout.first), *image.layout.geometry)
        self.border(image)
        self._values = [image]
        for number, node in enumerate(network.nodes):
            self._values.append(_WRITERS[type(node)](self, node, number + 1))
        result = self._values[-1]
        if len(self.shapes[-1]) == 3:
            self.call("flatten", self.first(result), "logits", *result.layout.geometry)
        else:
            self.call("copy", Place(result.buffer), "logits", result.layout.count)
        self.scratch = allocate(self._buffers)
        self._check_floats(self.scratch)

    def _check_floats(self, count: int) -> None:
        if count > MOST_FLOATS:
            raise errors.InputError(
                f"the network works on {count:,} floats at once; in C at most {MOST_FLOATS:,} are allowed"
            )

    def layout(self, number: int) -> Layout:
        """How the value of that number lies."""
        return self.layout_of(self.shapes[number])

    def layout_of(self, shape: graph.Shape) -> Layout:
        """How a value of a shape lies: an image as planes, all else as rows."""
        if len(shape) != 3:
            return Layout(math.prod(shape))
        return Layout(shape[2], shape[0], shape[1], self._margin, TILE if self._convolutions else 1)

    def new(self, layout: Layout, number: int) -> Value:
        """Make the value of that number; -1 for one between two steps."""
        now, pending = len(self.steps), self._uses(number) if number >= 0 else 1
        # A tile of the last plane reads beyond its end, by less than what lies before its first pixel.
        buffer = Buffer(layout.count + layout.first, now, now, pending)
        self._check_floats(buffer.size)
        self._buffers.append(buffer)
        return Value(buffer, layout)

    def _uses(self, number: int) -> int:
        return len(self._consumers[number]) + (number == len(self.shapes) - 1)

    def call(self, function: str, *arguments: Any) -> None:
        """Add a step."""
        for argument in arguments:
            if isinstance(argument, Place):
                argument.buffer.dies = len(self.steps)
            elif isinstance(argument, Table):
                if not np.isfinite(argument.values).all():
                    raise errors.InputError(f"{argument.name} would hold numbers that are not finite")
                if not any(table is argument for table in self.tables):
                    self.tables.append(argument)
        self.steps.append(Step(function, arguments))

    def border(self, value: Value) -> None:
        """Put zeros around and between the rows of an image."""
        if value.layout.margin:
            self.call("border", Place(value.buffer), *value.layout.geometry, value.layout.first)

    def take(self, node: graph.Node, which: int = 0) -> Value:
        """The value that an operation takes, of several the one at that place; once each."""
        value = self._values[node.inputs[which]]
        value.buffer.pending -= 1
        return value

    def changed(self, value: Value, number: int) -> Value:
        """Make a value that starts as another one: in its place, if nothing else needs that."""
        if not value.buffer.pending:
            value.buffer.pending = self._uses(number)
            return value
        made = self.new(value.layout, number)
        self.call("copy", Place(value.buffer), Place(made.buffer), value.layout.count)
        return made

    def standardize(self, node: graph.Standardize, number: int) -> Value:
        value = self.changed(self.take(node), number)
        self.call("standardize", self.first(value), *value.layout.geometry)
        return value

    def conv(self, node: graph.Conv | graph.Convolution, number: int) -> Value:
        value, made = self.take(node), self.layout(number)
        if isinstance(node, graph.Convolution):
            value = c_moves.spread(self, node, value)
        windows = Windows.of(node, self.shapes[node.inputs[0]])
        channels, stride, taps = value.layout.channels, windows.stride, windows.taps
        # One result for every place that the strides come to, and more where the network wants more of them.
        apart = node.stride if isinstance(node, graph.Convolution) and len({*node.stride}) > 1 else (1, 1)
        layout = dataclasses.replace(
            made,
            height=max((made.height - 1) * apart[0] + 1, -(-value.layout.height // stride)),
            width=max((made.width - 1) * apart[1] + 1, -(-value.layout.width // stride)),
        )
        phases = sorted({(top % stride, left % stride) for top, left in taps})
        same = (layout.height, layout.width) == (value.layout.height, value.layout.width)
        source = value if stride == 1 and same else self._phases(value, layout, stride, phases)
        number_of = {phase: i for i, phase in enumerate(phases)}
        planes = [number_of[top % stride, left % stride] * channels for top, left in taps]
        shifts = [top // stride * layout.row + left // stride for top, left in taps]
        first = layout.first + np.array(planes) * layout.plane + shifts
        places = first[:, None] + np.arange(channels) * layout.plane
        whole = self.new(layout, number if layout == made else -1)
        where = Place(source.buffer), Place(whole.buffer, layout.first)
        self.lists("conv", node, [where], places.ravel(), layout.positions, layout.plane)
        self.border(whole)
        if layout == made:
            return whole
        found = self.new(made, number)
        c_moves.every(self, whole, found, self.shapes[number], apart)
        return found

    def first(self, value: Value) -> Place:
        """The place of a value's first pixel."""
        return Place(value.buffer, value.layout.first)

    def table(self, name: str, values: np.ndarray) -> Table:
        """Make a table."""
        return Table(name, values)

    def _phases(self, value: Value, layout: Layout, stride: int, phases: list[tuple[int, int]]) -> Value:
        """Spread an image over several of the result's size, one a phase: a stride becomes none."""
        channels = value.layout.channels
        made = self.new(dataclasses.replace(layout, channels=channels * len(phases)), -1)
        for i, (top, left) in enumerate(phases):
            self.call(
                "every",
                Place(value.buffer, value.layout.first),
                Place(made.buffer, i * channels * layout.plane + layout.first),
                *value.layout.geometry,
                *layout.geometry[1:],
                stride,
                top,
                left,
            )
        self.border(made)
        return made

    def dense(self, node: graph.Dense, number: int) -> Value:
        if len(self.shapes[number]) > 1:
            return c_moves.rows_of_dense(self, node, number)
        value = self.take(node)
        made = self.new(self.layout(number), number)
        places = value.layout.places().ravel()
        self.lists("dense", node, [(Place(value.buffer), Place(made.buffer))], places)
        return made

    def lists(
        self,
        function: str,
        node: graph.Conv | graph.Dense | graph.Convolution,
        where: Sequence[tuple[Place, Place]],
        places: np.ndarray,
        *rest: Any,
    ) -> None:
        """Call a function with a kernel, once for every pair of places."""
        units, values = node.kernel.shape[-1], ungrouped(node)
        self._numbers += node.kernel.remaining + 2 * len(sizes(values)) * units
        if self._numbers > MOST_NUMBERS:
            raise errors.InputError(
                f"the network's kernels are {self._numbers:,} numbers or more in C; at most {MOST_NUMBERS:,} "
                "are allowed"
            )
        list_, numbers = kernel_lists(values.reshape(-1, units), places)
        bits = next(bits for bits in (8, 16, 32) if list_.max() < 2**bits)
        table = Table(f"{node.name}_list", list_.astype(f"uint{bits}"))
        if node.kernel.whole:
            factors = numbers.astype(np.float32) * np.float32(node.kernel.scale)
            rest = (Table(f"{node.name}_factors", factors), len(factors), units, *rest)
        else:
            function += "_weights"
            rest = (Table(f"{node.name}_weights", numbers), units, *rest)
        for given, made in where:
            self.call(f"{function}_uint{bits}", given, made, table, *rest)

    def normalize(self, node: graph.Normalize, number: int) -> Value:
        value = self.changed(self.take(node), number)
        named = list(zip((f"{node.name}_factors", f"{node.name}_offsets"), node.affine()))
        if len(self.shapes[number]) not in (1, 3):
            for (name, values), function in zip(named, ("mul", "add")):
                self._of_rows(value, number, name, values, function)
            return value
        tables = (Table(name, values.astype(np.float32)) for name, values in named)
        self.call("scale", self.first(value), *value.layout.geometry, *tables)
        return value

    def _of_rows(self, value: Value, number: int, name: str, constants: np.ndarray, function: str) -> None:
        """Combine every row with constants."""
        other = c_moves.laid(self, name, constants, self.shapes[number])
        self.call(f"values_of_{function}", self.first(value), *value.layout.geometry, self.first(other))

    def offset(self, node: graph.Offset, number: int) -> Value:
        value = self.changed(self.take(node), number)
        values = node.values.astype(np.float32)
        if len(self.shapes[number]) not in (1, 3):
            self._of_rows(value, number, f"offset_{number}", values, "add")
            return value
        each = values.ndim == 3
        table = Table(f"offset_{number}", (values.transpose(2, 0, 1) if each else values).ravel())
        self.call("offset_each" if each else "offset", self.first(value), *value.layout.geometry, table)
        return value

    def elu(self, node: graph.Elu, number: int) -> Value:
        value = self.changed(self.take(node), number)
        self.call("elu", Place(value.buffer), value.layout.count)
        return value

    def max_pool(self, node: graph.MaxPool, number: int) -> Value:
        value = self.take(node)
        made = self.new(self.layout(number), number)
        self.call(
            "max_pool",
            self.first(value),
            self.first(made),
            *value.layout.geometry,
            *made.layout.geometry[1:],
            node.window,
            node.stride,
            node.padding,
        )
        self.border(made)
        return made

    def flatten(self, node: graph.Flatten, number: int) -> Value:
        value = self.take(node)
        dense = [isinstance(consumer, graph.Dense) for consumer in self._consumers[number]]
        if all(dense) and len(dense) == self._uses(number):
            # Dense layers find their inputs wherever these lie.
            value.buffer.pending += len(dense)
            return value
        made = self.new(self.layout(number), number)
        self.call("flatten", self.first(value), Place(made.buffer), *value.layout.geometry)
        return made

    def mean(self, node: graph.Mean, number: int) -> Value:
        value = self.take(node)
        made = self.new(self.layout(number), number)
        self.call("mean", self.first(value), Place(made.buffer), *value.layout.geometry)
        return made

    def add(self, node: graph.Add, number: int) -> Value:
        left, right = self.take(node), self.take(node, 1)
        if left.buffer.pending and not right.buffer.pending:
            left, right = right, left
        if left is right and not left.buffer.pending:
            left.buffer.pending += 1  # It is both: one of them has to be a copy.
        made = self.changed(left, number)
        self.call("add", Place(made.buffer), Place(right.buffer), made.layout.count)
        return made


_WRITERS: dict[type[graph.Node], Callable[[Plan, Any, int], Any]] = {
    **{kind: getattr(Plan, name) for name, kind in graph.LAYERS.items()},
    graph.Convolution: Plan.conv,
    **c_elementary.WRITERS,
    **c_moves.WRITERS,
}


def _check(network: graph.Network) -> None:
    """Check that a network is one of images, of operations that C has."""
    for node in network.nodes:
        if type(node) not in _WRITERS:
            raise errors.InputError(f"C has no {graph.operation(node)}, which the network computes")
    shapes = network.shapes()
    for node in network.nodes:
        rank = len(shapes[node.inputs[0]]) if node.inputs else 0
        if isinstance(node, graph.Convolution) and rank != 3:
            raise errors.InputError(f"C has no convolution of values of {rank} axes, only of 3")
