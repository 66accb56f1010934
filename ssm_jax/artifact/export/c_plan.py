"""A plan of C: the steps of a network one after another, its tables, and where its values lie in memory.

Values lie in buffers of one scratch memory, images among them as planes with margins.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, graph

# Positions of a plane that a convolution sums at a time, in registers.
TILE = 32
# Floats of the scratch memory, and numbers of all tables: far beyond what C is written for.
MOST_FLOATS = 2**27
MOST_NUMBERS = 2**24

Writers = Mapping[type[graph.Node], Callable[..., Any]]
# Where a value's first element is, and the distance from one element to the next along each axis.
Strides = tuple[int, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a value lies in memory: planes, one a channel; a vector has planes of one number.

    Attributes:
      channels: Number of planes.
      height: Rows.
      width: Columns.
      margin: Columns of zeros between two rows, and rows of zeros above and below a plane.
      tile: Positions that are written at a time.
    """

    channels: int
    height: int = 1
    width: int = 1
    margin: int = 0
    tile: int = 1

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return self.width + self.margin

    @property
    def first(self) -> int:
        """The place of the first pixel in its plane."""
        return self.margin * (self.row + 1)

    @property
    def positions(self) -> int:
        """Floats from a plane's first pixel to its last."""
        return self.height * self.row - self.margin

    @property
    def plane(self) -> int:
        """Floats from one plane to the next: with a margin all around, and room for whole tiles."""
        tiles = -(-self.positions // self.tile)
        return self.first + max(tiles * self.tile, self.positions + self.first)

    @property
    def count(self) -> int:
        """Floats of all planes."""
        return self.channels * self.plane

    @property
    def geometry(self) -> tuple[int, ...]:
        """What the functions take that go over pixels."""
        return self.channels, self.height, self.width, self.row, self.plane

    def places(self) -> np.ndarray:
        """Return where every element lies, int32 of shape `(H, W, C)`."""
        y, x, c = (np.arange(size, dtype=np.int32) for size in (self.height, self.width, self.channels))
        return y[:, None, None] * self.row + x[:, None] + (c * self.plane + self.first)


@dataclasses.dataclass(eq=False)
class Buffer:
    """A piece of the scratch memory.

    Attributes:
      size: In floats.
      born: The step that first writes it.
      dies: The last step that uses it.
      pending: Uses to come.
      offset: Its place in the scratch memory, in floats.
    """

    size: int
    born: int
    dies: int
    pending: int = 0
    offset: int = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A place in the scratch memory: a buffer and a distance in floats."""

    buffer: Buffer
    distance: int = 0


def allocate(buffers: list[Buffer]) -> int:
    """Give every buffer a place, the largest first, and return the size of all."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda buffer: -buffer.size):
        buffer.offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            end, other_end = buffer.offset + buffer.size, other.offset + other.size
            at_once = buffer.born <= other.dies and other.born <= buffer.dies
            if at_once and buffer.offset < other_end and other.offset < end:
                buffer.offset = other_end
        placed.append(buffer)
    return max(buffer.offset + buffer.size for buffer in buffers)


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
    """A result of the network: its buffer, its shape and what lies where in it."""

    buffer: Buffer
    shape: graph.Shape
    layout: Layout

    @property
    def first(self) -> Place:
        """The place of the first pixel."""
        return Place(self.buffer, self.layout.first)

    @property
    def strides(self) -> Strides:
        """Images lie as planes, all else as rows."""
        if len(self.shape) == 3:
            return self.layout.first, (self.layout.row, 1, self.layout.plane)
        return of_rows(self.shape)


def of_rows(shape: Sequence[int]) -> Strides:
    """Strides of elements whose last axis runs fastest."""
    return 0, tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class Plan:
    """The steps of a network, its tables and its scratch memory.

    Args:
      network: The network, with no convolution but those of images.
      writers: From an operation to what adds its steps and returns its result, of the plan, the operation and
        the number of its value.
      margin: Columns between the rows of an image, see `Layout`.
      tile: Positions of an image that are written at a time.

    Attributes:
      steps: Calls in their order.
      scratch: Floats of the scratch memory.
      constants: Values that are no steps, by their number.

    Raises:
      InputError: The network takes too much memory or too many constants for C, or an operation is unknown.
    """

    def __init__(self, network: graph.Network, writers: Writers, margin: int, tile: int) -> None:
        for node in network.nodes:
            if type(node) not in writers:
                raise errors.InputError(f"C has no {graph.operation(node)}, which the network computes")
        self.shapes, self.constants = network.shapes(), dict[int, np.ndarray]()
        self.steps, self.tables = list[Step](), list[Table]()
        self._buffers, self._numbers = list[Buffer](), 0
        self.consumers = [[network.nodes[i] for i in each] for each in network.readers()]
        self._margin, self._tile = margin, tile
        image = self.new(self.shapes[0], 0)
        self.call("read_image", "image", image.first, *image.layout.geometry)
        self.border(image)
        self._values = {0: image}
        for number, node in enumerate(network.nodes, 1):
            value = writers[type(node)](self, node, number)
            if value is not None:
                self._values[number] = value
        result = self.value(len(network.nodes), self.shapes[-1])
        if len(self.shapes[-1]) == 3:
            self.call("flatten", result.first, "logits", *result.layout.geometry)
        else:
            self.call("copy", Place(result.buffer), "logits", result.layout.count)
        self.scratch = allocate(self._buffers)
        self._check_floats(self.scratch)

    def _check_floats(self, count: int) -> None:
        if count > MOST_FLOATS:
            raise errors.InputError(
                f"the network works on {count:,} floats at once; in C at most {MOST_FLOATS:,} are allowed"
            )

    def count_numbers(self, count: int) -> None:
        """Count numbers of tables that are about to be made."""
        self._numbers += count
        if self._numbers > MOST_NUMBERS:
            raise errors.InputError(
                f"the network's kernels are {self._numbers:,} numbers or more in C; at most {MOST_NUMBERS:,} "
                "are allowed"
            )

    def layout(self, shape: graph.Shape) -> Layout:
        """How a value of a shape lies: an image as planes, all else as rows."""
        if len(shape) != 3:
            return Layout(math.prod(shape))
        return Layout(shape[2], shape[0], shape[1], self._margin, self._tile)

    def new(self, shape: graph.Shape, number: int | None = None, layout: Layout | None = None) -> Value:
        """Make the value of that number; without one, a value between two steps that anyone may change."""
        layout = layout or self.layout(shape)
        # A tile of the last plane reads beyond its end, by less than what lies before its first pixel.
        now, pending = len(self.steps), 0 if number is None else self.uses(number)
        buffer = Buffer(layout.count + layout.first, now, now, pending)
        self._check_floats(buffer.size)
        self._buffers.append(buffer)
        return Value(buffer, shape, layout)

    def uses(self, number: int) -> int:
        """How often a value is taken."""
        return len(self.consumers[number]) + (number == len(self.shapes) - 1)

    def take(self, node: graph.Node, which: int = 0, shape: graph.Shape | None = None) -> Value:
        """The value that an operation takes, of several the one at that place; once each.

        Args:
          node: The operation.
          which: Which of its inputs.
          shape: A shape to which axes of size 1 are repeated; its own by default.
        """
        number = node.inputs[which]
        return self.value(number, self.shapes[number] if shape is None else shape)

    def value(self, number: int, shape: graph.Shape) -> Value:
        """A value that is taken; constants are laid into memory."""
        if number in self.constants:
            return self.laid(f"constants_{number}", self.constants[number], shape)
        value, before = self._values[number], self.shapes[number]
        value.buffer.pending -= 1
        if before == shape:
            return value
        first, steps = value.strides
        steps = tuple(step if size > 1 else 0 for step, size in zip(steps, before))
        return self.moved(value, self.new(shape), shape, get=(first, steps))

    def laid(self, name: str, array: np.ndarray, shape: graph.Shape) -> Value:
        """Make a value of constants, with axes of size 1 repeated to a shape."""
        sizes = (1,) * (len(shape) - array.ndim) + array.shape
        steps = tuple(step if size > 1 else 0 for step, size in zip(of_rows(sizes)[1], sizes))
        table = Table(name, np.ascontiguousarray(array, np.float32).ravel())
        return self.moved(table, self.new(shape), shape, get=(0, steps))

    def changed(self, value: Value, number: int) -> Value:
        """Make a value that starts as another one: in its place, if nothing else needs that."""
        if not value.buffer.pending:
            value.buffer.pending = self.uses(number)
            return value
        out = self.new(value.shape, number, value.layout)
        self.call("copy", Place(value.buffer), Place(out.buffer), value.layout.count)
        return out

    def every(self, value: Value, number: int, function: str, *arguments: Any) -> Value:
        """Call a function that changes every element of a value."""
        out = self.changed(value, number)
        self.call(function, out.first, *out.layout.geometry, *arguments)
        return out

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

    def border(self, value: Value) -> Value:
        """Put zeros around and between the rows of an image."""
        if value.layout.margin:
            self.call("border", Place(value.buffer), *value.layout.geometry, value.layout.first)
        return value

    def moved(self, source: Value | Table, target: Value, sizes: Sequence[int], **places: Any) -> Value:
        """Fill a new value with elements of another one; see `move`."""
        self.move(source, target, sizes, **places)
        return self.border(target)

    def move(
        self,
        source: Value | Table,
        target: Value,
        sizes: Sequence[int],
        get: Strides | None = None,
        put: Strides | None = None,
        how: str = "move",
    ) -> None:
        """Put as many elements as `sizes` says from some places of a value to some of another."""
        put = target.strides if put is None else put
        if isinstance(source, Value):
            get = source.strides if get is None else get
            where: Any = Place(source.buffer, get[0])
        else:
            where, how = source, "lay"
        assert get is not None
        columns = list(zip(sizes, get[1], put[1])) or [(1, 0, 0)]
        table = Table("places", np.array([len(columns), *np.array(columns).T.ravel()], np.uint32))
        self.call(how, where, Place(target.buffer, put[0]), table)
