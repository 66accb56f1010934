"""What is said of a network."""

import numpy as np
import pytest

from ssm_jax.artifact import graph
from ssm_jax.cli import describe
from ssm_jax.cli.describe import Sizes


def test_the_headline_says_what_is_known():
    record = {"network": "fcn", "dataset": "mnist", "rule": "signed", "seed": 3, "epochs": 5}
    results = {"test_accuracy": 97.944, "remaining_weights": 0.0377}
    assert describe.headline(record) == "fcn on mnist, signed, seed 3, 5 epochs"
    assert describe.headline(results) == "test accuracy 97.94 %, remaining weights 3.77 %"
    assert describe.headline(record | results) == (
        "fcn on mnist, signed, seed 3, 5 epochs: test accuracy 97.94 %, remaining weights 3.77 %"
    )
    assert describe.headline({"network": "fcn", "test_accuracy": None}) == "fcn"
    assert describe.headline({}) == ""


def test_a_value_of_a_record_is_one_line_that_can_be_printed():
    assert describe.plain("a\nb\x1b") == "a?b?"
    assert describe.plain("x" * 300) == "x" * 197 + "..."


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        # 16 weights of two values, half and half: a bit each.
        (np.int8([[1, 0] * 8]), Sizes(weights=16, float32=64, two_bits=4, entropy=2)),
        # 3 is no value of two bits.
        (np.int8([[3, 0] * 8]), Sizes(weights=16, float32=64, two_bits=None, entropy=2)),
        # Where the zeros are, and 8 numbers of 4 bytes.
        (np.float32([[0.5, 0] * 8]), Sizes(weights=16, float32=64, two_bits=None, entropy=2 + 32)),
        (np.zeros((4, 4), np.int8), Sizes(weights=16, float32=64, two_bits=4, entropy=0)),
    ],
)
def test_sizes_of_a_kernel(values, sizes):
    assert Sizes.of([graph.Kernel(values)]) == sizes


def test_sizes_of_kernels_add_up():
    kernels = [graph.Kernel(np.int8([[1, 0] * 8])), graph.Kernel(np.zeros((1, 16), np.int8))]
    assert Sizes.of(kernels) == Sizes(weights=32, float32=128, two_bits=8, entropy=2)


def test_sizes_stand_beside_that_of_the_file():
    lines = Sizes(weights=16, float32=64, two_bits=None, entropy=2).lines(8)
    assert [line.split("  ")[1] for line in lines] == ["the weights as float32", "the weights' entropy"]
    assert lines[0].endswith(" 64 bytes       8.00 times the file")
    assert lines[1].endswith(" 2 bytes       0.25 times the file")
