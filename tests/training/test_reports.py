"""A report waits until it is asked for; a clock counts training alone, and tells what is left."""

import io
import types

import numpy as np
import pytest

from ssm_jax import terminal
from ssm_jax.runs.metrics import Metrics, read_metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.training import reports as reporting
from ssm_jax.training.preemption import StopRequest
from ssm_jax.training.reports import Clock, Reports

VALUES = {
    "train_loss": np.array([1.0, 2.0, 3.0]),
    "test_accuracy": np.array([90.0, 10.0, 94.0]),
    "remaining_weights": np.array([0.1, 0.2, 0.3]),
}


def test_a_report_is_written_when_the_next_steps_run_and_once(tmp_path):
    stream = io.StringIO()
    snapshots = Snapshots(tmp_path)
    reports = Reports(Metrics(tmp_path), snapshots, Progress(5, stream=stream), [7, 8, 9], StopRequest())
    masks = {"dense": np.array([[[1, 0]], [[1, 1]], [[-1, 0]]], np.int8)}
    reports.add(2, 20, VALUES, masks, alive=[0, 2], images_per_second=1234.0, left=83.0)
    assert not read_metrics(tmp_path / "metrics.jsonl") and not stream.getvalue()
    for _ in range(2):
        reports.write_pending()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["seed"], line["epoch"], line["step"]) for line in lines] == [(7, 2, 20), (9, 2, 20)]
    assert [line["test_accuracy"] for line in lines] == [90.0, 94.0]
    (text,) = stream.getvalue().splitlines()
    for part in ("epoch 2/5", "loss 2.0000", "test 92.00 %", "remaining 20.00 %", "1,234 images/s", "1:23"):
        assert part in text
    assert [snapshots.steps(seed) for seed in (7, 8, 9)] == [[20], [], [20]]
    np.testing.assert_array_equal(snapshots.read(9, 20, {"dense": masks["dense"][2]})["dense"], [[-1, 0]])


def test_masks_are_written_only_where_there_are_some(tmp_path):
    progress = Progress(5, stream=io.StringIO())
    reports = Reports(Metrics(tmp_path), Snapshots(tmp_path), progress, [7], StopRequest())
    reports.add_initial({"dense": np.array([[[1, -1]]], np.int8)})
    reports.write_pending()
    values = {name: array[:1] for name, array in VALUES.items()}
    reports.add(1, 10, values, {}, alive=[0], images_per_second=1.0, left=1.0)
    reports.write_pending()
    assert Snapshots(tmp_path).steps(7) == [0] and len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_a_line_that_cannot_be_printed_asks_the_run_to_save_and_stop(tmp_path):
    stream = io.StringIO()
    stream.close()
    stop = StopRequest()
    reports = Reports(Metrics(tmp_path), Snapshots(tmp_path), Progress(5, stream=stream), [7], stop)
    values = {name: array[:1] for name, array in VALUES.items()}
    reports.add(1, 10, values, {}, alive=[0], images_per_second=1.0, left=1.0)
    reports.write_pending()
    reports.close()
    assert stop.is_set() and len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    error = stop.error("seed 7", "at step 10 of 50")
    assert isinstance(error, terminal.OutputError) and error.exit_status == 1
    assert str(error) == (
        "cannot print the output: it is closed; seed 7 stopped at step 10 of 50, which is saved"
    )


@pytest.fixture
def now(monkeypatch):
    """The time, which stands still but for what a test adds."""
    time = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(reporting.time, "monotonic", lambda: time.seconds)
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
