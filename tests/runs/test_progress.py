"""The progress line, on a terminal and in a log."""

import io

import pytest

from ssm_jax.runs import progress as progresses
from ssm_jax.runs.progress import Counter, Progress, duration

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


def test_on_a_terminal_a_bar_gives_way_to_the_epochs_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    progress = Progress(10, 400, "seeds 0-2", stream=stream)
    progress.begin()
    progress.step(100, 1.5, left=3683)
    progress.show(1, VALUES, left=83)
    progress.done()
    compiling, bar, rest = stream.getvalue().split("\r")[1:]
    assert compiling == "compiling the training step ...\x1b[K"
    assert bar.startswith("seeds 0-2  epoch  1/10  100/400 |") and "loss 1.5000  1:01:23 left" in bar
    assert len(bar.removesuffix("\x1b[K")) < 80
    assert rest.startswith("\x1b[Kseeds 0-2  epoch  1/10  loss 0.5000") and rest.count("\n") == 1


def test_a_bar_is_taken_away_before_other_text():
    stream = Terminal()
    progress = Progress(10, 400, stream=stream)
    progress.step(100, None, left=1)
    progress.done()
    progress.done()
    assert stream.getvalue().endswith("\x1b[K\r\x1b[K")


def test_in_a_log_a_long_epoch_has_a_line_a_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progresses.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = Progress(10, 400, stream=stream)
    progress.begin()
    for now[0] in (59.0, 60.0, 61.0, 119.0, 121.0):
        if progress.is_due():
            progress.step(400 + round(now[0]), 1.5, left=83)
    assert stream.getvalue().splitlines() == [
        "epoch  2/10  step 60/400  loss 1.5000  1:23 left",
        "epoch  2/10  step 121/400  loss 1.5000  1:23 left",
    ]


def test_what_takes_long_is_counted_and_the_end_is_not(monkeypatch, capsys):
    times = iter((0.0, 2.0, 4.0, 4.5, 5.0, 9.0))
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    counter = Counter(3000, "images")
    for _ in range(4):
        counter.add(750)
    assert capsys.readouterr().err == "1,500 of 3,000 images\n"
