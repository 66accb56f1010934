"""What is said of a network."""

from ssm_jax.artifact.sizes import Sizes
from ssm_jax.cli import describe


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


def test_sizes_stand_beside_that_of_the_file():
    lines = describe.beside_file(Sizes(weights=16, float32=64, two_bits=None, entropy=2), 8)
    assert [line.split("  ")[1] for line in lines] == ["the weights as float32", "the weights' entropy"]
    assert lines[0].endswith(" 64 bytes       8.00 times the file")
    assert lines[1].endswith(" 2 bytes       0.25 times the file")
