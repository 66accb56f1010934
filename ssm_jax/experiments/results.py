"""What the finished runs of an experiment have found, the seeds of a setting taken together."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from ssm_jax import errors
from ssm_jax.experiments import paper, plans, record
from ssm_jax.experiments.plans import Setting
from ssm_jax.experiments.record import Experiment, Run
from ssm_jax.runs import curves, schema
from ssm_jax.runs.curves import Point
from ssm_jax.runs.folder import RunFolder
from ssm_jax.runs.summary import Statistics, Summary, guesses


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found of one setting.

    Attributes:
      summaries: Summaries of its finished runs, at least one.
      curve: Its training curve, the mean over all seeds; empty where it was not kept.
    """

    setting: Setting
    summaries: tuple[Summary, ...]
    curve: list[Point] = dataclasses.field(default_factory=list)

    @property
    def method(self) -> str:
        """Name of the mask rule."""
        return self.summaries[0].method

    @property
    def accuracy(self) -> Statistics:
        """Test accuracy in %, over the seeds that did not fail; over all where every one did."""
        return Statistics.of(accuracy for accuracy, _ in self._learned or self._ended)

    @property
    def remaining(self) -> Statistics:
        """Remaining weights, a share in [0, 1], over the same seeds."""
        return Statistics.of(share for _, share in self._learned or self._ended)

    @property
    def failed(self) -> int:
        """Number of networks that stopped on a number that is not finite, or guess: they collapsed."""
        stopped = sum(len(summary.failed_seeds) for summary in self.summaries)
        return stopped + len(self._ended) - len(self._learned)

    @property
    def trained(self) -> int:
        """Number of networks, those that failed among them."""
        return len(self._ended) + sum(len(summary.failed_seeds) for summary in self.summaries)

    @property
    def _ended(self) -> list[tuple[float, float]]:
        """Accuracy and share of every network that was trained to the end."""
        return [
            pair
            for summary in self.summaries
            for pair in zip(summary.test_accuracy.values, summary.remaining_weights.values, strict=True)
        ]

    @property
    def _learned(self) -> list[tuple[float, float]]:
        # The networks of experiments end in their logits.
        classes = self.summaries[0].present or self.summaries[0].layers[-1].shape[-1]
        return [(accuracy, share) for accuracy, share in self._ended if not guesses(accuracy, classes)]

    @property
    def epochs(self) -> str:
        """Epochs of training, such as `50`, or `48 to 50` where a schedule stopped some networks."""
        return span(summary.epochs for summary in self.summaries)

    @property
    def device(self) -> str:
        """Kind and number of the devices."""
        return _listed(f"{summary.device_count} x {summary.device}" for summary in self.summaries)

    @property
    def versions(self) -> str:
        """Versions of Python and JAX."""
        return _listed(
            f"Python {summary.versions['python']}, jax {summary.versions['jax']}"
            for summary in self.summaries
        )


def finished(workdir: str | os.PathLike[str]) -> tuple[Experiment, list[tuple[Run, Summary]]]:
    """Read the finished runs of an experiment's folder.

    Raises:
      InputError: It holds no experiment, or a file of it is damaged.
    """
    experiment = _experiment(workdir)
    runs = []
    for run in experiment.runs:
        summary = RunFolder(pathlib.Path(workdir) / run.name).read_summary()
        if summary is not None:
            runs.append((run, summary))
    return experiment, runs


def read_collected(folder: str | os.PathLike[str]) -> list[Result]:
    """Read the results that `collect` brought into a folder.

    Raises:
      InputError: It holds no experiment, or a file of it is missing or damaged.
    """
    runs = []
    points: dict[str, list[Point]] = {}
    for run in _experiment(folder).runs:
        path = pathlib.Path(folder) / f"{run.name}.json"
        summary = schema.read(Summary, path)
        if summary is None:
            raise errors.InputError(f"{path} is missing, which {record.FILE} names")
        runs.append((run, summary))
        curve = path.with_suffix(".csv")
        if curve.exists():
            points.setdefault(run.setting.name, []).extend(_curve(curve))
    return [
        dataclasses.replace(result, curve=curves.merge(points.get(result.setting.name, ())))
        for result in results(runs)
    ]


def _curve(path: pathlib.Path) -> list[Point]:
    try:
        return curves.from_csv(path.read_text())
    except (OSError, UnicodeDecodeError, errors.InputError) as error:
        raise errors.InputError(f"cannot use {path}: {errors.one_line(error)}") from error


def results(runs: Iterable[tuple[Run, Summary]]) -> list[Result]:
    """Take the runs of each setting together.

    The paper's rows are in its order, rules in that of `plans.RIVALS`, their densities or rates ascending;
    others are as their runs come.
    """
    by_name: dict[str, list[tuple[Run, Summary]]] = {}
    for run, summary in runs:
        by_name.setdefault(run.setting.name, []).append((run, summary))
    taken = [
        Result(group[0][0].setting, tuple(summary for _, summary in group)) for group in by_name.values()
    ]
    return sorted(taken, key=lambda result: _place(result.setting.labels))


def grouped(results: Sequence[Result], label: str) -> dict[str, list[Result]]:
    """Part results by a label of their settings."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.setting.labels.get(label, ""), []).append(result)
    return groups


def _place(labels: Mapping[str, str]) -> tuple[int, int, float]:
    def of(name: str, names: Sequence[str]) -> int:
        return names.index(name) if name in names else len(names)

    row, rule = of(labels.get("row", ""), list(paper.ROWS)), of(labels.get("rule", ""), plans.RIVALS)
    return row, rule, float(labels.get("density") or labels.get("rate") or 0)


def _experiment(folder: str | os.PathLike[str]) -> Experiment:
    experiment = record.read(folder)
    if experiment is None:
        raise errors.InputError(f"{os.fspath(folder)} holds no experiment: it has no {record.FILE}")
    return experiment


def span(numbers: Iterable[int]) -> str:
    """Write the range of numbers, such as `3 to 5`, or the one that all of them are."""
    ordered = sorted(set(numbers))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _listed(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
