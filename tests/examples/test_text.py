"""The source of the standard library as text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from examples import text


@pytest.fixture(scope="module")
def library():
    return text.standard_library()


def test_a_tenth_of_the_modules_is_for_the_test(library):
    assert library.train.size > 2_000_000 and 0.05 < library.test.size / library.train.size < 0.25
    assert library.train.dtype == np.uint8 and max(library.train.max(), library.test.max()) < text.SYMBOLS
    # `abc` is the first module of all by its name unless there is `__future__`, which is the first then.
    first = library.test[:200].tobytes()
    assert first not in library.train.tobytes()
    assert b"import argparse" in library.train.tobytes() or b"import argparse" in library.test.tobytes()


def test_it_is_the_same_every_time(library):
    again = text.standard_library()
    np.testing.assert_array_equal(again.train, library.train)
    assert again.details == library.details and len(library.details["sha256"]) == 64


def test_bits_by_frequencies():
    """Of a, a, b and one more of every symbol: 3 and 2 of 131."""
    codes = np.frombuffer(b"aab", np.uint8)
    found = text.Text(codes, np.frombuffer(b"ab", np.uint8)).frequencies()
    assert found == pytest.approx(-(math.log2(3 / 131) + math.log2(2 / 131)) / 2)
