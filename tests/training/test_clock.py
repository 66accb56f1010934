"""A clock counts training without compilation, over processes, and tells what is left."""

import types

import pytest

from ssm_jax.training import clock as clocks
from ssm_jax.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """The time, which stands still but for what a test adds."""
    time = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(clocks.time, "monotonic", lambda: time.seconds)
    return time


def programs(compile_seconds=0.0):
    return types.SimpleNamespace(compile_seconds=compile_seconds)


def test_compilation_is_no_training(now):
    made = programs(compile_seconds=50.0)  # by another group
    clock = Clock(made)
    with clock.training():
        now.seconds += 10
        made.compile_seconds += 4
    assert clock.train_seconds == 6
    assert clock.compile_seconds == 4


def test_another_process_goes_on_where_the_first_ended(now):
    first = Clock(programs())
    with first.training():
        now.seconds += 3
    second = Clock(programs())
    second.load(first.meta())
    with second.training():
        now.seconds += 4
    assert second.train_seconds == 7


def test_what_is_left_counts_evaluations_but_no_compilation(now):
    made = programs()
    clock = Clock(made)
    clock.begin(step=100)
    with clock.training():
        now.seconds += 30
        made.compile_seconds += 10
    now.seconds += 5  # an evaluation
    assert clock.left(step=150, total=250, every=50) == 2 * (20 + 5)


def test_what_is_left_does_not_take_an_evaluation_for_a_few_steps(now):
    clock = Clock(programs())
    clock.begin(step=98)  # of a run that was stopped there
    with clock.training():
        now.seconds += 2
    now.seconds += 30  # the evaluation at step 100
    assert clock.left(step=100, total=250, every=100) == 150 * 1 + 2 * 30


def test_the_rate_is_that_since_the_last_report(now):
    clock = Clock(programs())
    clock.begin(step=10)
    for seconds, step, rate in ((2, 30, 10), (4, 40, 2.5)):
        with clock.training():
            now.seconds += seconds
        assert clock.rate(step) == rate


def test_a_save_is_due_so_long_after_the_last(now):
    clock = Clock(programs())
    clock.begin(step=0)
    now.seconds += 60
    assert clock.save_is_due(60) and not clock.save_is_due(61)
    clock.saved()
    assert not clock.save_is_due(1)


def test_what_is_left_before_the_first_evaluation_is_training_alone(now):
    clock = Clock(programs())
    clock.begin(step=0)
    with clock.training():
        now.seconds += 20
    assert clock.left(step=10, total=250, every=100) == 240 * 2
