"""What the integer C export's networks do, statement by statement, their tables, and where values lie."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact import integer
from ssm_jax.artifact.export import c_text
from ssm_jax.artifact.export.c_plan import Buffer, allocate

# Bytes of scratch memory are `int32_t` in C.
MOST_BYTES = 2**31 - 1
# Bits that C reads at once.
_MOST_LOW = 8


class Stream(NamedTuple):
    """The weights of a layer that are not 0, as bits; see `integer.c`.

    Attributes:
      data: Their bytes, uint8.
      low: Bits of a gap that follow its unary part.
      wide: Bits of a weight's size less one; 0 where all are 1 or -1.
    """

    data: np.ndarray
    low: int
    wide: int


def stream(values: np.ndarray) -> Stream:
    """Write weights as a stream of bits.

    Args:
      values: int8, flat, unit after unit.

    Examples:
      >>> stream(np.int8([0, 1, -1, 0]))  # gaps of 1, 0 and, to the end, 1: 10 0, 0 1, 10
      Stream(data=array([49], dtype=uint8), low=0, wide=0)
    """
    values = values.astype(np.int16)
    places = np.flatnonzero(values)
    weights = values[places]
    gaps = np.diff(np.concatenate([[-1], places, [values.size]])) - 1
    low = min(range(_MOST_LOW + 1), key=lambda bits: int((gaps >> bits).sum()) + bits * gaps.size)
    wide = int(np.abs(weights).max(initial=1) - 1).bit_length()
    ones = gaps >> low
    lengths = ones + 1 + low + np.append(np.full(weights.size, 1 + wide), 0)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    bits = np.zeros(int(ends[-1]), np.uint8)
    before = np.repeat(np.cumsum(ones) - ones, ones)
    bits[np.repeat(starts, ones) + np.arange(ones.sum()) - before] = 1
    rest = starts + ones + 1
    for bit in range(low):
        bits[rest + bit] = gaps >> bit & 1
    rest = rest[:-1] + low
    bits[rest] = weights < 0
    for bit in range(wide):
        bits[rest + 1 + bit] = np.abs(weights) - 1 >> bit & 1
    return Stream(np.packbits(bits, bitorder="little"), low, wide)


class Value(NamedTuple):
    """A result of the network: its buffer, whose offset is in bytes, and its shape.

    Attributes:
      order: Of a vector, the element that lies at each place.
    """

    buffer: Buffer
    shape: graph.Shape
    order: np.ndarray


class Plan:
    """The statements of a network, its tables and its scratch memory.

    Args:
      network: The network in whole numbers.

    Attributes:
      tables: By name, uint8.
      scratch: Bytes of the scratch memory.

    Raises:
      InputError: A value of the network takes too much memory for C's whole numbers.
    """

    def __init__(self, network: integer.Integer) -> None:
        self.tables: dict[str, np.ndarray] = {}
        self._nodes, self._shapes = network.network.nodes, network.network.shapes()
        self._readers = [[self._nodes[i] for i in each] for each in network.network.readers()]
        self._statements: list[tuple[str, tuple[Value, ...]]] = []
        self._buffers: list[Buffer] = []
        self._values: dict[int, Value] = {}
        for number, (node, constant) in enumerate(zip(self._nodes, network.constants), 1):
            # What a layer has pooled is there already.
            if number not in self._values:
                _WRITERS[type(node)](self, node, number, constant)
        last = self._values.get(len(self._nodes))
        if last:  # the network does not end in a layer, which writes logits
            count = math.prod(last.shape)
            self._say(f"for (int32_t i = 0; i < {count}; i++)\n        logits[i] = (@)[i];", last)
        self.scratch = allocate(self._buffers)

    def statements(self) -> list[str]:
        """Return the body of the function."""
        return [_filled(statement, used) for statement, used in self._statements]

    def _say(self, statement: str, *used: Value) -> None:
        """Add a statement; each @ in it is the place of a value, each # of sums."""
        for value in used:
            value.buffer.dies = len(self._statements)
        self._statements.append((statement, used))

    def _buffer(self, size: int) -> Buffer:
        if size > MOST_BYTES:
            raise errors.InputError(
                f"a value of the network takes {size:,} bytes; in C at most {MOST_BYTES:,} are allowed"
            )
        now = len(self._statements)
        # Whole words, so that sums find theirs aligned.
        self._buffers.append(Buffer(-(-size // 4) * 4, now, now))
        return self._buffers[-1]

    def _make(self, number: int) -> Value:
        shape = self._shapes[number]
        count = math.prod(shape)
        self._values[number] = Value(self._buffer(count), shape, np.arange(count))
        return self._values[number]

    def _take(self, node: graph.Node, which: int = 0) -> Value:
        return self._values[node.inputs[which]]

    def _table(self, name: str, values: np.ndarray) -> str:
        name = c_text.unique(name, self.tables, len(self.tables))
        self.tables[name] = values
        return name

    def standardize(self, node: graph.Standardize, number: int, factor: int) -> None:
        out = self._make(number)
        height, width, channels = out.shape
        self._say(f"standardize(image, @, {height * width}, {channels}, UINT64_C({factor}));", out)

    def conv(self, node: graph.Conv, number: int, rescale: integer.Rescale) -> None:
        value, side, units = self._take(node), node.kernel.shape[0], node.kernel.shape[3]
        height, width, channels = value.shape
        out_height, out_width, _ = self._shapes[number]
        top, left = node.general(value.shape).low
        # A pool that alone reads the layer takes the largest of its sums: rescaling keeps their order.
        readers = self._readers[number]
        pool = readers[0] if len(readers) == 1 and number < len(self._nodes) else None
        window, stride, result = 1, 1, number
        if isinstance(pool, graph.MaxPool) and not pool.padding:
            window, stride, result = pool.window, pool.stride, self._nodes.index(pool) + 1
        sums = Value(self._buffer(4 * out_height * out_width), (), np.arange(0))
        out = self._make(result)
        rows, columns, _ = out.shape
        self._say(
            f"{self._begin(node, node.kernel.values.transpose(3, 0, 1, 2))}\n"
            f"    for (int32_t unit = 0; unit < {units}; unit++) {{\n"
            f"        convolve(&weights, @, #, {channels}, {height}, {width}, "
            f"{out_height}, {out_width}, {side}, {node.stride}, {top}, {left});\n"
            f"        finish(#, @ + unit * {rows * columns}, {out_width}, {rows}, "
            f"{columns}, {window}, {stride}, {_factors(rescale)});\n    }}",
            value,
            sums,
            sums,
            out,
        )

    def dense(self, node: graph.Dense, number: int, rescale: integer.Rescale | None) -> None:
        value, (inputs, units) = self._take(node), node.kernel.shape
        begin = self._begin(node, node.kernel.values[value.order].T)
        loop = f"{begin}\n    for (int32_t unit = 0; unit < {units}; unit++)\n        "
        call = f"dense(&weights, @, {inputs})"
        if rescale is None:
            self._say(f"{loop}logits[unit] = {call};", value)
        else:
            out = self._make(number)
            finished = f"(@)[unit] = rounded((int64_t){call} * {_factors(rescale)});"
            self._say(f"{loop}{finished}", out, value)

    def _begin(self, node: graph.Conv | graph.Dense, values: np.ndarray) -> str:
        bits = stream(values.ravel())
        table = self._table(f"{node.name}_weights", bits.data)
        return f"weights = begin({table}, {bits.low}, {bits.wide});"

    def elu(self, node: graph.Elu, number: int, table: np.ndarray) -> None:
        """Change a value where it lies, or a copy if another operation reads it."""
        value = self._take(node)
        count = math.prod(value.shape)
        if len(self._readers[node.inputs[0]]) > 1:
            copied = self._make(number)._replace(order=value.order)
            self._say(f"copy(@, @, {count});", value, copied)
            value = copied
        self._values[number] = value
        self._say(f"elus(@, {count}, {self._table(f'elu_{number}', table)}, {len(table)});", value)

    def max_pool(self, node: graph.MaxPool, number: int, constant: None) -> None:
        value, out = self._take(node), self._make(number)
        sizes = *(value.shape[2], *value.shape[:2]), *out.shape[:2], node.window, node.stride, node.padding
        self._say(f"max_pool(@, @, {', '.join(map(str, sizes))});", value, out)

    def flatten(self, node: graph.Flatten, number: int, constant: None) -> None:
        value = self._take(node)
        height, width, channels = value.shape if len(value.shape) == 3 else (1, 1, math.prod(value.shape))
        readers = self._readers[number]
        if readers and all(isinstance(reader, graph.Dense) for reader in readers):
            # Dense layers take their inputs in whichever order these lie.
            places = np.arange(math.prod(value.shape)).reshape(height, width, channels)
            order = places.transpose(2, 0, 1).ravel()
            self._values[number] = Value(value.buffer, self._shapes[number], order)
            return
        out = self._make(number)
        self._say(f"flatten(@, @, {channels}, {height * width});", value, out)

    def mean(self, node: graph.Mean, number: int, rescale: integer.Rescale) -> None:
        value, out = self._take(node), self._make(number)
        height, width, channels = value.shape
        self._say(f"mean(@, @, {channels}, {height * width}, {_factors(rescale)});", value, out)

    def add(self, node: graph.Add, number: int, rescale: integer.Rescale) -> None:
        left, right, out = self._take(node), self._take(node, 1), self._make(number)
        self._say(f"add(@, @, @, {math.prod(out.shape)}, {_factors(rescale)});", left, right, out)


def _filled(statement: str, used: Sequence[Value]) -> str:
    offsets = iter([value.buffer.offset for value in used])

    def place(match: re.Match[str]) -> str:
        offset = next(offsets)
        return f"values + {offset}" if match[0] == "@" else f"scratch + {offset // 4}"

    return re.sub("[@#]", place, statement)


def _factors(rescale: integer.Rescale) -> str:
    return ", ".join(map(str, (*rescale.factors, rescale.shift)))


_WRITERS: dict[type[graph.Node], Callable[[Plan, Any, int, Any], None]] = {
    kind: getattr(Plan, name) for name, kind in graph.OPERATIONS.items() if hasattr(Plan, name)
}
