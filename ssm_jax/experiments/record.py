"""`experiment.json`: which experiment a folder holds, and the runs that belong to it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ssm_jax import errors
from ssm_jax.config import RESUME_SAFE_FIELDS
from ssm_jax.experiments.plans import Setting
from ssm_jax.runs import schema
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.schema import Count, Natural

FILE = "experiment.json"
KINDS = ("paper", "frontier", "rivals", "ablation", "rates", "runs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A setting and the seeds, from the first on, that one run trains of it."""

    setting: Setting
    seed: Natural
    seeds: Count

    @property
    def name(self) -> str:
        """Name of the run's folder; seeds that were added later have one of their own."""
        last = self.seed + self.seeds - 1
        return f"{self.setting.name}-seeds-{self.seed}-{last}" if self.seed else self.setting.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a folder of runs is.

    Attributes:
      kind: Name of the experiment, one of `KINDS`.
      shared: What all its runs have in common, by name, for example the network.
      runs: The runs that have begun.
    """

    format: ClassVar[int] = 1
    kind: str
    shared: dict[str, str]
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise errors.unknown("kind of experiment", self.kind, KINDS)


def read(folder: str | os.PathLike[str]) -> Experiment | None:
    """Read which experiment a folder holds; None where there is none.

    Raises:
      InputError: The record is damaged or of another format.
    """
    return schema.read(Experiment, pathlib.Path(folder) / FILE)


def write(folder: str | os.PathLike[str], experiment: Experiment) -> None:
    """Write which experiment a folder holds, or raise a `RunError`."""
    schema.write(pathlib.Path(folder) / FILE, experiment)


def begin(folder: str | os.PathLike[str], experiment: Experiment, run: Run) -> None:
    """Add a run to the experiment in a folder, while others add theirs; `experiment` where there is none yet.

    Raises:
      InputError: The record is damaged or of another format, or the lock cannot be opened.
      RunError: The record cannot be written.
    """
    with RunFolder(folder).locked(wait=True):
        write(folder, add(read(folder) or experiment, run))


def schedule(
    stored: Experiment | None,
    requested: Experiment,
    settings: Sequence[Setting],
    seeds: int,
    workdir: str,
    flag: str = "--workdir",
) -> list[Run]:
    """Decide which runs the settings need: those that have begun, and new ones for the seeds that lack.

    Args:
      stored: The experiment in the folder, if there is one.
      requested: The one that is asked for; its runs are not read.

    Raises:
      InputError: The folder holds another experiment, or a setting of the same name that differs.
    """

    def check(what: str, differences: Sequence[str]) -> None:
        if differences:
            raise errors.InputError(
                f"{workdir} holds another {what} ({'; '.join(differences)}): choose another {flag}"
            )

    begun: dict[str, list[Run]] = {}
    if stored is not None:
        if requested.kind != stored.kind:
            check("experiment", [f"{requested.kind} requested, {stored.kind} stored"])
        check("experiment", _differences(requested.shared, stored.shared))
        for run in stored.runs:
            begun.setdefault(run.setting.name, []).append(run)
    runs = []
    for setting in settings:
        earlier = begun.get(setting.name, [])
        ours = {"config": setting.config, **setting.overrides}
        for run in earlier:
            theirs = {"config": run.setting.config, **run.setting.overrides}
            check(setting.name, _differences(ours, theirs))
        covered = sum(run.seeds for run in earlier)
        runs += earlier
        if covered < seeds:
            runs.append(Run(setting=setting, seed=covered, seeds=seeds - covered))
    return runs


def add(experiment: Experiment, run: Run) -> Experiment:
    """Add a run to an experiment, if it is not there yet."""
    if run.name in {other.name for other in experiment.runs}:
        return experiment
    return dataclasses.replace(experiment, runs=(*experiment.runs, run))


def _differences(requested: Mapping[str, str], stored: Mapping[str, str]) -> list[str]:
    names = sorted({*requested, *stored} - set(RESUME_SAFE_FIELDS))
    return [
        f"{name}: {requested.get(name, 'nothing')} requested, {stored.get(name, 'nothing')} stored"
        for name in names
        if requested.get(name) != stored.get(name)
    ]
