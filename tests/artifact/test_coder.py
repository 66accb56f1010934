"""The coder gives back what it took, in few bytes, and refuses everything else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ssm_jax import errors
from ssm_jax.artifact import coder


def drawn(size: int, density: float, positive: float = 0.5, seed: int = 0) -> np.ndarray:
    """-1, 0 and 1 by chance."""
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(size) < positive, 1, -1)
    return np.where(rng.random(size) < density, signs, 0).astype(np.int8)


def round_trip(values: np.ndarray) -> bytes:
    table, data = coder.encode(values)
    np.testing.assert_array_equal(coder.decode(table, data, values.size), values.ravel())
    return data


# The example of docs/format.md.
EXAMPLE = np.int8([0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0])


def test_an_array_by_hand():
    # Runs of 4 zeros: one, then -1 with 0 zeros before it, then 1 with 2, so that plain is 0b1000.
    table, data = coder.encode(EXAMPLE)
    assert table == coder.Table(values=(0, -1, 1), counts=(1, 1, 1), shift=2)
    # 1 + 1 * (2**14 - 3) // 3 each, and what is missing to 2**14 to the first.
    assert table.frequencies().tolist() == [5462, 5461, 5461]
    state = 8 // 5461 * 2**14 + 5462 + 5461 + 8 % 5461  # 1, the last event, comes first
    state = state // 5461 * 2**14 + 5462 + state % 5461  # -1
    state = state // 5462 * 2**14 + state % 5462  # the run
    assert data == state.to_bytes(3, "little") == bytes.fromhex("05c001")


def test_what_is_one_value_takes_no_byte():
    for value in (0, 1, -127):
        assert coder.encode(np.full((3, 4), value, np.int8)) == (coder.Table((value,), (0,), 0), b"")
        round_trip(np.full((3, 4), value, np.int8))


DENSITIES = (0.001, 0.002, 0.005, 0.0117, 0.04, 0.1, 0.2, 0.35, 0.5, 0.6, 0.8, 0.9, 1.0)


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("positive", [0.5, 0.8, 0.99])
@pytest.mark.parametrize("size", [10_000, 40_000])
def test_no_layer_takes_five_percent_more_than_its_entropy(size, density, positive):
    values = drawn(size, density, positive)
    assert 8 * len(round_trip(values)) <= 1.05 * coder.entropy(values)


@pytest.mark.parametrize("size", [36_864, 235_200, 2_359_296])
def test_layers_of_the_networks_take_three_percent_more_at_most(size):
    values = drawn(size, 0.0117)
    assert 8 * len(round_trip(values)) <= 1.03 * coder.entropy(values)


def test_entropy_is_that_of_the_shares():
    assert coder.entropy(np.int8([0, 1, 0, 1, 0, 1, -1, -1])) == pytest.approx(
        -(6 * np.log2(3 / 8) + 2 * np.log2(2 / 8))
    )
    assert coder.entropy(np.zeros(5, np.int8)) == 0


@st.composite
def kernels(draw: st.DrawFn) -> np.ndarray:
    """Flat int8 kernels, some longer than what is coded as one; shares, alphabet and the odd one out vary."""
    size = draw(st.integers(1, 2 * coder.SHORT + 7))
    highest, density = draw(st.sampled_from([1, 3, 127])), draw(st.floats(0, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(-highest, highest + 1, size) * (rng.random(size) < density)
    lonely = draw(st.dictionaries(st.integers(0, size - 1), st.integers(-127, 127), max_size=2))
    values[list(lonely)] = list(lonely.values())
    return values.astype(np.int8)


@given(kernels())
def test_every_kernel_comes_back(values):
    round_trip(values)


def test_coats_in_geometric_shares_stay_near_their_entropy():
    values = np.random.default_rng(0).geometric(0.6, 20_000).clip(0, 100).astype(np.int8) - np.int8(1)
    assert 8 * len(round_trip(values)) <= 1.03 * coder.entropy(values)


def test_shapes_are_read_rows_first():
    values = np.int8([[0, 1], [-1, 0]])
    assert coder.encode(values.T) == coder.encode(np.int8([0, -1, 1, 0]))


GOOD = coder.Table(values=(0, -1, 1), counts=(1, 1, 1), shift=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": (0, 1)},
        {"values": (0, 1, 1)},
        {"values": (0, -128, 1)},
        {"values": (), "counts": ()},
        {"counts": (1, 0, 1)},
        {"counts": (-1, 1, 1)},
        {"counts": (1, 5, 6)},
        {"counts": (3, 1, 1)},
        {"counts": (2**40, 1, 1)},
        {"values": (0,), "counts": (1,)},
        {"shift": -1},
        {"shift": 32},
        {"shift": 31},
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_refused(changes):
    with pytest.raises(errors.InputError, match="the table of 12 values can't be right"):
        coder.decode(dataclasses.replace(GOOD, **changes), bytes.fromhex("05c001"), 12)


@pytest.mark.parametrize(
    "data", [b"", b"\x05", b"\x05\xc0\x02", b"\x05\xc0\x01\x00", b"\xff" * 5, b"\xff" * 6]
)
def test_other_bytes_are_refused(data):
    with pytest.raises(errors.InputError, match="damaged"):
        coder.decode(GOOD, data, 12)


@given(kernels(), st.data())
def test_no_change_of_a_code_goes_further_than_an_error(values, data):
    table, code = coder.encode(values)
    assume(code)
    place = data.draw(st.integers(0, len(code) - 1))
    for other in (code[:place], code + b"\0\0"):
        with pytest.raises(errors.InputError, match="damaged"):
            coder.decode(table, other, values.size)
    changed = bytearray(code)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = coder.decode(table, bytes(changed), values.size)
    except errors.InputError:
        return
    # A short code may be another one's; a long one ends in a state that must be right.
    assert table.events <= coder.SHORT
    assert found.shape == values.shape and set(found.tolist()) <= set(table.values)
