"""The training of one group of networks: all of them at the same time, from the first step or a
checkpoint to the last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssm_jax import errors
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.progress import Progress
from ssm_jax.training import hosts, preemption
from ssm_jax.training.programs import Programs
from ssm_jax.training.step import FAILURES, Data

PROFILED_STEPS = 10


@dataclasses.dataclass
class Result:
    """What a trained group says of its networks, S of them.

    Attributes:
      seeds: of the networks.
      steps: taken; fewer than asked for where every network failed.
      test_accuracy: in %, float `[S]`, of the last step.
      remaining_weights: share in [0, 1], float `[S]`, of the last step.
      counts: by the path of a masked layer, the numbers of -1, 0 and +1, int `[S, 3]`.
      failed: of every network that stopped on a non-finite number: `seed`, `step` and `metric`.
      train_seconds: in training steps, over all the processes that took part one after another.
      compile_seconds: in tracing and compiling, likewise.
    """

    seeds: list[int]
    steps: int
    test_accuracy: np.ndarray
    remaining_weights: np.ndarray
    counts: dict[str, np.ndarray]
    failed: list[dict[str, Any]]
    train_seconds: float
    compile_seconds: float


class Group:
    """A group of networks and where its checkpoints lie; a context manager that closes them.

    Args:
      config: of the run.
      workdir: of the run; the checkpoints are in `checkpoints/<first seed>/`.
      seeds: of the networks, S of them.
      programs: for S networks.
      data: splits `train`, `test` and perhaps `validation`, on the devices.
      sizes: of the evaluated splits, without their padding.
      metrics: of the run.
      asked: set when the process is asked to stop.
      loops: whether several steps may run inside a loop of the program.
    """

    def __init__(
        self,
        *,
        config: ConfigDict,
        workdir: pathlib.Path,
        seeds: Sequence[int],
        programs: Programs,
        data: dict[str, Data],
        sizes: dict[str, int],
        metrics: Metrics,
        asked: preemption.StopRequest,
        loops: bool,
    ) -> None:
        self._config = config
        self._workdir = workdir
        self._seeds = seeds
        self._programs = programs
        self._data = data
        self._sizes = sizes
        self._metrics = metrics
        self._asked = asked
        self._loops = loops
        self._label = f"seeds {seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        self._total = config.training.epochs * programs.task.steps_per_epoch
        folder = workdir / "checkpoints" / str(seeds[0])
        self._latest = Checkpoints(folder / "latest")
        self._best = Checkpoints(folder / "best")
        self._best_accuracy = -1.0
        self._train_seconds = 0.0
        self._reported = 0, 0.0  # step and training seconds of the last report
        self._untold: Callable[[], None] | None = None  # what is still to be said of it
        self._compile_seconds = -programs.compile_seconds  # what other groups compiled is theirs
        self._primary = jax.process_index() == 0

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error under way must not be hidden by one of a save.
        with contextlib.suppress(errors.RunError) if error else contextlib.nullcontext():
            self._latest.close()
            self._best.close()

    def train(self) -> Result:
        """Train to the end.

        Raises:
          RunError: the only network of the run became non-finite, or a checkpoint can't be written.
          Preempted: the process was asked to stop; the state is saved.
        """
        config, steps_per_epoch = self._config, self._programs.task.steps_per_epoch
        step, total = self._begin(), self._total
        begun = step
        progress = Progress(config.training.epochs, self._label if config.seeds > 1 else "")
        started = saved = time.monotonic()
        compiled = self._programs.compile_seconds
        self._reported = begun, self._train_seconds
        for call, count in enumerate(self._calls(step)):
            with self._profiled(call):
                failed = self._steps(count)
            step += count
            epoch, rest = divmod(step, steps_per_epoch)
            if len(failed) == len(self._seeds):
                progress.done()
                if config.seeds == 1:
                    raise self._failure(failed[0])
                break
            if not rest and (epoch % config.logging.epochs == 0 or step == total):
                spent = time.monotonic() - started - (self._programs.compile_seconds - compiled)
                left = spent * (total - step) / (step - begun)
                self._report(progress, epoch, step, left)
            due = time.monotonic() - saved >= config.checkpoint.seconds
            stop, due = hosts.any_host(self._asked.is_set(), due)
            if stop or due or step == total:
                self._tell()
                self._save(self._latest, step)
                saved = time.monotonic()
            if stop and step < total:
                progress.done()
                self._latest.wait()
                by = self._asked.signum
                raise errors.Preempted(
                    f"{self._label} stopped by {by.name} at step {step} of {total}, which is saved", by
                )
        progress.done()
        return self._result(step)

    def _begin(self) -> int:
        """Take up the initial state or the latest checkpoint; returns its step."""
        layout = self._programs.layout
        self._state, self._frozen = self._programs.initialize(self._seeds)
        step = self._latest.latest() or 0
        if step:
            tree, meta = self._latest.restore(layout.template(self._tree()))
            self._state, self._frozen = (layout.place(tree[name]) for name in ("state", "frozen"))
            self._train_seconds += meta["train_seconds"]
            self._compile_seconds += meta["compile_seconds"]
            if self._primary and step < self._total:
                print(f"{self._label}: continuing from step {step}", flush=True)
        if self._primary:
            self._best.forget_after(step)
        hosts.meet("forgotten")
        if self._best.latest() is not None:
            self._best_accuracy = self._best.meta()["validation_accuracy"]
        if self._primary:
            # Other groups' lines are theirs: those of earlier ones are final, later ones cut their own.
            self._metrics.cut(lambda line: line["seed"] not in self._seeds or line["step"] <= step)
        return step

    def _tree(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"state": self._state, "frozen": self._frozen}

    def _calls(self, step: int) -> Iterator[int]:
        """Numbers of steps to take at a time, never past the end of an epoch."""
        epoch = self._programs.task.steps_per_epoch
        limit = self._config.training.steps_per_call or (epoch if self._loops else 1)
        call = 0
        while step < self._total:
            count = min(limit, epoch - step % epoch)
            if self._config.profile and call < 2:
                count = min(count, PROFILED_STEPS)
            yield count
            step, call = step + count, call + 1

    @contextlib.contextmanager
    def _profiled(self, call: int) -> Iterator[None]:
        # The first call compiles; the second shows what a step does.
        if not (self._config.profile and self._primary and call == 1):
            yield
            return
        with jax.profiler.trace(str(self._workdir / "profile"), create_perfetto_trace=True):
            yield

    def _steps(self, count: int) -> list[dict[str, Any]]:
        """Take some steps and wait for them; returns the failed networks."""
        compiled, start = self._programs.compile_seconds, time.monotonic()
        self._state = self._programs.train(self._state, self._frozen, self._data["train"], count)
        self._tell()  # while the devices are at work
        failed = self._failed()
        seconds = time.monotonic() - start
        self._train_seconds += seconds - (self._programs.compile_seconds - compiled)
        return failed

    def _failed(self) -> list[dict[str, Any]]:
        failures = self._programs.layout.gather(self._state.failure)
        return [
            {"seed": seed, "step": int(step), "metric": FAILURES[metric]}
            for seed, (step, metric) in zip(self._seeds, failures, strict=True)
            if step >= 0
        ]

    def _failure(self, failure: dict[str, Any]) -> errors.RunError:
        """The error of a run whose only network failed."""
        self._latest.wait()
        saved = self._latest.latest()
        kept = "no checkpoint had been saved" if saved is None else f"the checkpoint of step {saved} is kept"
        return errors.RunError(
            f"{failure['metric']} is not finite at step {failure['step']} (epoch "
            f"{failure['step'] // self._programs.task.steps_per_epoch + 1}); {kept}"
        )

    def _evaluate(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss and accuracy in %, float `[S]` each, on a whole split."""
        loss, correct = self._programs.evaluate(
            self._state, self._frozen, self._data[split], 0 if self._loops else 1
        )
        return loss / self._sizes[split], 100 * correct / self._sizes[split]

    def _remaining(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The masks' counts per layer and the share of remaining weights, float `[S]`."""
        counts = self._programs.mask_counts(self._state, self._frozen)
        total = np.sum(list(counts.values()), 0)
        return counts, 1 - total[:, 1] / total.sum(1)

    def _report(self, progress: Progress, epoch: int, step: int, left: float) -> None:
        """Evaluate, for the terminal, `metrics.jsonl`, TensorBoard (see `_tell`) and the best checkpoint."""
        steps_per_epoch = self._programs.task.steps_per_epoch
        totals = self._programs.layout.gather(self._state.totals)
        values = {
            "train_loss": totals["loss"].astype(np.float64) / steps_per_epoch,
            "train_accuracy": 100 * totals["accuracy"].astype(np.float64) / steps_per_epoch,
        }
        for split in self._sizes:
            if self._sizes[split]:
                values[f"{split}_loss"], values[f"{split}_accuracy"] = self._evaluate(split)
        values["remaining_weights"] = self._remaining()[1]
        since, seconds = self._reported
        self._reported = step, self._train_seconds
        images = (step - since) * self._config.training.batch_size * len(self._seeds)
        rate = images / (self._train_seconds - seconds)
        failed = {failure["seed"] for failure in self._failed()}
        alive = [i for i, seed in enumerate(self._seeds) if seed not in failed]
        means = {name: float(np.mean(array[alive])) for name, array in values.items()}
        now = time.time()

        def tell() -> None:
            self._metrics.write(
                {"epoch": epoch, "step": step, "seed": self._seeds[i], "time": now}
                | {name: float(array[i]) for name, array in values.items()}
                for i in alive
            )
            progress.show(epoch, means | {"images_per_second": rate}, left)

        self._untold = tell if self._primary else None
        if self._config.checkpoint.best and means["validation_accuracy"] > self._best_accuracy:
            self._best_accuracy = means["validation_accuracy"]
            self._save(self._best, step)

    def _tell(self) -> None:
        """Write and print the last report, if that is still to be done."""
        if self._untold is not None:
            tell, self._untold = self._untold, None
            tell()

    def _save(self, checkpoints: Checkpoints, step: int) -> None:
        meta = {
            "seeds": list(self._seeds),
            "train_seconds": self._train_seconds,
            "compile_seconds": self._compile_seconds + self._programs.compile_seconds,
            "validation_accuracy": self._best_accuracy,
        }
        checkpoints.save(step, self._programs.layout.gather(self._tree()), meta)

    def _result(self, step: int) -> Result:
        counts, remaining = self._remaining()
        return Result(
            seeds=list(self._seeds),
            steps=step,
            test_accuracy=self._evaluate("test")[1],
            remaining_weights=remaining,
            counts=counts,
            failed=self._failed(),
            train_seconds=self._train_seconds,
            compile_seconds=self._compile_seconds + self._programs.compile_seconds,
        )
