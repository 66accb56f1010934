"""What a group's evaluations find, and the report of them that is written while the next steps run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from flax import nnx

from ssm_jax import terminal
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.training.preemption import StopRequest
from ssm_jax.training.programs import Programs
from ssm_jax.training.step import Data, State


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


def evaluate(
    programs: Programs,
    state: State,
    frozen: nnx.State,
    splits: dict[str, Data],
    sizes: dict[str, int],
    step: int,
    batches_per_call: int,
) -> Evaluation:
    """Evaluate S networks on whole splits, and count their masks.

    Args:
      programs: The networks' programs.
      state: Their state, `[D, G, ...]`.
      frozen: Their frozen kernels, `[D, G, ...]`.
      splits: By name, the splits to evaluate on, padded and on the devices.
      sizes: By name, the splits' sizes without padding.
      step: The steps taken.
      batches_per_call: See `Programs.evaluate`.
    """
    values = {}
    for name, split in splits.items():
        loss, correct = programs.evaluate(state, frozen, split, batches_per_call)
        values[f"{name}_loss"], values[f"{name}_accuracy"] = loss / sizes[name], 100 * correct / sizes[name]
    counts = programs.mask_counts(state, frozen)
    total = np.stack(list(counts.values())).astype(np.float64).sum(0)
    values["remaining_weights"] = 1 - total[:, 1] / total.sum(1)
    return Evaluation(step, values, counts)


class Reports:
    """The epochs' reports: metrics, TensorBoard, masks and the progress line, on the first host alone.

    Writing takes time in which the devices would be idle; a report waits until the next steps run.

    Args:
      metrics: The run's metrics.
      snapshots: The run's masks over training.
      progress: The group's progress line.
      seeds: The group's seeds, S of them.
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
          epoch: The epochs done.
          step: The steps taken.
          values: By name, float `[S]`.
          masks: By the path of a masked layer, `[S, ..., I, O]`; empty where none are to be written.
          alive: The places of the networks that have not failed.
          images_per_second: The rate of training, of all networks together.
          left: Seconds to go.
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
        """Take up the masks before the first step, to be written by `write_pending`.

        Args:
          masks: See `add`.
        """
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
        """Say how far an epoch is.

        Args:
          step: The steps taken.
          loss: The mean loss of this epoch so far, None where it is not known.
          left: Seconds to go.
        """
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
