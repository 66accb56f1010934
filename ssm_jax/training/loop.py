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
from ml_collections import ConfigDict

from ssm_jax import errors, terminal
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.runs.summary import Failure
from ssm_jax.training import hosts, optimizer, preemption
from ssm_jax.training.clock import Clock
from ssm_jax.training.programs import Programs
from ssm_jax.training.reports import Evaluation, Reports, evaluate
from ssm_jax.training.step import FAILURES, Data, State

PROFILED_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Group:
    """Networks that are trained at the same time, S of them, and what their training needs.

    Attributes:
      config: The run's config.
      folder: The run's folder.
      seeds: The networks' seeds.
      programs: Programs for S networks.
      data: The splits `train`, `test` and perhaps `validation`, on the devices.
      sizes: The sizes of the evaluated splits, without their padding.
      metrics: The run's metrics.
      stop: The request to stop.
      scan: Whether several steps may run in one call of a program.
    """

    config: ConfigDict
    folder: RunFolder
    seeds: Sequence[int]
    programs: Programs
    data: dict[str, Data]
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
        return self.config.training.epochs * self.programs.task.steps_per_epoch

    def evaluate(self, state: State, frozen: nnx.State, step: int) -> tuple[State, Evaluation]:
        """Evaluate the networks on every split but the training set, their statistics measured anew."""
        batches = 0 if self.scan else 1
        state = self.programs.recalibrate(state, frozen, self.data["train"], batches)
        splits = {name: split for name, split in self.data.items() if name != "train"}
        return state, evaluate(self.programs, state, frozen, splits, self.sizes, step, batches)

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
      seeds: The networks' seeds.
      steps: Steps taken; fewer than asked for where every network failed or stopped.
      test_accuracy: In %, float `[S]`, of the last step.
      remaining_weights: A share in [0, 1], float `[S]`, of the last step.
      counts: By the path of a masked layer, the numbers of -1, 0 and +1, `[S, 3]`.
      failed: The networks that stopped on a non-finite number.
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


def train_group(group: Group) -> Result:
    """Train a group of networks to the end; continue from its latest checkpoint, if it has one.

    Args:
      group: The networks and what their training needs.

    Raises:
      RunError: The only network of the run became non-finite, or a checkpoint can't be written.
      Preempted: The process was asked to stop; the state is saved.
      OutputError: Standard output can't be written to; the state is saved.
    """
    config, programs, total = group.config, group.programs, group.total
    with _checkpoints(group) as (latest, best):
        # 1. The state to go on from, and how far it is.
        clock = Clock(programs)
        state, frozen, step, best_accuracy = _resume(group, latest, best, clock)

        # 2. Some steps at a time: take them, then report, save and stop where that is due.
        steps_per_epoch = programs.task.steps_per_epoch
        label = group.label if config.seeds > 1 else ""
        progress = Progress(config.training.epochs, steps_per_epoch, label)
        reports = Reports(group.metrics, group.snapshots, progress, group.seeds, group.stop)
        if config.logging.masks and not step:
            reports.add_initial(programs.masks(state, frozen))
        evaluation, failed = None, group.failures(state)
        over = group.is_over(state, failed)
        clock.begin(step)
        if not over:
            reports.begin()
        for call, count in enumerate(_chunks(group, step)):
            if over:
                break
            with _profiled(group, call), clock.training():
                state = programs.train(state, frozen, group.data["train"], count)
                if group.folder.is_held():
                    reports.write_pending()  # while the devices are at work
                failed = group.failures(state)
            step += count
            epoch, rest = divmod(step, steps_per_epoch)
            if len(failed) == len(group.seeds):
                if config.seeds == 1:
                    reports.close()
                    raise _failure(group, failed[0], latest)
                _save(group, latest, state, frozen, step, clock, best_accuracy)  # not to be trained again
                break
            over = group.is_over(state, failed) or step == total
            stop, due, lost = hosts.any_host(
                group.stop.is_set(),
                clock.save_is_due(config.checkpoint.seconds),
                not group.folder.is_held(),
            )
            if lost:
                raise group.folder.lost()
            if not rest and (epoch % config.logging.epochs == 0 or over):
                state, evaluation = group.evaluate(state, frozen, step)
                means = _report(group, reports, clock, state, frozen, evaluation, epoch, failed)
                if config.checkpoint.best and means["validation_accuracy"] > best_accuracy:
                    best_accuracy = means["validation_accuracy"]
                    _save(group, best, state, frozen, step, clock, best_accuracy)
            elif rest and reports.is_due():
                left = clock.left(step, total, steps_per_epoch * config.logging.epochs)
                reports.show_step(step, group.mean_loss(state, rest), left)
            if stop or due or over:
                reports.write_pending()
                _save(group, latest, state, frozen, step, clock, best_accuracy)
                clock.saved()
            if stop and not over:
                reports.close()
                latest.wait()
                raise group.stop.error(group.label, f"at step {step} of {total}")
        reports.close()

        # 3. The result, of the last step.
        if evaluation is None or evaluation.step != step:
            state, evaluation = group.evaluate(state, frozen, step)
        return Result(
            seeds=list(group.seeds),
            steps=step,
            test_accuracy=evaluation.values["test_accuracy"],
            remaining_weights=evaluation.values["remaining_weights"],
            counts=evaluation.counts,
            failed=failed,
            train_seconds=clock.train_seconds,
            compile_seconds=clock.compile_seconds,
        )


@contextlib.contextmanager
def _checkpoints(group: Group) -> Iterator[tuple[Checkpoints, Checkpoints]]:
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


def _resume(
    group: Group, latest: Checkpoints, best: Checkpoints, clock: Clock
) -> tuple[State, nnx.State, int, float]:
    """The initial state or that of the latest checkpoint, the frozen kernels, the step, the best accuracy."""
    layout, primary = group.programs.layout, jax.process_index() == 0
    group.folder.check_held()
    # Networks first: their shapes are the checkpoint's template.
    state, frozen = group.programs.initialize(group.seeds)
    step = latest.latest() or 0
    if step:
        tree, meta = latest.restore(layout.template({"state": state, "frozen": frozen}))
        state, frozen = (layout.place(tree[name]) for name in ("state", "frozen"))
        clock.load(meta)
        if primary and step < group.total:
            terminal.say(f"{group.label}: continuing from step {step}")
    # What was written after that step is written again: a better checkpoint, lines of metrics, masks.
    if primary:
        best.discard_after(step)
    hosts.barrier("discarded")
    best_accuracy = best.meta()["validation_accuracy"] if best.latest() is not None else -1.0
    if primary:
        group.metrics.discard_after(group.seeds, step)
        group.snapshots.discard_after(group.seeds, step)
    return state, frozen, step, best_accuracy


def _chunks(group: Group, step: int) -> Iterator[int]:
    """Numbers of steps to take at a time, never past the end of an epoch."""
    epoch = group.programs.task.steps_per_epoch
    limit = group.config.training.steps_per_call or (epoch if group.scan else 1)
    call = 0
    while step < group.total:
        count = min(limit, epoch - step % epoch)
        if group.config.profile and call < 2:
            count = min(count, PROFILED_STEPS)
        yield count
        step, call = step + count, call + 1


@contextlib.contextmanager
def _profiled(group: Group, call: int) -> Iterator[None]:
    # The first call compiles; the second shows what a step does.
    if not (group.config.profile and jax.process_index() == 0 and call == 1):
        yield
        return
    with jax.profiler.trace(str(group.folder.path / "profile"), create_perfetto_trace=True):
        yield


def _report(
    group: Group,
    reports: Reports,
    clock: Clock,
    state: State,
    frozen: nnx.State,
    evaluation: Evaluation,
    epoch: int,
    failed: list[Failure],
) -> dict[str, float]:
    """Take up the epoch's report; returns the means over the networks that have not failed."""
    step, steps_per_epoch = evaluation.step, group.programs.task.steps_per_epoch
    totals = group.programs.layout.gather(state.totals)
    values = {
        "train_loss": totals["loss"].astype(np.float64) / steps_per_epoch,
        "train_accuracy": 100 * totals["accuracy"].astype(np.float64) / steps_per_epoch,
    } | evaluation.values
    masks = group.programs.masks(state, frozen) if group.config.logging.masks else {}
    lost = {failure.seed for failure in failed}
    alive = [i for i, seed in enumerate(group.seeds) if seed not in lost]
    images = group.config.training.batch_size * len(group.seeds)
    rate = clock.rate(step) * images
    left = clock.left(step, group.total, steps_per_epoch * group.config.logging.epochs)
    return reports.add(epoch, step, values, masks, alive, images_per_second=rate, left=left)


def _save(
    group: Group,
    checkpoints: Checkpoints,
    state: State,
    frozen: nnx.State,
    step: int,
    clock: Clock,
    best_accuracy: float,
) -> None:
    group.folder.check_held()
    meta = {"seeds": list(group.seeds), "validation_accuracy": best_accuracy} | clock.meta()
    checkpoints.save(step, group.programs.layout.gather({"state": state, "frozen": frozen}), meta)


def _failure(group: Group, failure: Failure, latest: Checkpoints) -> errors.RunError:
    """The error of a run whose only network failed."""
    latest.wait()
    saved = latest.latest()
    kept = "no checkpoint had been saved" if saved is None else f"the checkpoint of step {saved} is kept"
    return errors.RunError(
        f"{failure.metric} is not finite at step {failure.step} (epoch "
        f"{failure.step // group.programs.task.steps_per_epoch + 1}); {kept}"
    )
