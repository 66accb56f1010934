"""How long the runs of an experiment take."""

from __future__ import annotations

import dataclasses
import time

import jax
from ml_collections import ConfigDict

from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.runs.summary import Summary
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import Layout, place_split, scans, seeds_per_group
from ssm_jax.training.programs import CompiledSteps

# How many steps are timed, where a call takes many and where it takes one.
_SCANNED_STEPS = 50
_SINGLE_STEPS = 3
# The forward pass of an evaluation, against a step with its backward pass.
_EVALUATION = 1 / 3

# What decides the time of a step: the network's settings, and the mask rule.
TrainSpec = tuple[tuple[object, ...], str]


def task_of(config: ConfigDict) -> TrainSpec:
    """Return what decides the time of a step of a config, as a key."""
    network = (*config.model.to_dict().items(), config.data.name, config.data.augment)
    return (*network, config.training.batch_size, config.training.precision), config.mask.rule


@dataclasses.dataclass
class Speeds:
    """Seconds that a step takes per network, by task: of finished runs, or of some steps that were timed."""

    measured: dict[TrainSpec, float] = dataclasses.field(default_factory=dict)

    def add(self, summary: Summary) -> None:
        """Take up what a finished run tells."""
        steps = summary.steps * (len(summary.seeds) + len(summary.failed_seeds))
        self.measured[task_of(summary.config)] = summary.train_seconds / steps

    def of(self, config: ConfigDict) -> float | None:
        """Return the seconds per step of a config; of another mask rule where its own is unknown."""
        task = task_of(config)
        if task in self.measured:
            return self.measured[task]
        network = [seconds for (network, _), seconds in self.measured.items() if network == task[0]]
        return max(network, default=None)

    def time(self, config: ConfigDict) -> None:
        """Time some steps of a config, without the time of compiling them."""
        setup = from_config(config)
        data = setup.load()
        task = setup.task(setup.network(data.image_shape, data.classes), len(data.train_labels))
        size = seeds_per_group(setup.run, task, data.image_shape)
        programs = CompiledSteps(task, Layout(setup.run.mode, size))
        state, frozen = programs.initialize(range(config.seed, config.seed + size))
        split = place_split(data.train_images, data.train_labels)
        at_once = max(1, min(_SCANNED_STEPS, task.steps_per_epoch // 2)) if scans(task) else 1
        calls = 1 if at_once > 1 else _SINGLE_STEPS
        state = jax.block_until_ready(programs.train(state, frozen, split, at_once))
        start = time.perf_counter()
        for _ in range(calls):
            state = programs.train(state, frozen, split, at_once)
        jax.block_until_ready(state)
        steps = calls * at_once * size
        self.measured[task_of(config)] = (time.perf_counter() - start) / steps


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Numbers of images of a dataset: those to train on, and those of the splits that are evaluated."""

    trained: int
    evaluated: int


def seconds(config: ConfigDict, sizes: Sizes, per_step: float, done: int = 0) -> float:
    """Estimate what a run takes, its evaluations included, compilation and start not.

    Args:
      per_step: Seconds per step and network.
      done: Steps that are taken already, of all networks together.
    """
    steps = steps_per_epoch(sizes.trained, config.training.batch_size, config.data.passes)
    evaluation = _EVALUATION * sizes.evaluated / config.training.batch_size / config.logging.eval_every_epochs
    left = max(0, config.training.epochs * steps * config.seeds - done)
    return left * per_step * (1 + evaluation / steps)
