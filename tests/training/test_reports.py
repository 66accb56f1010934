"""A report waits until it is asked for, and leaves failed networks out."""

import io

import numpy as np

from ssm_jax.runs.metrics import Metrics, read_metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.training.reports import Reports

VALUES = {
    "train_loss": np.array([1.0, 2.0, 3.0]),
    "test_accuracy": np.array([90.0, 10.0, 94.0]),
    "remaining_weights": np.array([0.1, 0.2, 0.3]),
}


def test_a_report_is_written_when_the_next_steps_run_and_once(tmp_path):
    stream = io.StringIO()
    reports = Reports(Metrics(tmp_path), Progress(5, stream=stream), seeds=[7, 8, 9])
    reports.add(2, 20, VALUES, alive=[0, 2], images_per_second=1234.0, left=83.0)
    assert not read_metrics(tmp_path / "metrics.jsonl") and not stream.getvalue()
    for _ in range(2):
        reports.write_pending()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["seed"], line["epoch"], line["step"]) for line in lines] == [(7, 2, 20), (9, 2, 20)]
    assert [line["test_accuracy"] for line in lines] == [90.0, 94.0]
    (text,) = stream.getvalue().splitlines()
    for part in ("epoch 2/5", "loss 2.0000", "test 92.00 %", "remaining 20.00 %", "1,234 images/s", "1:23"):
        assert part in text
