"""What a group's evaluations find, how long it takes, and the reports that are written while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ssm_jax import terminal
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.training.preemption import StopRequest
from ssm_jax.training.programs import CompiledSteps


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation finds of S networks.

    Attributes:
      step: Steps taken.
      values: By name, float `[S]`: `<split>_loss`, `<split>_accuracy` in % and `remaining_weights`, a share.
      counts: By the path of a masked layer, the numbers of inverted, hidden and kept weights, `[S, 3]`;
        expected ones, float32, where the rule draws its mask.
    """

    step: int
    values: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]


class Clock:
    """The clock of one group in one process.

    Attributes:
      train_seconds: Time in training steps, over all the processes that took part one after another.
    """

    def __init__(self, programs: CompiledSteps) -> None:
        self._programs = programs
        self.train_seconds = 0.0
        self._compile_seconds = -programs.compile_seconds  # what other groups compiled is theirs
        self.begin(0)

    @property
    def compile_seconds(self) -> float:
        """Time in initializing, tracing and compiling, likewise."""
        return self._compile_seconds + self._programs.compile_seconds

    def load(self, meta: dict[str, Any]) -> None:
        """Add the `train_seconds` and `compile_seconds` that a checkpoint's JSON values tell of."""
        self.train_seconds += meta["train_seconds"]
        self._compile_seconds += meta["compile_seconds"]

    def meta(self) -> dict[str, float]:
        """The times as a checkpoint keeps them."""
        return {"train_seconds": self.train_seconds, "compile_seconds": self.compile_seconds}

    def begin(self, step: int) -> None:
        """Start measuring what is left, and the time since the last save."""
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
        """Steps per second of training since the last call."""
        steps, seconds = step - self._reported_step, self.train_seconds - self._reported_seconds
        self._reported_step, self._reported_seconds = step, self.train_seconds
        return steps / seconds

    def left(self, step: int, total: int, every: int) -> float:
        """Seconds to go at the pace of this process, evaluations and the saves between them included.

        Args:
          step: The steps taken so far; if an evaluation was due, it has been made.
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


class Reports:
    """The epochs' reports: metrics, TensorBoard, masks and the progress line, on the first host alone.

    Writing takes time in which the devices would be idle; a report waits until the next steps run.

    Args:
      stop: Asked to stop the run when the progress line can't be printed.
    """

    def __init__(
        self,
        metrics: Metrics,
        snapshots: Snapshots,
        progress: Progress,
        seeds: Sequence[int],
        stop: StopRequest,
    ) -> None:
        self._metrics = metrics
        self._snapshots = snapshots
        self._progress = progress
        self._seeds = seeds
        self._stop = stop
        self._pending: Callable[[], None] | None = None

    def add(
        self,
        epoch: int,
        step: int,
        values: dict[str, np.ndarray],
        masks: dict[str, np.ndarray],
        alive: Sequence[int],
        *,
        images_per_second: float,
        left: float,
    ) -> dict[str, float]:
        """Take up a report, to be written by `write_pending`; returns the means over the networks alive.

        Args:
          values: By name, float `[S]`.
          masks: By the path of a masked layer, `[S, ..., I, O]`; empty where none are to be written.
          alive: The places of the networks that have not failed.
          images_per_second: The rate of training, of all networks together.
        """
        now = time.time()
        means = {name: float(np.mean(array[list(alive)])) for name, array in values.items()}

        def write() -> None:
            self._metrics.write(
                {"epoch": epoch, "step": step, "seed": self._seeds[i], "time": now}
                | {name: float(array[i]) for name, array in values.items()}
                for i in alive
            )
            self._write_masks(step, masks, alive)
            with self._stopping():
                self._progress.show(epoch, means | {"images_per_second": images_per_second}, left)

        if jax.process_index() == 0:
            self._pending = write
        return means

    def add_initial(self, masks: dict[str, np.ndarray]) -> None:
        """Take up the masks before the first step, to be written by `write_pending`."""
        if jax.process_index() == 0:
            self._pending = functools.partial(self._write_masks, 0, masks, range(len(self._seeds)))

    def begin(self) -> None:
        """Say that the first step is on its way."""
        if jax.process_index() == 0:
            with self._stopping():
                self._progress.begin()

    def is_due(self) -> bool:
        """Whether it is time to say how far an epoch is, on this host."""
        return jax.process_index() == 0 and self._progress.is_due()

    def show_step(self, step: int, loss: float | None, left: float) -> None:
        """Say how far an epoch is."""
        with self._stopping():
            self._progress.step(step, loss, left)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Ask the run to stop when the progress can't be printed."""
        try:
            yield
        except terminal.OutputError as error:
            self._stop.fail(error)

    def _write_masks(self, step: int, masks: dict[str, np.ndarray], alive: Sequence[int]) -> None:
        for i in alive if masks else ():
            self._snapshots.write(self._seeds[i], step, {path: mask[i] for path, mask in masks.items()})

    def write_pending(self) -> None:
        """Write and print the last report, if that is still to be done."""
        if self._pending is not None:
            write, self._pending = self._pending, None
            write()

    def close(self) -> None:
        """End the progress line."""
        with contextlib.suppress(terminal.OutputError):  # which the next text will tell
            self._progress.done()
