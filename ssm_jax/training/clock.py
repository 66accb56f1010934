"""The time of a group of networks: trained, compiled, left, since the last save."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ssm_jax.training.programs import Programs


class Clock:
    """The clock of one group in one process.

    Args:
      programs: The group's programs, which know how long they compiled.

    Attributes:
      train_seconds: Time in training steps, over all the processes that took part one after another.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self.train_seconds = 0.0
        self._compile_seconds = -programs.compile_seconds  # what other groups compiled is theirs
        self._begun = self._saved = time.monotonic()
        self._begun_step = self._reported_step = 0
        self._compiled = programs.compile_seconds
        self._begun_seconds = self._reported_seconds = 0.0

    @property
    def compile_seconds(self) -> float:
        """Time in initializing, tracing and compiling, likewise."""
        return self._compile_seconds + self._programs.compile_seconds

    def load(self, meta: dict[str, Any]) -> None:
        """Add the times that a checkpoint tells of.

        Args:
          meta: The checkpoint's JSON values; `train_seconds` and `compile_seconds` are read.
        """
        self.train_seconds += meta["train_seconds"]
        self._compile_seconds += meta["compile_seconds"]

    def meta(self) -> dict[str, float]:
        """The times as a checkpoint keeps them."""
        return {"train_seconds": self.train_seconds, "compile_seconds": self.compile_seconds}

    def begin(self, step: int) -> None:
        """Start measuring what is left, and the time since the last save.

        Args:
          step: The steps taken so far.
        """
        self._begun = self._saved = time.monotonic()
        self._compiled = self._programs.compile_seconds
        self._begun_step = self._reported_step = step
        self._begun_seconds = self._reported_seconds = self.train_seconds

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Count the time within as training, but for what is compiled meanwhile."""
        compiled, start = self._programs.compile_seconds, time.monotonic()
        yield
        self.train_seconds += time.monotonic() - start - (self._programs.compile_seconds - compiled)

    def rate(self, step: int) -> float:
        """Steps per second of training since the last call.

        Args:
          step: The steps taken so far.
        """
        steps, seconds = step - self._reported_step, self.train_seconds - self._reported_seconds
        self._reported_step, self._reported_seconds = step, self.train_seconds
        return steps / seconds

    def left(self, step: int, total: int, every: int) -> float:
        """Seconds to go at the pace of this process, evaluations and the saves between them included.

        Args:
          step: The steps taken so far; if an evaluation was due, it has been made.
          total: The steps to take in all.
          every: The steps from one evaluation to the next.
        """
        spent = time.monotonic() - self._begun - (self._programs.compile_seconds - self._compiled)
        training = self.train_seconds - self._begun_seconds
        # Each at its own pace: a run that goes on shortly before an evaluation has seen few steps so far.
        evaluated = step // every - self._begun_step // every
        to_evaluate = -(-total // every) - step // every if step < total else 0
        per_evaluation = (spent - training) / evaluated if evaluated else 0.0
        return training / (step - self._begun_step) * (total - step) + per_evaluation * to_evaluate

    def save_is_due(self, seconds: float) -> bool:
        """Whether the last save was so long ago."""
        return time.monotonic() - self._saved >= seconds

    def saved(self) -> None:
        """Note that a save has just been made."""
        self._saved = time.monotonic()
