"""`metrics.jsonl` and TensorBoard files."""

import json
import os
import resource
import shutil

import pytest

from ssm_jax import errors, files
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
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2, 3)
    metrics = Metrics(tmp_path)
    metrics.discard_after([0], 1)
    metrics.write(lines(2))
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2)
    assert recorded(tmp_path / "tensorboard") == [("test_accuracy", 1, 10.0), ("test_accuracy", 2, 20.0)]


def test_lines_of_other_seeds_stay_and_nothing_is_written_where_nothing_is_dropped(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path)
    metrics.write(lines(1, 2))
    metrics.discard_after([1], 0)
    assert read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", None)
        patch.setattr(shutil, "rmtree", None)
        metrics.discard_after([2, 3], 0)
        metrics.discard_after([0], 2)
    metrics.write([line | {"seed": 2} for line in lines(1, 2)])
    metrics.discard_after([2, 3], 1)
    assert read_metrics(tmp_path / "metrics.jsonl") == [*lines(1, 2), lines(1)[0] | {"seed": 2}]
    assert len(recorded(tmp_path / "tensorboard")) == 3


def test_there_may_be_more_seeds_than_a_process_may_have_files(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, limits[1]))
    try:
        metrics = Metrics(tmp_path)
        for seed in range(300):
            metrics.discard_after([seed], 0)
            metrics.write([lines(1)[0] | {"seed": seed}])
        Metrics(tmp_path).discard_after([300], 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(recorded(tmp_path / "tensorboard")) == 300


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(errors.RunError, match=r"cannot write .*/tensorboard/seed_0/events"):
        Metrics(tmp_path).write(lines(1))


def test_what_a_link_points_to_is_not_written_to(tmp_path):
    (tmp_path / "precious").write_text("text")
    (tmp_path / "metrics.jsonl").symlink_to("precious")
    with pytest.raises(errors.RunError, match=r"cannot write .*metrics\.jsonl: it is a symbolic link"):
        Metrics(tmp_path).write(lines(1))
    assert (tmp_path / "precious").read_text() == "text"


def test_a_line_torn_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(lines(1)[0]) + '\n{"epoch": 2, "st')
    assert read_metrics(path) == lines(1)


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "{}",
        '{"epoch": 2, "st',
        *(f'{{"epoch": 1, "step": {step}, "seed": 0, "time": 1}}' for step in ('"2"', 1.5, -1)),
        f'{{"epoch": 1, "step": 2, "seed": 0, "time": {10**400}}}',
    ],
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


def test_a_line_without_end_is_not_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines(1)))
    with path.open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(errors.InputError, match=r"line 2 of .* is damaged, .* more than 65,536 bytes"):
        read_metrics(path)
