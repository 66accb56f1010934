"""Run an experiment: one folder per run, resumed where it stopped, nothing repeated."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors, terminal
from ssm_jax.core import registry
from ssm_jax.experiments import estimate, record
from ssm_jax.experiments.plans import Setting
from ssm_jax.experiments.record import Experiment, Run
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.runs.summary import Summary
from ssm_jax.training.from_config import from_config, loader
from ssm_jax.training.run import train_and_evaluate
from ssm_jax.training.stored import look

# Makes the config of a setting from its file and variants.
Load = Callable[[str], ConfigDict]


@dataclasses.dataclass
class Job:
    """A run and what it needs.

    Attributes:
      sizes: Of its data; None where they are not at hand, so that it can't be trained.
      summary: What it has found, once it is finished.
    """

    run: Run
    config: ConfigDict
    folder: RunFolder
    sizes: estimate.Sizes | None
    summary: Summary | None

    def seconds(self, speeds: estimate.Speeds) -> float | None:
        """Estimate the seconds that are left of it; None where nothing is known of its network or data."""
        per_step = speeds.of(self.config)
        if per_step is None or self.sizes is None:
            return None
        taken: dict[int, int] = {}
        for line in read_metrics(self.folder.path / "metrics.jsonl"):
            taken[line["seed"]] = line["step"]
        return estimate.seconds(self.config, self.sizes, per_step, sum(taken.values()))


def prepare(
    experiment: Experiment,
    settings: Sequence[Setting],
    *,
    seeds: int,
    overrides: Mapping[str, str],
    workdir: pathlib.Path,
    load: Load,
    plan: bool = False,
) -> list[Job]:
    """Check everything that can be checked before a run starts.

    Args:
      overrides: Values of config fields for all runs, as text by dotted name.
      plan: Whether nothing is to be run: data that are not at hand are then not fetched.

    Returns:
      The runs in the order of the settings, finished ones too. Those whose data cannot be had are named on
      stderr, unless nothing is to be run.

    Raises:
      InputError: A config, the folder or the data of all runs cannot be used.
    """
    if seeds < 1:
        raise errors.out_of_range("--seeds", seeds, "at least 1")
    settings = [_overridden(setting, overrides) for setting in settings]
    runs = record.schedule(record.read(workdir), experiment, settings, seeds, str(workdir))
    RunFolder(workdir).check()
    # Every config before any data, which may have to be downloaded.
    configs = [_config(run, load) for run in runs]
    jobs, absent = [], []
    sizes: dict[tuple[object, ...], estimate.Sizes | errors.InputError] = {}
    for run, config in zip(runs, configs, strict=True):
        folder = RunFolder(workdir / run.name)
        _, summary = look(folder, config)
        chosen = tuple(config.data.items())
        if chosen not in sizes:
            sizes[chosen] = _sizes(config, plan)
        size = sizes[chosen]
        if isinstance(size, errors.InputError):
            absent += [(run.name, size)] if summary is None else []
            jobs.append(Job(run, config, folder, None, summary))
        else:
            jobs.append(Job(run, config, folder, size, summary))
    if absent and not plan:
        if len(absent) == sum(job.summary is None for job in jobs):
            raise absent[0][1]
        for name, error in absent:
            terminal.complain(f"{name} is left out: {error}")
    return jobs


def _sizes(config: ConfigDict, plan: bool) -> estimate.Sizes | errors.InputError:
    try:
        data = loader(config)(read_only=plan)
    except errors.InputError as error:
        return error
    return estimate.Sizes(len(data.train_labels), len(data.validation_labels) + len(data.test_labels))


def _overridden(setting: Setting, overrides: Mapping[str, str]) -> Setting:
    for name in overrides:
        if name in setting.overrides:
            raise errors.InputError(f"--config.{name}: that is what this experiment sets itself")
        if name in ("seed", "seeds"):
            raise errors.InputError(f"--config.{name}: the seeds of an experiment are --seeds, from 0")
    return dataclasses.replace(setting, overrides={**setting.overrides, **overrides})


def _config(run: Run, load: Load) -> ConfigDict:
    config = load(run.setting.config)
    texts = run.setting.overrides
    of_rule = registry.own_settings(texts.get("mask.rule", config.mask.rule))
    configuration.override(config, configuration.parse(config, texts, of_rule))
    configuration.override(config, {"seed": run.seed, "seeds": run.seeds})
    try:
        from_config(config)
    except errors.InputError as error:
        raise errors.InputError(f"{run.name}: {error}") from error
    return config


def describe(jobs: Sequence[Job]) -> str:
    """Write the plan with an estimate of its time; steps are timed for networks that no run tells of."""
    speeds = _speeds(jobs)
    known = {network for network, _ in speeds.measured}
    lines, total = [], 0.0
    for number, job in enumerate(jobs, start=1):
        line = f"run {number} of {len(jobs)}: {job.run.name} ({job.run.setting.config}"
        line += "".join(f", {name}={value}" for name, value in job.run.setting.overrides.items())
        line += f"), {job.config.training.epochs} epochs, {_seeds(job.run)}"
        if job.summary is not None:
            lines.append(f"{line}: finished")
            continue
        if job.sizes is None:
            lines.append(f"{line}: no estimate, {job.config.data.name} is not at hand")
            continue
        source = "by finished runs"
        task = estimate.task_of(job.config)
        if task[0] not in known:
            source = "by some steps, timed now"
            if task not in speeds.measured:
                speeds.time(job.config)
        left = job.seconds(speeds)
        total += left or 0.0
        lines.append(f"{line}: about {_duration(left or 0.0)}, {source}")
    about = "more than" if any(job.summary is None and job.sizes is None for job in jobs) else "about"
    return "\n".join([*lines, *[f"in all: {about} {_duration(total)} of training"] * (total > 0)])


def run(experiment: Experiment, jobs: Sequence[Job], workdir: pathlib.Path) -> None:
    """Run what is not finished, one run after another.

    Raises:
      RunError: Some runs failed; the others are finished.
      Preempted: SIGTERM or Ctrl-C was received and the state saved.
    """
    speeds = _speeds(jobs)
    RunFolder(workdir).make()
    failed = []
    for number, job in enumerate(jobs, start=1):
        if job.summary is None and job.sizes is None:  # `prepare` has said so
            failed.append(job.run.name)
            continue
        record.begin(workdir, experiment, job.run)
        if job.summary is not None:
            continue
        terminal.say(f"\nrun {number} of {len(jobs)}: {_title(job.run)}{_left(jobs[number - 1 :], speeds)}")
        try:
            job.summary = train_and_evaluate(job.config, job.folder.path)
        except terminal.OutputError:
            raise
        except (errors.RunError, errors.InputError) as error:
            terminal.complain(f"run {number} of {len(jobs)}, {job.run.name}, failed: {error}")
            failed.append(job.run.name)
        else:
            speeds.add(job.summary)
    if failed:
        raise errors.RunError(f"{len(failed)} of {len(jobs)} runs failed: {', '.join(failed)}")


def _speeds(jobs: Sequence[Job]) -> estimate.Speeds:
    speeds = estimate.Speeds()
    for job in jobs:
        if job.summary is not None:
            speeds.add(job.summary)
    return speeds


def _title(run: Run) -> str:
    return f"{', '.join(filter(None, run.setting.labels.values()))}, {_seeds(run)}"


def _seeds(run: Run) -> str:
    last = run.seed + run.seeds - 1
    return f"seeds {run.seed} to {last}" if run.seeds > 1 else f"seed {run.seed}"


def _left(jobs: Sequence[Job], speeds: estimate.Speeds) -> str:
    seconds = [job.seconds(speeds) for job in jobs if job.summary is None]
    known = [one for one in seconds if one is not None]
    if not known:
        return ""
    about = "about" if len(known) == len(seconds) else "more than"
    return f"; {about} {_duration(sum(known))} left"


def _duration(seconds: float) -> str:
    """Write seconds in the unit that suits them.

    Examples:
      >>> _duration(20), _duration(1500), _duration(9000)
      ('20 s', '25 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
