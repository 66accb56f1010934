"""The progress line, on a terminal and in a log."""

import io

import pytest

from ssm_jax.runs.progress import Progress, duration

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
    assert duration(seconds) == text


def test_in_a_log_every_epoch_is_a_plain_line():
    stream = io.StringIO()
    progress = Progress(10, stream=stream)
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
    progress = Progress(10, "seeds 0-2", stream=stream)
    progress.show(1, VALUES, left=83)
    progress.show(2, VALUES, left=60)
    progress.done()
    progress.done()
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.count("\r") == 2 and "seeds 0-2  epoch  2/10" in text
