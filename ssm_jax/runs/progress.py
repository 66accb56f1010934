"""The progress line of a run."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from ssm_jax import terminal


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
    """One line per epoch: updated in place on a terminal, plain lines in a log.

    Args:
      epochs: Number of epochs in all.
      label: Text before every line, for example `seeds 0-9`; may be empty.
      stream: A text stream; None is the process's standard output at the time.
    """

    def __init__(self, epochs: int, label: str = "", stream: Any = None) -> None:
        self._epochs = epochs
        self._label = f"{label}  " if label else ""
        self._stream = stream or sys.stdout
        # None is standard output that was closed before the program began.
        self._terminal = self._stream is not None and not self._stream.closed and self._stream.isatty()
        self._open = False

    def show(self, epoch: int, values: dict[str, float], left: float) -> None:
        """Report an epoch.

        Args:
          epoch: Number of epochs done.
          values: Means over seeds: `train_loss`, accuracies in %, `remaining_weights` as a share,
            `images_per_second`.
          left: Seconds to go.

        Raises:
          OutputError: The line cannot be printed.
        """
        parts = [
            f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}",
            f"loss {values['train_loss']:.4f}",
        ]
        for split in ("train", "validation", "test"):
            if f"{split}_accuracy" in values:
                parts.append(f"{split} {values[f'{split}_accuracy']:5.2f} %")
        parts.append(f"remaining {100 * values['remaining_weights']:5.2f} %")
        parts.append(f"{values['images_per_second']:,.0f} images/s")
        parts.append(f"{duration(left)} left")
        line = self._label + "  ".join(parts)
        if self._terminal:
            # A line that wraps could not be overwritten.
            line = line[: shutil.get_terminal_size().columns - 1]
        terminal.write(self._stream, f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        self._open = self._terminal

    def done(self) -> None:
        """End the line, so that what comes next begins on a new one."""
        if self._open:
            self._open = False
            terminal.write(self._stream, "\n")
