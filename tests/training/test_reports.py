"""A report waits until it is asked for, and leaves failed networks out."""

import io

import numpy as np

from ssm_jax import terminal
from ssm_jax.runs.metrics import Metrics, read_metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.training.preemption import StopRequest
from ssm_jax.training.reports import Reports

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
