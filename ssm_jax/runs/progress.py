"""How far something is that takes long: the epochs of a run, and what a verb counts."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from ssm_jax import terminal

# From one look at the current epoch to the next.
_BAR_SECONDS, _LINE_SECONDS = 0.5, 60.0
# From one line of a verb to the next.
_COUNTER_SECONDS = 3


def duration(seconds: float) -> str:
    """Format seconds as `m:ss` or `h:mm:ss`.

    Examples:
      >>> duration(83), duration(3683)
      ('1:23', '1:01:23')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A line per epoch; within it a bar on a terminal, and in a log a line a minute.

    Args:
      label: Text before every line, for example `seeds 0-9`; may be empty.
      stream: A text stream; None is the process's standard output at the time.
    """

    def __init__(self, epochs: int, steps: int = 1, label: str = "", stream: Any = None) -> None:
        self._epochs = epochs
        self._steps = steps
        self._label = f"{label}  " if label else ""
        self._stream = stream or sys.stdout
        # None is standard output that was closed before the program began.
        self._terminal = self._stream is not None and not self._stream.closed and self._stream.isatty()
        self._interval = _BAR_SECONDS if self._terminal else _LINE_SECONDS
        self._said = time.monotonic()
        self._open = False

    def begin(self) -> None:
        """Say on a terminal why nothing moves at first."""
        if self._terminal:
            self._over("compiling the training step ...")

    def is_due(self) -> bool:
        """Whether it is time to call `step`."""
        return time.monotonic() - self._said >= self._interval

    def step(self, step: int, loss: float | None, left: float) -> None:
        """Report how far the current epoch is.

        Args:
          step: Steps taken, within an epoch.
          loss: The mean training loss of this epoch so far; None where it is not known.
          left: Seconds to go, of the whole run.
        """
        self._said = time.monotonic()
        epoch, done = divmod(step, self._steps)
        what = self._epoch(epoch + 1)
        parts = ([] if loss is None else [f"loss {loss:.4f}"]) + [f"{duration(left)} left"]
        if self._terminal:
            from tqdm import tqdm

            self._over(
                tqdm.format_meter(
                    done,
                    self._steps,
                    0,
                    ncols=shutil.get_terminal_size().columns - 1,
                    prefix=what,
                    bar_format=f"{{desc}}  {{n_fmt}}/{{total_fmt}} |{{bar}}| {'  '.join(parts)}",
                )
            )
        else:
            terminal.write(self._stream, f"{what}  step {done}/{self._steps}  {'  '.join(parts)}\n")

    def _epoch(self, epoch: int) -> str:
        return f"{self._label}epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}"

    def _over(self, line: str) -> None:
        """Write a line that the next one replaces."""
        terminal.write(self._stream, f"\r{line}\x1b[K")
        self._open = True

    def show(self, epoch: int, values: dict[str, float], left: float) -> None:
        """Report an epoch.

        Args:
          epoch: Number of epochs done.
          values: Means over seeds: `train_loss`, accuracies in %, `remaining_weights` as a share,
            `images_per_second`.
          left: Seconds to go.
        """
        parts = [self._epoch(epoch), f"loss {values['train_loss']:.4f}"]
        for split in ("train", "validation", "test"):
            if f"{split}_accuracy" in values:
                parts.append(f"{split} {values[f'{split}_accuracy']:5.2f} %")
        parts.append(f"remaining {100 * values['remaining_weights']:5.2f} %")
        parts.append(f"{values['images_per_second']:,.0f} images/s")
        parts.append(f"{duration(left)} left")
        self._said = time.monotonic()
        terminal.write(self._stream, f"{self._clear()}{'  '.join(parts)}\n")

    def done(self) -> None:
        """Take away what stands on the line, so that what comes next begins on a new one."""
        if text := self._clear():
            terminal.write(self._stream, text)

    def _clear(self) -> str:
        text, self._open = "\r\x1b[K" if self._open else "", False
        return text


class Counter:
    """A line every few seconds on standard error, and none of what is quick."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._count, self._next = 0, time.monotonic() + _COUNTER_SECONDS

    def add(self, count: int) -> None:
        """Count on, and say how far it is if it is time to."""
        self._count += count
        if time.monotonic() >= self._next and self._count < self._total:
            terminal.complain(f"{self._count:,} of {self._total:,} {self._what}")
            self._next = time.monotonic() + _COUNTER_SECONDS
