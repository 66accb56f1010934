"""Training curves: the metrics of every epoch, averaged over seeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from ssm_jax import errors

# The numbers of one epoch by name: `epoch`, `n`, the number of networks, and means over these.
Point = dict[str, float]

_METRICS = (
    "train_loss",
    "train_accuracy",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "remaining_weights",
)


def of_metrics(lines: Iterable[Mapping[str, float]]) -> list[Point]:
    """Average the lines of `metrics.jsonl` over the seeds: a point per epoch, in order.

    Examples:
      >>> of_metrics([{"epoch": 1, "seed": s, "test_accuracy": a} for s, a in ((0, 90.0), (1, 92.0))])
      [{'epoch': 1, 'n': 2, 'test_accuracy': 91.0}]
    """
    return merge(
        {"epoch": line["epoch"], "n": 1} | {name: line[name] for name in _METRICS if name in line}
        for line in lines
    )


def merge(points: Iterable[Point]) -> list[Point]:
    """Average points of the same epoch, each with the weight of its networks; in the order of the epochs."""
    by_epoch: dict[float, list[Point]] = {}
    for point in points:
        by_epoch.setdefault(point["epoch"], []).append(point)
    merged = []
    for epoch, group in sorted(by_epoch.items()):
        count = sum(point["n"] for point in group)
        names = [name for name in _METRICS if all(name in point for point in group)]
        means = {name: sum(point[name] * point["n"] for point in group) / count for name in names}
        merged.append({"epoch": epoch, "n": count} | means)
    return merged


def to_csv(points: list[Point]) -> str:
    """Write a curve as comma-separated values of six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(points[0] if points else [])
    writer.writerows([f"{value:.6g}" for value in point.values()] for point in points)
    return text.getvalue()


def from_csv(text: str) -> list[Point]:
    """Read a curve that `to_csv` wrote.

    Raises:
      InputError: The text is none.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    try:
        points = [{name: float(value) for name, value in row.items()} for row in rows]
    except (TypeError, ValueError) as error:  # a row of another length, or a word
        raise errors.InputError("it is no curve, a row of it is not one number a column") from error
    for name in ("epoch", "n"):
        if points and name not in points[0]:
            raise errors.InputError(f"it is no curve, it has no column {name}")
    return points
