"""Faults of arguments are one line, and help ends with examples."""

import pytest

from ssm_jax import errors
from ssm_jax.cli.parser import Parser


def parser():
    made = Parser(prog="ssm-jax verb", description="Do it.", examples=["a --long", "b"])
    made.add_argument("name")
    made.add_argument("--long", action="store_true")
    return made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: name (see ssm-jax verb --help)"),
        (["a", "b"], "unrecognized arguments: b (see ssm-jax verb --help)"),
        (["a", "--lon"], "unrecognized arguments: --lon (see ssm-jax verb --help)"),
    ],
)
def test_a_fault_is_one_line(arguments, message):
    with pytest.raises(errors.InputError) as caught:
        parser().parse_args(arguments)
    assert str(caught.value) == message


def test_help_ends_with_the_examples():
    assert parser().format_help().endswith("examples:\n  ssm-jax verb a --long\n  ssm-jax verb b\n")
