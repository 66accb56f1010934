"""Bring an experiment's results home: small files in one folder, a table of them, and figures."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from ssm_jax import errors, files
from ssm_jax.analysis import style
from ssm_jax.experiments import figures, record, tables
from ssm_jax.experiments.record import Experiment, Run
from ssm_jax.experiments.results import finished, read_collected
from ssm_jax.runs import curves, schema
from ssm_jax.runs.metrics import read_metrics


def collect(workdir: str | os.PathLike[str], into: str | os.PathLike[str]) -> Experiment:
    """Copy what the finished runs of an experiment have found, and sum it up.

    A folder that holds results of the same experiment keeps them; the same runs are replaced.

    Args:
      into: The folder of the results, which is made. `experiment.json` and every run's summary
        `<run>.json` and mean curve `<run>.csv` are written there, `table.md`, `table.csv` and the figures.

    Returns:
      The experiment as the results now hold it.

    Raises:
      InputError: There is nothing to collect, `into` holds another experiment or other seeds of a run, or
        matplotlib is missing.
      RunError: A file cannot be written.
    """
    style.require()
    experiment, runs = finished(workdir)
    if not runs:
        raise errors.InputError(f"{os.fspath(workdir)} holds no finished run yet")
    into = pathlib.Path(os.path.expanduser(into))
    stored = record.read(into)
    collected = dataclasses.replace(experiment, runs=()) if stored is None else stored
    record.schedule(stored, experiment, [run.setting for run, _ in runs], 1, str(into), "--into")
    for run, _ in runs:
        _check_same_seeds(collected, run, into)
    try:
        into.mkdir(parents=True, exist_ok=True)
        for run, summary in runs:
            schema.write(into / f"{run.name}.json", summary)
            lines = read_metrics(pathlib.Path(workdir) / run.name / "metrics.jsonl")
            files.write_text(into / f"{run.name}.csv", curves.to_csv(curves.of_metrics(lines)))
            collected = record.add(collected, run)
        record.write(into, collected)
        sum_up(into, collected)
    except OSError as error:
        raise errors.RunError(f"cannot write to {into}: {files.reason(error)}") from error
    return collected


def _check_same_seeds(collected: Experiment, run: Run, into: pathlib.Path) -> None:
    """Check that a run of that name has no other seeds in the results, which would count some twice."""
    for other in collected.runs:
        if other.name == run.name and other.seeds != run.seeds:
            raise errors.InputError(
                f"{into} holds {run.name} with {other.seeds} seeds, {run.seeds} were run: choose another "
                "--into"
            )


def sum_up(folder: pathlib.Path, experiment: Experiment) -> None:
    """Write `table.md`, `table.csv` and the figures of collected results.

    Raises:
      OSError: A file cannot be written.
    """
    results = read_collected(folder)
    files.write_text(folder / "table.md", tables.markdown(results) + "\n")
    files.write_text(folder / "table.csv", tables.to_csv(results))
    figures.draw(experiment, results, folder)
