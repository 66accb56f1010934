"""The training of one group of networks: all of them at the same time, from the first step or a
checkpoint to the last.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from flax import nnx

from ssm_jax import errors, terminal
from ssm_jax.data.stream import Split
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.runs.summary import Failure
from ssm_jax.training import hosts, optimizer, preemption
from ssm_jax.training.from_config import RunSettings
from ssm_jax.training.programs import CompiledSteps
from ssm_jax.training.reports import Clock, Evaluation, Reports
from ssm_jax.training.step import FAILURES, Data, State

PROFILED_STEPS = 10


@dataclasses.dataclass(frozen=True)
class SeedGroup:
    """Networks that are trained at the same time, S of them, and what their training needs.

    Attributes:
      programs: CompiledSteps for S networks.
      data: The splits `train`, `test` and perhaps `validation`, on the devices or on disk.
      sizes: The sizes of the evaluated splits, without their padding.
      scan: Whether several steps may run in one call of a program.
    """

    run: RunSettings
    folder: RunFolder
    seeds: Sequence[int]
    programs: CompiledSteps
    data: dict[str, Data | Split]
    sizes: dict[str, int]
    metrics: Metrics
    stop: preemption.StopRequest
    scan: bool

    @property
    def label(self) -> str:
        """The group's name in messages."""
        first, last = self.seeds[0], self.seeds[-1]
        return f"seeds {first}-{last}" if len(self.seeds) > 1 else f"seed {first}"

    @property
    def snapshots(self) -> Snapshots:
        """The run's masks over training."""
        return Snapshots(self.folder.path)

    @property
    def total(self) -> int:
        """Steps to take in all."""
        return self.run.epochs * self.programs.task.steps_per_epoch

    def evaluate(self, state: State, frozen: nnx.State, step: int) -> tuple[State, Evaluation]:
        """Evaluate the networks on every split but the training set, their statistics measured anew."""
        state = self.programs.recalibrate(state, frozen, self.data["train"], 0 if self.scan else 1)
        return state, self.measure(state, frozen, step)

    def measure(self, state: State, frozen: nnx.State, step: int) -> Evaluation:
        """Evaluate the networks with the statistics that they have, and count their masks."""
        values = {}
        for name, split in self.data.items():
            if name != "train":
                loss, correct = self.programs.evaluate(state, frozen, split, 0 if self.scan else 1)
                values[f"{name}_loss"] = loss / self.sizes[name]
                values[f"{name}_accuracy"] = 100 * correct / self.sizes[name]
        counts = self.programs.mask_counts(state, frozen)
        total = np.stack(list(counts.values())).astype(np.float64).sum(0)
        values["remaining_weights"] = 1 - total[:, 1] / total.sum(1)
        return Evaluation(step, values, counts)

    def failures(self, state: State) -> list[Failure]:
        """The networks that stopped on a non-finite number."""
        failures = self.programs.layout.gather(state.failure)
        return [
            Failure(seed=seed, step=int(step), metric=FAILURES[metric])
            for seed, (step, metric) in zip(self.seeds, failures, strict=True)
            if step >= 0
        ]

    def mean_loss(self, state: State, steps: int) -> float | None:
        """The mean loss of this epoch's steps so far; None where other hosts hold a part of it."""
        if jax.process_count() > 1:
            return None
        return float(np.nanmean(self.programs.layout.gather(state.totals)["loss"])) / steps

    def is_over(self, state: State, failed: Sequence[Failure]) -> bool:
        """Whether every network has failed or has been stopped by its schedule."""
        stopped = optimizer.stopped(state.optimizer)
        if not stopped.ndim:
            return len(failed) == len(self.seeds)
        final = self.programs.layout.gather(stopped)
        lost = {failure.seed for failure in failed}
        return all(seed in lost or end for seed, end in zip(self.seeds, final, strict=True))


@dataclasses.dataclass(frozen=True)
class Result:
    """What a trained group says of its networks, S of them.

    Attributes:
      steps: Steps taken; fewer than asked for where every network failed or stopped.
      test_accuracy: In %, float `[S]`, of the last step.
      remaining_weights: A share in [0, 1], float `[S]`, of the last step.
      counts: By the path of a masked layer, the numbers of -1, 0 and +1, `[S, 3]`.
      train_seconds: Time in training steps, over all the processes that took part one after another.
      compile_seconds: Time in tracing and compiling, likewise.
    """

    seeds: list[int]
    steps: int
    test_accuracy: np.ndarray
    remaining_weights: np.ndarray
    counts: dict[str, np.ndarray]
    failed: list[Failure]
    train_seconds: float
    compile_seconds: float


def train_group(group: SeedGroup) -> Result:
    """Train a group of networks to the end; continue from its latest checkpoint, if it has one.

    Raises:
      RunError: The only network of the run became non-finite, or a checkpoint can't be written.
      Preempted: The process was asked to stop; the state is saved.
      OutputError: Standard output can't be written to; the state is saved.
    """
    with _checkpoints(group) as (latest, best):
        return _Training(group, latest, best).train()


class _Training:
    """A group in training: its state, and how far it is."""

    def __init__(self, group: SeedGroup, latest: Checkpoints, best: Checkpoints) -> None:
        self.group, self.latest, self.best = group, latest, best
        run, programs = group.run, group.programs
        self.clock = Clock(programs)
        self.epoch_steps = programs.task.steps_per_epoch
        label = group.label if run.seeds > 1 else ""
        progress = Progress(run.epochs, self.epoch_steps, label)
        self.reports = Reports(group.metrics, group.snapshots, progress, group.seeds, group.stop)
        group.folder.check_held()
        # Networks first: their shapes are the checkpoint's template.
        self.state, self.frozen = programs.initialize(group.seeds)
        self.step = latest.latest() or 0
        self.best_accuracy = self._resume()
        self.failed = group.failures(self.state)

    def _resume(self) -> float:
        """Go on from the latest checkpoint, if there is one; returns the best accuracy so far."""
        group, primary = self.group, jax.process_index() == 0
        if self.step:
            layout = group.programs.layout
            tree, meta = self.latest.restore(layout.template({"state": self.state, "frozen": self.frozen}))
            self.state, self.frozen = (layout.place(tree[name]) for name in ("state", "frozen"))
            self.clock.load(meta)
            if primary and self.step < group.total:
                terminal.say(f"{group.label}: continuing from step {self.step}")
        # What was written after that step is written again: a better checkpoint, lines of metrics, masks.
        if primary:
            self.best.discard_after(self.step)
        hosts.barrier("discarded")
        accuracy = self.best.meta()["validation_accuracy"] if self.best.latest() is not None else -1.0
        if primary:
            group.metrics.discard_after(group.seeds, self.step)
            group.snapshots.discard_after(group.seeds, self.step)
        return float(accuracy)

    def train(self) -> Result:
        """Take some steps at a time, then report, save and stop where that is due."""
        group, run, programs = self.group, self.group.run, self.group.programs
        if run.store_masks and not self.step:
            self.reports.add_initial(programs.masks(self.state, self.frozen))
        evaluation = None
        over = group.is_over(self.state, self.failed)
        self.clock.begin(self.step)
        if not over:
            self.reports.begin()
        for call, count in enumerate(self._chunks()):
            if over:
                break
            with _profiled(group, call), self.clock.training():
                self.state = programs.train(self.state, self.frozen, group.data["train"], count)
                if group.folder.is_held():
                    self.reports.write_pending()  # while the devices are at work
                self.failed = group.failures(self.state)
            self.step += count
            epoch, rest = divmod(self.step, self.epoch_steps)
            if len(self.failed) == len(group.seeds):
                if run.seeds == 1:
                    self.reports.close()
                    raise self._failure()
                self._save(self.latest)  # not to be trained again
                break
            over = group.is_over(self.state, self.failed) or self.step == group.total
            stop, due, lost = hosts.any_host(
                group.stop.is_set(), self.clock.save_is_due(run.save_every), not group.folder.is_held()
            )
            if lost:
                raise group.folder.lost()
            if not rest and (epoch % run.evaluate_every == 0 or over):
                evaluation = self._evaluate()
                means = self._report(evaluation, epoch)
                if run.keep_best and means["validation_accuracy"] > self.best_accuracy:
                    self.best_accuracy = means["validation_accuracy"]
                    self._save(self.best)
            elif rest and self.reports.is_due():
                self.reports.show_step(self.step, group.mean_loss(self.state, rest), self._left())
            if stop or due or over:
                self.reports.write_pending()
                self._save(self.latest)
                self.clock.saved()
            if stop and not over:
                self.reports.close()
                self.latest.wait()
                raise group.stop.error(group.label, f"at step {self.step} of {group.total}")
        self.reports.close()
        if evaluation is None or evaluation.step != self.step:
            evaluation = self._evaluate()
        return Result(
            seeds=list(group.seeds),
            steps=self.step,
            test_accuracy=evaluation.values["test_accuracy"],
            remaining_weights=evaluation.values["remaining_weights"],
            counts=evaluation.counts,
            failed=self.failed,
            train_seconds=self.clock.train_seconds,
            compile_seconds=self.clock.compile_seconds,
        )

    def _chunks(self) -> Iterator[int]:
        """Numbers of steps to take at a time, never past the end of an epoch."""
        group, step, call = self.group, self.step, 0
        limit = group.run.steps_per_call or (self.epoch_steps if group.scan else 1)
        data = group.data["train"]
        if isinstance(data, Split):
            limit = min(limit, data.at_once(group.programs.task.batch_size * len(group.seeds)))
        while step < group.total:
            count = min(limit, self.epoch_steps - step % self.epoch_steps)
            if group.run.profile and call < 2:
                count = min(count, PROFILED_STEPS)
            yield count
            step, call = step + count, call + 1

    def _evaluate(self) -> Evaluation:
        self.state, evaluation = self.group.evaluate(self.state, self.frozen, self.step)
        return evaluation

    def _left(self) -> float:
        """Seconds to go."""
        return self.clock.left(self.step, self.group.total, self.epoch_steps * self.group.run.evaluate_every)

    def _report(self, evaluation: Evaluation, epoch: int) -> dict[str, float]:
        """Take up the epoch's report; returns the means over the networks that have not failed."""
        group = self.group
        totals = group.programs.layout.gather(self.state.totals)
        values = {
            "train_loss": totals["loss"].astype(np.float64) / self.epoch_steps,
            "train_accuracy": 100 * totals["accuracy"].astype(np.float64) / self.epoch_steps,
        } | evaluation.values
        masks = group.programs.masks(self.state, self.frozen) if group.run.store_masks else {}
        lost = {failure.seed for failure in self.failed}
        alive = [i for i, seed in enumerate(group.seeds) if seed not in lost]
        rate = self.clock.rate(self.step) * group.programs.task.batch_size * len(group.seeds)
        return self.reports.add(
            epoch, self.step, values, masks, alive, images_per_second=rate, left=self._left()
        )

    def _save(self, checkpoints: Checkpoints) -> None:
        group = self.group
        group.folder.check_held()
        meta = {"seeds": list(group.seeds), "validation_accuracy": self.best_accuracy} | self.clock.meta()
        tree = group.programs.layout.gather({"state": self.state, "frozen": self.frozen})
        checkpoints.save(self.step, tree, meta)

    def _failure(self) -> errors.RunError:
        """The error of a run whose only network failed."""
        self.latest.wait()
        saved, (failure,) = self.latest.latest(), self.failed
        kept = "no checkpoint had been saved" if saved is None else f"the checkpoint of step {saved} is kept"
        return errors.RunError(
            f"{failure.metric} is not finite at step {failure.step} (epoch "
            f"{failure.step // self.epoch_steps + 1}); {kept}"
        )


@contextlib.contextmanager
def _checkpoints(group: SeedGroup) -> Iterator[tuple[Checkpoints, Checkpoints]]:
    """The group's latest checkpoint and its best, closed at the end."""
    latest, best = (Checkpoints(group.folder.checkpoints(group.seeds, which)) for which in ("latest", "best"))
    try:
        yield latest, best
    except BaseException as error:
        # An error under way must not be hidden by one of a save.
        for checkpoints in (latest, best):
            with contextlib.suppress(errors.RunError):
                checkpoints.close()
        if isinstance(error, errors.RunError) and not group.folder.is_held():
            raise group.folder.lost() from error  # which is why nothing could be written
        raise
    latest.close()
    best.close()


@contextlib.contextmanager
def _profiled(group: SeedGroup, call: int) -> Iterator[None]:
    # The first call compiles; the second shows what a step does.
    if not (group.run.profile and jax.process_index() == 0 and call == 1):
        yield
        return
    with jax.profiler.trace(str(group.folder.path / "profile"), create_perfetto_trace=True):
        yield
