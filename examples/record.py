"""What an example has found: a file in `results/examples/`, and a row of the README's table from it."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import jax

from ssm_jax import Summary, errors
from ssm_jax.cli.parser import Parser
from ssm_jax.runs import schema
from ssm_jax.runs.schema import Count, Natural, NotNegative, Share, Size
from ssm_jax.runs.summary import Statistics
from ssm_jax.training.results import versions

ACCURACY, BITS = "accuracy %", "bits per character"
HEAD = ("model", "data", "training", "n", "weights", "remaining %", "masked", "dense")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """Networks that differ by their seed only.

    Attributes:
      seeds: Their seeds.
      values: The record's measure of each, after its last step, on data that it was not trained on.
      remaining_weights: Of each, the share of its masked weights that remains; 1 without masks.
      train_seconds: Seconds of training, of all of them; other work may have shared the device.
    """

    seeds: tuple[Natural, ...]
    values: tuple[NotNegative, ...]
    remaining_weights: tuple[Share, ...]
    train_seconds: NotNegative


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What an example has found.

    Attributes:
      example: Name of the module in `examples`.
      network: Name of the model's class.
      data: Name of the data.
      details: What else there is to say of the data, by name.
      training: How long and on how much at a time, by name, for example `epochs` and `batch`.
      measure: What `values` are, `ACCURACY` (more is better) or `BITS` (less is better).
      weights: Number of masked weights.
      masked: The networks under masks.
      dense: The same model without masks.
      baselines: The measure of what needs no network, by name.
      device: Kind of device.
      device_count: Number of devices.
      versions: Versions of Python and of the packages that decide a result.
    """

    format: ClassVar[int] = 1
    example: str
    network: str
    data: str
    details: dict[str, str] = dataclasses.field(default_factory=dict)
    training: dict[str, Count]
    measure: str
    weights: Size
    masked: Trained
    dense: Trained
    baselines: dict[str, NotNegative] = dataclasses.field(default_factory=dict)
    device: str = dataclasses.field(default_factory=lambda: jax.devices()[0].device_kind)
    device_count: Count = dataclasses.field(default_factory=jax.device_count)
    versions: dict[str, str] = dataclasses.field(default_factory=versions)


def of_runs(example: str, masked: Summary, dense: Summary) -> Record:
    """Make the record of two runs of `ssm_jax.train_and_evaluate`, on this machine.

    Args:
      example: Name of the module in `examples`.
      masked: The summary of the model under masks.
      dense: That of the same model without.
    """

    def trained(run: Summary) -> Trained:
        return Trained(
            seeds=run.seeds,
            values=run.test_accuracy.values,
            remaining_weights=run.remaining_weights.values,
            train_seconds=run.train_seconds,
        )

    return Record(
        example=example,
        network=masked.network,
        data=masked.dataset,
        training={"epochs": masked.epochs, "batch": masked.config.training.batch_size},
        measure=ACCURACY,
        weights=masked.weights,
        masked=trained(masked),
        dense=trained(dense),
    )


def arguments(text: str | None, argv: Sequence[str] | None, **defaults: float | str) -> argparse.Namespace:
    """Read the flags of an example: `--json`, and one for each of the defaults, of its type.

    Args:
      text: The example's docstring.
      argv: The arguments, without the program's name; those of the process where None.
      **defaults: The default of each flag by its name.

    Raises:
      InputError: There is no such flag, or its value is of another type.
    """
    parser = Parser(description=text)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default: {value}")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the record")
    return parser.parse_args(argv)


def finish(record: Record, path: pathlib.Path | None) -> None:
    """Print the figures of a record, and write it.

    Args:
      record: The record.
      path: The file; None writes nothing.
    """
    print("\n" + "\n".join(f"{name}: {cell}" for name, cell in zip(HEAD, cells(record), strict=True)))
    for name, value in record.baselines.items():
        print(f"{name}: {value:.2f} {record.measure}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        schema.write(path, record)


def read(path: pathlib.Path) -> Record:
    """Read a record.

    Args:
      path: The file.

    Raises:
      InputError: There is no such file, or it is no record.
    """
    record = schema.read(Record, path)
    if record is None:
        raise errors.InputError(f"there is no record {path}")
    return record


def cells(record: Record) -> tuple[str, ...]:
    """Lay a record out as a row below `HEAD`: means, with the deviation (n - 1) over several seeds."""
    training = ", ".join(f"{name} {number:,}" for name, number in record.training.items())

    return (
        f"{record.example}.{record.network}",
        record.data,
        training,
        str(len(record.masked.seeds)),
        f"{record.weights:,}",
        Statistics.of(record.masked.remaining_weights).text(100),
        f"{Statistics.of(record.masked.values).text()} {record.measure}",
        Statistics.of(record.dense.values).text(),
    )


def table(folder: pathlib.Path) -> str:
    """Lay out all records of a folder as a table of Markdown, in the order of their names."""
    rows = [HEAD, ("---",) * len(HEAD), *(cells(read(path)) for path in sorted(folder.glob("*.json")))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
