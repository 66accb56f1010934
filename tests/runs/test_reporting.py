import io
import json

import pytest

from ssm_jax.runs import reporting

VALUES = {
    "train_loss": 0.5,
    "train_accuracy": 80.0,
    "test_accuracy": 75.25,
    "remaining_weights": 0.125,
    "images_per_second": 12345.6,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (83, "1:23"), (3683, "1:01:23"), (90000, "25:00:00")]
)
def test_durations(seconds, text):
    assert reporting.duration(seconds) == text


def test_in_a_log_every_epoch_is_a_plain_line():
    stream = io.StringIO()
    progress = reporting.Progress(10, stream=stream)
    progress.show(1, VALUES, left=83)
    progress.show(2, VALUES, left=60)
    progress.done()
    first, second = stream.getvalue().splitlines()
    assert first == (
        "epoch  1/10  loss 0.5000  train 80.00 %  test 75.25 %  remaining 12.50 %  12,346 images/s  1:23 left"
    )
    assert second.startswith("epoch  2/10")


def test_on_a_terminal_the_line_updates_in_place_and_ends_once():
    stream = Terminal()
    progress = reporting.Progress(10, "seeds 0-2", stream=stream)
    progress.show(1, VALUES, left=83)
    progress.show(2, VALUES, left=60)
    progress.done()
    progress.done()
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.count("\r") == 2 and "seeds 0-2  epoch  2/10" in text


def lines(*steps):
    return [{"epoch": s, "step": s, "seed": 0, "time": 1.5e9 + s, "test_accuracy": 10.0 * s} for s in steps]


def recorded(folder):
    """The scalars that a reader of the TensorBoard files finds."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # noqa: F401 - the writer of these files

    found = []
    for path in folder.rglob("events*"):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return sorted(found)


def test_metrics_are_appended_and_cut_back_in_both_files(tmp_path):
    metrics = reporting.Metrics(tmp_path)
    metrics.write(lines(1, 2, 3))
    metrics.close()
    assert reporting.read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2, 3)
    metrics = reporting.Metrics(tmp_path)
    metrics.cut(lambda line: line["step"] <= 1)
    metrics.write(lines(2))
    metrics.close()
    assert reporting.read_metrics(tmp_path / "metrics.jsonl") == lines(1, 2)
    assert recorded(tmp_path / "tensorboard") == [("test_accuracy", 1, 10.0), ("test_accuracy", 2, 20.0)]


def test_a_line_torn_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(lines(1)[0]) + '\n{"epoch": 2, "st')
    assert reporting.read_metrics(path) == lines(1)


def test_statistics_use_n_minus_one():
    assert reporting.statistics([1.0, 3.0]) == {
        "mean": 2.0,
        "std": pytest.approx(2**0.5),
        "values": [1.0, 3.0],
    }
    assert reporting.statistics([5.0])["std"] == 0.0


def test_the_table_shows_layers_total_and_result():
    summary = {
        "network": "fcn",
        "dataset": "digits",
        "method": "signed",
        "seeds": [0, 1],
        "epochs": 2,
        "test_accuracy": reporting.statistics([90.0, 92.0]),
        "remaining_weights": reporting.statistics([0.02, 0.04]),
        "train_seconds": 1.25,
        "compile_seconds": 2.0,
        "images_per_second": 1000.0,
        "device": "cpu",
        "device_count": 1,
        "failed_seeds": [{"seed": 2, "step": 7, "metric": "loss"}],
        "layers": [
            {
                "name": "denses/0",
                "shape": [4, 2],
                "weights": 8,
                "inverted": 0.25,
                "hidden": 0.5,
                "kept": 0.25,
            },
            {
                "name": "denses/1",
                "shape": [2, 12],
                "weights": 24,
                "inverted": 0.0,
                "hidden": 1.0,
                "kept": 0.0,
            },
        ],
    }
    text = reporting.table(summary)
    assert "denses/0  4x2           8  25.00   50.00  25.00" in text
    assert "all                    32   6.25   87.50   6.25" in text
    assert "2 seeds, 2 epochs: test accuracy 91.00 ± 1.41 %, remaining weights 3.00 ± 1.41 %" in text
    assert "seed 2 failed: loss not finite at step 7" in text
    dense = reporting.table(summary | {"method": "dense"})  # has no mask whose shares could be told
    assert "denses/0  4x2           8\n" in dense
    assert "all                    32\n" in dense
