"""Kernels of the first version of `.ssm`, which is read and no longer written; numpy alone.

A kernel is a row of events, coded by ranges (rANS: Duda 2013, arXiv:1311.2540; interleaved as by Giesen 2014,
arXiv:1402.3392): a run of `2**shift` times the value that fills it, or one of its other values, before which
fewer of the filling value stand than a run is long; their number takes `shift` bits.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from typing import Any

import numpy as np

from ssm_jax import errors
from ssm_jax.artifact import header as checked

VERSION = 1
KEYS = ("bytes", "counts", "dtype", "scale", "shape", "shift", "values")  # of a kernel in the header
# Steps in which all kernels of a file are decoded, some 15 microseconds each.
MOST_STEPS = 2**19

_PRECISION = 14  # frequencies add up to this power of two
# Up to so many events are one integer; of more, every `_PER_STATE` have a state of 32 bits, which is at least
# `_LOWEST` between two events and takes in 16 bits when it gets below.
_SHORT, _PER_STATE, _MOST_STATES, _LOWEST = 4096, 1024, 4096, 1 << 16
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class _Table:
    """The different values, the filling one first; how many runs there are, then of every other value."""

    values: tuple[int, ...]
    counts: tuple[int, ...]
    shift: int

    @classmethod
    def of(cls, entry: dict[str, Any], size: int, name: str) -> _Table:
        values, counts = (checked.items(entry[key], f"{name}.{key}", 255) for key in ("values", "counts"))
        table = cls(
            values=tuple(checked.integer(value, f"{name}.values", -127, 127) for value in values),
            counts=tuple(
                checked.integer(count, f"{name}.counts", int(i > 0)) for i, count in enumerate(counts)
            ),
            shift=checked.integer(entry["shift"], f"{name}.shift", 0, 31),
        )
        lengths = len({*table.values}) == len(values) == len(counts)
        if (
            not lengths
            or (table.counts[0] << table.shift) + table.singles > size
            or (table.counts[0] and not table.singles)
        ):
            raise errors.InputError(f"{name}: the table of {size} values can't be right")
        return table

    @property
    def events(self) -> int:
        return sum(self.counts)

    @property
    def singles(self) -> int:
        return sum(self.counts[1:])

    @property
    def states(self) -> int:
        """How many states there are; 0 where all is one integer."""
        return 0 if self.events <= _SHORT else min(self.events // _PER_STATE, _MOST_STATES)

    @property
    def steps(self) -> int:
        """How many steps follow each other."""
        return -(-self.events // (self.states or 1))

    def frequencies(self) -> np.ndarray:
        counts = np.array(self.counts, np.int64)
        frequencies = 1 + counts * ((1 << _PRECISION) - len(counts)) // max(self.events, 1)
        frequencies[counts.argmax()] += (1 << _PRECISION) - frequencies.sum()
        return frequencies


class Decoder:
    """Reads the kernels of a file; it counts the steps that this takes."""

    def __init__(self) -> None:
        self._steps = 0

    def values(self, entry: dict[str, Any], data: memoryview, size: int, name: str) -> np.ndarray:
        """Read the whole numbers of a kernel.

        Takes at most twice `size` bytes of memory and a few megabytes, whatever the bytes are.

        Args:
          entry: Its entry in the header, with `values`, `counts` and `shift`.
          data: Its bytes.
          size: Number of values.
          name: What it is called.

        Returns:
          The values, int8 `[size]`.

        Raises:
          InputError: Entry or bytes are of no kernel of this size.
        """
        table = _Table.of(entry, size, name)
        self._steps += table.steps
        if self._steps > MOST_STEPS:
            raise errors.InputError(f"{name}: it is decoded in more than the {MOST_STEPS:,} steps allowed")
        try:
            events, plain = _long(table, data) if table.states else _short(table, data)
            return _placed(table, events, plain, size)
        except errors.InputError as error:
            raise errors.InputError(f"{name}: {error}") from error


def _placed(table: _Table, events: np.ndarray, plain: bytes | memoryview, size: int) -> np.ndarray:
    """Put the values of events where they belong."""
    values = np.full(size, table.values[0], np.int8)
    counts = np.bincount(events, minlength=len(table.counts))
    if not np.array_equal(counts, table.counts) or (len(events) and not events[-1]):
        raise _damaged()
    place, single, others = 0, 0, np.array(table.values, np.int8)
    for start in range(0, len(events), _CHUNK):
        chunk = events[start : start + _CHUNK]
        hits = np.flatnonzero(chunk)
        lengths = np.full(len(chunk), 1 << table.shift, np.int64)
        lengths[hits] = _unpack(plain, single, len(hits), table.shift) + 1
        ends = place + np.cumsum(lengths)
        if ends[-1] > size:
            raise _damaged()
        values[ends[hits] - 1] = others[chunk[hits]]
        place, single = int(ends[-1]), single + len(hits)
    return values


def _damaged() -> errors.InputError:
    return errors.InputError("coded values are damaged")


def _unpack(data: bytes | memoryview, first: int, count: int, width: int) -> np.ndarray:
    """Read `count` numbers of `width` bits, the lowest first, from number `first` on."""
    start, end = first * width, (first + count) * width
    octets = np.frombuffer(data, np.uint8)[start // 8 : -(-end // 8)]
    bits = np.zeros((count, 32), np.uint8)
    flat = np.unpackbits(octets, bitorder="little")[start % 8 :][: end - start]
    bits[:, :width] = flat.reshape(count, width)
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0]


def _short(table: _Table, data: memoryview) -> tuple[np.ndarray, bytes | memoryview]:
    # An integer that is longer than any of so many events would take long.
    plain_bits = table.singles * table.shift
    if len(data) > -(-(table.events * _PRECISION + plain_bits) // 8):
        raise _damaged()
    frequencies = table.frequencies().tolist()
    below = [0, *itertools.accumulate(frequencies)]
    state, events = int.from_bytes(data, "little"), []
    for _ in range(table.events):
        slot = state & ((1 << _PRECISION) - 1)
        event = bisect.bisect_right(below, slot) - 1
        state = frequencies[event] * (state >> _PRECISION) + slot - below[event]
        events.append(event)
    if state >> plain_bits or (len(data) and not data[-1]):
        raise _damaged()
    return np.array(events, np.uint8), state.to_bytes(-(-plain_bits // 8), "little")


def _long(table: _Table, data: memoryview) -> tuple[np.ndarray, bytes | memoryview]:
    count, size, plain_bits = table.states, table.events, table.singles * table.shift
    words_end = len(data) - -(-plain_bits // 8)
    if not 4 * count <= words_end <= 4 * count + 2 * size or words_end % 2:
        raise _damaged()
    frequencies = table.frequencies()
    events_of = np.repeat(np.arange(len(frequencies), dtype=np.uint8), frequencies)
    factors = np.repeat(frequencies, frequencies).astype(np.uint32)
    first = np.repeat(np.cumsum(frequencies) - frequencies, frequencies)
    offsets = (np.arange(1 << _PRECISION) - first).astype(np.uint32)
    states = np.frombuffer(data, "<u4", count).astype(np.uint32)
    words = np.frombuffer(data[:words_end], "<u2", offset=4 * count)
    events, used = np.empty(size, np.uint8), 0
    for start in range(0, size, count):
        state = states[: size - start]
        slots = state & np.uint32((1 << _PRECISION) - 1)
        events[start : start + count] = events_of[slots]
        state >>= _PRECISION
        state *= factors[slots]
        state += offsets[slots]
        low = np.flatnonzero(state < _LOWEST)
        taken = words[used : used + len(low)]
        if len(taken) < len(low):
            raise _damaged()
        state[low] = state[low] << 16 | taken
        used += len(low)
    plain = data[words_end:]
    spare = plain and plain[-1] >> ((plain_bits - 1) % 8 + 1)
    if used != len(words) or (states != _LOWEST).any() or spare:
        raise _damaged()
    return events, plain
