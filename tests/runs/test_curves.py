"""Training curves averaged over seeds."""

import pytest

from ssm_jax import errors
from ssm_jax.runs import curves

LINES = [
    {"epoch": 2, "step": 20, "seed": 0, "time": 3.0, "test_accuracy": 92.0, "remaining_weights": 0.1},
    {"epoch": 1, "step": 10, "seed": 0, "time": 1.0, "test_accuracy": 90.0, "remaining_weights": 0.5},
    {"epoch": 1, "step": 10, "seed": 1, "time": 2.0, "test_accuracy": 80.0, "remaining_weights": 0.3},
]
MEANS = [
    {"epoch": 1, "n": 2, "test_accuracy": 85.0, "remaining_weights": 0.4},
    {"epoch": 2, "n": 1, "test_accuracy": 92.0, "remaining_weights": 0.1},
]


def test_an_epoch_is_the_mean_of_the_seeds_that_reached_it():
    assert curves.of_metrics(LINES) == MEANS


def test_curves_count_by_their_networks():
    more = [{"epoch": 1, "n": 4, "test_accuracy": 91.0, "remaining_weights": 0.1}]
    first, second = curves.merge([*MEANS, *more])
    assert first == pytest.approx({"epoch": 1, "n": 6, "test_accuracy": 89.0, "remaining_weights": 0.2})
    assert second == MEANS[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,n\n1,one\n", "not one number"),
        ("epoch,n\n1\n", "not one number"),
        ("epoch\n1\n", "no column n"),
    ],
)
def test_what_is_no_curve_is_one_line(text, message):
    with pytest.raises(errors.InputError, match=message):
        curves.from_csv(text)


def test_a_curve_comes_back_from_its_file():
    assert curves.from_csv(curves.to_csv(MEANS)) == MEANS
    assert curves.from_csv(curves.to_csv([])) == []
