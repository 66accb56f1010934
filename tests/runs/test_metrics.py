"""`metrics.jsonl` and TensorBoard files."""

import json
import os

import pytest

from ssm_jax import errors
from ssm_jax.runs.metrics import Metrics, read_metrics


def lines(*steps):
    return [{"epoch": s, "step": s, "seed": 0, "time": 1.5e9 + s, "test_accuracy": 10.0 * s} for s in steps]


def recorded(folder):
    """The scalars that a reader of the TensorBoard files finds."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.rglob("events*"):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return sorted(found)


def test_metrics_are_appended_and_truncated_in_both_files(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.write(lines(1, 2, 3))
    metrics.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2, 3)
    metrics = Metrics(tmp_path)
    metrics.truncate(lambda line: line["step"] <= 1)
    metrics.write(lines(2))
    metrics.close()
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2)
    assert recorded(tmp_path / "tensorboard") == [("test_accuracy", 1, 10.0), ("test_accuracy", 2, 20.0)]


def test_a_line_torn_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(lines(1)[0]) + '\n{"epoch": 2, "st')
    assert read_metrics(path) == lines(1)


@pytest.mark.parametrize(
    "line", ["3", "{}", '{"epoch": 2, "st', '{"epoch": 1, "step": "2", "seed": 0, "time": 1}']
)
def test_a_damaged_line_before_others_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{json.dumps(lines(1)[0])}\n{line}\n{json.dumps(lines(3)[0])}\n")
    with pytest.raises(errors.InputError, match=r"line 2 of .*metrics\.jsonl is damaged, remove it"):
        read_metrics(path)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(errors.InputError, match="not a regular file"):
        read_metrics(tmp_path / "metrics.jsonl")
