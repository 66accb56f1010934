"""A coder for arrays of a few whole numbers, most of which may be the same one; numpy alone.

What an array holds most often fills it. It is coded as a row of events: a run of `2**shift` times the filling
value, or one of the other values, before which some more of the filling value stand, fewer than a run. Their
number takes `shift` bits, plain; the events are coded by ranges, with the numbers of events as a table (rANS:
Duda 2013, arXiv:1311.2540; interleaved as by Giesen 2014, arXiv:1402.3392). `docs/format.md` has every byte.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools

import numpy as np

from ssm_jax import errors

# Frequencies add up to this power of two.
PRECISION = 14
# Up to so many events are one integer; of more, every `_PER_STATE` have a state of 32 bits.
SHORT = 4096
_PER_STATE = 1024
_MOST_STATES = 4096
# A state of 32 bits is at least this between two events, and takes in 16 bits when it gets below.
_LOWEST = 1 << 16

_CHUNK = 1 << 16
_MOST_SHIFT = 31


@dataclasses.dataclass(frozen=True)
class Table:
    """What the coder knows of an array beside its size.

    Attributes:
      values: The different values, in -127 to 127; the one that fills the array comes first.
      counts: Number of runs, then of every other value.
      shift: A run is `2**shift` long.
    """

    values: tuple[int, ...]
    counts: tuple[int, ...]
    shift: int

    @property
    def events(self) -> int:
        """Number of runs and of values that are not the filling one."""
        return sum(self.counts)

    @property
    def singles(self) -> int:
        """Number of values that are not the filling one."""
        return sum(self.counts[1:])

    @property
    def steps(self) -> int:
        """Number of steps that decoding takes, one after another."""
        return self.events if self.events <= SHORT else -(-self.events // _states(self.events))

    def check(self, size: int) -> None:
        """Check that an array can have this table.

        Args:
          size: Number of values of the array.

        Raises:
          InputError: It can't.
        """
        if (
            not 1 <= len(self.values) == len(self.counts) == len(set(self.values))
            or not all(-127 <= value <= 127 for value in self.values)
            or not 0 <= self.shift <= _MOST_SHIFT
            or self.counts[0] < 0
            or not all(count > 0 for count in self.counts[1:])
            or (self.counts[0] << self.shift) + self.singles > size
            or (self.singles == 0 and self.counts[0] > 0)
        ):
            raise errors.InputError(f"the table of {size} values can't be right")

    def frequencies(self) -> np.ndarray:
        """Return the frequency of every event, int64, at least 1 each; they add up to `2**PRECISION`."""
        counts = np.array(self.counts, np.int64)
        found = 1 + counts * ((1 << PRECISION) - len(counts)) // max(self.events, 1)
        found[counts.argmax()] += (1 << PRECISION) - found.sum()
        return found


def entropy(values: np.ndarray) -> float:
    """Compute the entropy of order 0 of an array, in bits.

    Args:
      values: int8, any shape.

    Examples:
      >>> entropy(np.int8([0, 1, 0, 1]))
      4.0
    """
    counts = _histogram(values)
    counts = counts[counts > 0]
    return float((counts * np.log2(values.size / counts)).sum())


def encode(values: np.ndarray) -> tuple[Table, bytes]:
    r"""Code an array.

    Args:
      values: int8, any shape, in -127 to 127, not empty.

    Returns:
      Its table and its bytes.

    Examples:
      >>> encode(np.int8([0, 0, 0, -1, 0, 0, 1, 0]))
      (Table(values=(0, -1, 1), counts=(2, 1, 1), shift=1), b'\x01\xc0\x02')
    """
    flat = np.ravel(values)
    counts = _histogram(flat)
    fill = int(counts.argmax()) - 128
    others = [int(value) for value in np.flatnonzero(counts) - 128 if value != fill]
    places = np.flatnonzero(flat != fill)
    singles = len(places)
    # A run is then about 0.35 to 0.7 of the mean distance, in whole numbers on every machine.
    shift = max((7 * flat.size // (10 * singles)).bit_length() - 1, 0) if singles else 0
    gaps = np.diff(places, prepend=-1) - 1
    runs, rest = gaps >> shift, gaps & ((1 << shift) - 1)
    table = Table((fill, *others), (int(runs.sum()), *(int(counts[value + 128]) for value in others)), shift)
    symbols = np.zeros(256, np.uint8)
    symbols[np.array(others, np.int64) + 128] = np.arange(1, len(others) + 1)
    events = np.zeros(table.events, np.uint8)
    events[np.cumsum(runs + 1) - 1] = symbols[flat[places].astype(np.int64) + 128]
    plain = _pack(rest, shift)
    if table.events <= SHORT:
        return table, _encode_short(table, events, plain)
    return table, _encode_long(table, events) + plain


def decode(table: Table, data: bytes | memoryview, size: int) -> np.ndarray:
    """Read what `encode` made.

    Takes at most twice `size` bytes of memory and a few megabytes, whatever the bytes are.

    Args:
      table: The table of the array.
      data: The bytes of the array.
      size: Number of values.

    Returns:
      The values, int8 `[size]`.

    Raises:
      InputError: Table or bytes are of no array of this size.
    """
    table.check(size)
    plain: bytes | memoryview
    if table.events <= SHORT:
        events, plain = _decode_short(table, data)
    else:
        events, plain = _decode_long(table, data)
    values = np.full(size, table.values[0], np.int8)
    if len(events) and not events[-1]:
        raise _damaged()
    counts = np.zeros(len(table.counts), np.int64)
    place, single = 0, 0
    for start in range(0, len(events), _CHUNK):
        chunk = events[start : start + _CHUNK]
        counts += np.bincount(chunk, minlength=len(counts))
        hits = np.flatnonzero(chunk)
        # As many as the plain bits were said to be of.
        if single + len(hits) > table.singles:
            raise _damaged()
        lengths = np.full(len(chunk), 1 << table.shift, np.int64)
        lengths[hits] = _unpack(plain, single, len(hits), table.shift) + 1
        ends = place + np.cumsum(lengths)
        if ends[-1] > size:
            raise _damaged()
        values[ends[hits] - 1] = np.array(table.values, np.int8)[chunk[hits]]
        place, single = int(ends[-1]), single + len(hits)
    if not np.array_equal(counts, table.counts):
        raise _damaged()
    return values


def _damaged() -> errors.InputError:
    return errors.InputError("coded values are damaged")


def _histogram(values: np.ndarray) -> np.ndarray:
    return np.bincount(values.ravel().view(np.uint8) ^ np.uint8(128), minlength=256)


def _plain_bytes(singles: int, shift: int) -> int:
    return -(-singles * shift // 8)


def _pack(numbers: np.ndarray, width: int) -> bytes:
    """Write numbers of `width` bits one after another, from the lowest bit of the first byte on."""
    octets = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.packbits(
        np.unpackbits(octets, axis=1, bitorder="little")[:, :width], bitorder="little"
    ).tobytes()


def _unpack(data: bytes | memoryview, first: int, count: int, width: int) -> np.ndarray:
    """Read `count` numbers of `width` bits from number `first` on."""
    if not width or not count:
        return np.zeros(count, np.uint32)
    start, end = first * width, (first + count) * width
    octets = np.frombuffer(data, np.uint8)[start // 8 : -(-end // 8)]
    bits = np.zeros((count, 32), np.uint8)
    bits[:, :width] = np.unpackbits(octets, bitorder="little")[start % 8 :][: end - start].reshape(
        count, width
    )
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0]


def _encode_short(table: Table, events: np.ndarray, plain: bytes) -> bytes:
    frequencies = table.frequencies().tolist()
    below = [0, *itertools.accumulate(frequencies)]
    state = int.from_bytes(plain, "little")
    for event in reversed(events.tolist()):
        whole, rest = divmod(state, frequencies[event])
        state = (whole << PRECISION) + below[event] + rest
    return state.to_bytes(-(-state.bit_length() // 8), "little")


def _decode_short(table: Table, data: bytes | memoryview) -> tuple[np.ndarray, bytes]:
    # An integer that is longer than any of so many events would take long.
    plain_bits = table.singles * table.shift
    if len(data) > -(-(table.events * PRECISION + plain_bits) // 8):
        raise _damaged()
    frequencies = table.frequencies().tolist()
    below = [0, *itertools.accumulate(frequencies)]
    state, events = int.from_bytes(data, "little"), []
    for _ in range(table.events):
        slot = state & ((1 << PRECISION) - 1)
        event = bisect.bisect_right(below, slot) - 1
        state = frequencies[event] * (state >> PRECISION) + slot - below[event]
        events.append(event)
    if state >> plain_bits or (len(data) and not data[-1]):
        raise _damaged()
    return np.array(events, np.uint8), state.to_bytes(_plain_bytes(table.singles, table.shift), "little")


def _states(events: int) -> int:
    return min(events // _PER_STATE, _MOST_STATES)


def _encode_long(table: Table, events: np.ndarray) -> bytes:
    frequencies = table.frequencies().astype(np.uint32)
    below = np.cumsum(frequencies, dtype=np.uint32) - frequencies
    count = _states(len(events))
    states, words = np.full(count, _LOWEST, np.uint32), []
    for start in range((len(events) - 1) // count * count, -1, -count):
        row = events[start : start + count]
        frequency, state = frequencies[row], states[: len(row)]
        full = state >= frequency << (32 - PRECISION)
        words.append(state[full].astype("<u2"))
        state[full] >>= 16
        whole, rest = np.divmod(state, frequency)
        states[: len(row)] = (whole << PRECISION) + below[row] + rest
    return states.astype("<u4").tobytes() + b"".join(word.tobytes() for word in reversed(words))


def _decode_long(table: Table, data: bytes | memoryview) -> tuple[np.ndarray, memoryview]:
    count, size = _states(table.events), table.events
    words_end = len(data) - _plain_bytes(table.singles, table.shift)
    if not 4 * count <= words_end <= 4 * count + 2 * size or words_end % 2:
        raise _damaged()
    frequencies = table.frequencies()
    events_of = np.repeat(np.arange(len(frequencies), dtype=np.uint8), frequencies)
    factors = np.repeat(frequencies, frequencies).astype(np.uint32)
    first = np.repeat(np.cumsum(frequencies) - frequencies, frequencies)
    offsets = (np.arange(1 << PRECISION) - first).astype(np.uint32)
    states = np.frombuffer(data, "<u4", count).astype(np.uint32)
    words = np.frombuffer(data[:words_end], "<u2", offset=4 * count)
    events, used = np.empty(size, np.uint8), 0
    for start in range(0, size, count):
        state = states[: size - start]
        slots = state & np.uint32((1 << PRECISION) - 1)
        events[start : start + count] = events_of[slots]
        state >>= PRECISION
        state *= factors[slots]
        state += offsets[slots]
        low = np.flatnonzero(state < _LOWEST)
        if len(low):
            taken = words[used : used + len(low)]
            if len(taken) < len(low):
                raise _damaged()
            state[low] = state[low] << 16 | taken
            used += len(low)
    plain = memoryview(data)[words_end:]
    spare = plain and plain[-1] >> ((table.singles * table.shift - 1) % 8 + 1)
    if used != len(words) or (states != _LOWEST).any() or spare:
        raise _damaged()
    return events, plain
