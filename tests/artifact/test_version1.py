"""A file of the first version gives back what was written, and does no harm whatever it holds."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from artifact import fuzz
from artifact.test_format import same

from ssm_jax import errors
from ssm_jax.artifact import format, version1

# Written as the first version was: every operation and kind of array, and codes of both lengths.
FILE = pathlib.Path(__file__).parent / "files" / "version-1.ssm"


def test_everything_comes_back():
    found, expected = format.read(FILE), fuzz.small(units=100)
    same(expected.network, found.network)
    assert (found.class_names, found.record) == (expected.class_names, expected.record)
    assert FILE.read_bytes()[8] == version1.VERSION and format.encode(found)[8] == format.VERSION
    header, _, _ = fuzz.parts(FILE.read_bytes())
    counts = [sum(node["kernel"]["counts"]) for node in json.loads(header)["nodes"] if "kernel" in node]
    assert min(counts) < 10 and max(counts) > 4096


GOOD = {"values": [0, -1, 1], "counts": [1, 1, 1], "shift": 2}
DATA = bytes.fromhex("05c001")


def values(data=DATA, **changes):
    return version1.Decoder().values(GOOD | changes, memoryview(data), 12, "layer")


def test_events_become_values():
    # A run of four zeros; -1 without one before it; two zeros and 1.
    assert values().tolist() == [0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"values": [0, 1]},
        {"values": [0, 1, 1]},
        {"counts": [1, 5, 6]},
        {"counts": [3, 1, 1]},
        {"counts": [2**30, 1, 1]},
        {"values": [0], "counts": [1]},
        {"shift": 31},
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_refused(changes):
    with pytest.raises(errors.InputError, match="layer: the table of 12 values can't be right"):
        values(**changes)


@pytest.mark.parametrize(
    "changes", [{"values": [0, -128, 1]}, {"values": []}, {"counts": [1, 0, 1]}, {"shift": 32}], ids=str
)
def test_so_are_numbers_that_no_table_has(changes):
    with pytest.raises(errors.InputError, match=r"layer\.\w+ is "):
        values(**changes)


@pytest.mark.parametrize(
    "data", [b"", b"\x05", b"\x05\xc0\x02", b"\x05\xc0\x01\x00", b"\xff" * 5, b"\xff" * 6]
)
def test_other_bytes_are_refused(data):
    with pytest.raises(errors.InputError, match="layer: coded values are damaged"):
        values(data)


def test_no_change_of_a_long_code_goes_further_than_an_error():
    header, body, _ = fuzz.parts(FILE.read_bytes())
    kernels = [node["kernel"] for node in json.loads(header)["nodes"] if "kernel" in node]
    (place,) = [i for i, kernel in enumerate(kernels) if sum(kernel["counts"]) > 4096]
    given = kernels[place]
    size, length = int(np.prod(given["shape"])), given["bytes"]
    start = next(
        start
        for start in range(len(body) - length + 1)
        if decoded(given, body[start : start + length], size) is not None
    )
    code = body[start : start + length]
    for wrong in (*(code[:cut] for cut in (0, 1, 15, 16, 17, length - 2, length - 1)), code + b"\0\0"):
        assert decoded(given, wrong, size) is None
    rng = np.random.default_rng(0)
    for _ in range(30):
        changed = bytearray(code)
        changed[rng.integers(length)] ^= 1 << rng.integers(8)
        assert decoded(given, bytes(changed), size) is None


def decoded(given, code, size):
    """The values of a code; None where it is said to be damaged."""
    try:
        return version1.Decoder().values(given, memoryview(code), size, "layer")
    except errors.InputError as error:
        assert "damaged" in str(error)
        return None


def test_steps_are_counted_over_all_kernels(monkeypatch):
    monkeypatch.setattr(version1, "MOST_STEPS", 5)
    decoder = version1.Decoder()
    decoder.values(GOOD, memoryview(DATA), 12, "first")
    with pytest.raises(errors.InputError, match="second: it is decoded in more than the 5 steps allowed"):
        decoder.values(GOOD, memoryview(DATA), 12, "second")


def test_what_is_not_of_the_file_is_refused():
    header, body, _ = fuzz.parts(FILE.read_bytes())
    for wrong, said in (
        (fuzz.frame(header, body + b"\0", version=1), "it has 1 bytes that are of no array"),
        (fuzz.frame(header, body[:-1], version=1), "bytes, and"),
        (fuzz.frame(header.replace(b'"shift":', b'"shaft":', 1), body, version=1), "lacks shift"),
    ):
        with pytest.raises(errors.InputError, match=said):
            format.decode(wrong)
