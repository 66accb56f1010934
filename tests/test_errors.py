"""The exit statuses, and the one line that an unknown name gets."""

from __future__ import annotations

import pytest

from ssm_jax import errors


@pytest.mark.parametrize(
    ("error", "base", "status"),
    [
        (errors.InputError("x"), ValueError, 2),
        (errors.RunError("x"), RuntimeError, 1),
        (errors.Preempted("x", 15), RuntimeError, 143),
        (errors.Preempted("x", 2), RuntimeError, 130),
    ],
)
def test_exit_status(error, base, status):
    assert isinstance(error, base) and str(error) == "x"
    assert error.exit_status == status


def test_unknown_names_what_was_given_what_is_allowed_and_the_nearest():
    error = errors.unknown("network", "conv9", ["fcn", "conv8"])
    assert isinstance(error, errors.InputError)
    assert str(error) == "unknown network 'conv9'; did you mean 'conv8'? (allowed: fcn, conv8)"


def test_unknown_gives_no_hint_when_nothing_is_near():
    message = str(errors.unknown("schedule", "zzz", ["cosine", "plateau"]))
    assert message == "unknown schedule 'zzz' (allowed: cosine, plateau)"


@pytest.mark.parametrize("given", [7, None, ""])
def test_unknown_takes_whatever_the_user_wrote(given):
    assert repr(given) in str(errors.unknown("network", given, iter(["fcn"])))


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("trainig.epochs", "training.epochs"),
        ("schedul.epochs", "schedule.decay_epochs"),
        ("optimizer.zzz", None),
    ],
)
def test_the_last_part_of_a_name_decides_what_was_meant(given, nearest):
    allowed = ["optimizer.clip", "optimizer.learning_rate", "schedule.decay_epochs", "training.epochs"]
    message = str(errors.unknown("config field", given, allowed))
    assert f"did you mean {nearest!r}" in message if nearest else "did you mean" not in message
