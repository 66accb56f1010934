"""Tables of an experiment's results, in Markdown and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Sequence

from scipy import special

from ssm_jax.config import DENSE
from ssm_jax.experiments import paper
from ssm_jax.experiments.plans import TWIN
from ssm_jax.experiments.results import Result
from ssm_jax.runs.summary import Statistics

CONFIDENCE = 0.95
_LAST = ("device", "versions")


def half_width(numbers: Statistics) -> float | None:
    """Half of the 95 % interval of a mean, by Student's t; None for fewer than three values.

    Examples:
      >>> round(half_width(Statistics.of([1.0, 2.0, 3.0])), 3)
      2.484
    """
    count = len(numbers.values)
    if count < 3:
        return None
    return float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * numbers.std / math.sqrt(count)


def markdown(results: Sequence[Result]) -> str:
    """Lay out a table; what all rows share of device and versions stands below it."""
    cells = [_cells(result) for result in results]
    # Not every row has a number of the paper beside it; device and versions come last.
    names = [name for name in dict.fromkeys(itertools.chain(*cells)) if name not in _LAST]
    columns = {name: [row.get(name, "") for row in cells] for name in (*names, *_LAST)}
    shared = [columns.pop(name)[0] for name in _LAST if len(set(columns[name])) == 1]
    # A column that is empty everywhere says nothing.
    columns = {name: values for name, values in columns.items() if any(values)}
    lines = [list(columns), ["---"] * len(columns), *map(list, zip(*columns.values(), strict=True))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nAll rows: {', '.join(shared)}." if shared else table


def _cells(result: Result) -> dict[str, str]:
    published = _published(result)
    accuracy, remaining = result.accuracy, result.remaining
    cells = {
        **result.setting.labels,
        "epochs": result.epochs,
        "n": _seeds(result),
        "held out %": _held_out(result),
        "accuracy %": accuracy.text(),
        "accuracy, 95 %": _interval(accuracy),
        "remaining %": remaining.text(100),
        "remaining, 95 %": _interval(remaining, 100),
    }
    if published is not None:
        theirs, left = published
        cells |= {
            "paper %": f"{theirs.mean:.2f}" + (f" at {100 * left.mean:.2f}" if left else ""),
            "difference": f"{accuracy.mean - theirs.mean:+.2f}"
            + (f" at {100 * (remaining.mean - left.mean):+.2f}" if left else ""),
        }
    return cells | {"device": result.device, "versions": result.versions}


def _held_out(result: Result) -> str:
    """The accuracy by which a learning rate is chosen, on images that are neither trained on nor tested."""
    last = result.curve[-1] if result.curve and "rate" in result.setting.labels else {}
    return f"{last['validation_accuracy']:.2f}" if "validation_accuracy" in last else ""


def _seeds(result: Result) -> str:
    """How many networks a mean is of, such as `3`, or `2 of 3` where one failed."""
    learned = result.trained - result.failed
    return str(learned) if not result.failed else f"{learned} of {result.trained}"


def overview(results: Sequence[Result]) -> str:
    """Lay out the paper's rows, one a network: our best setting, its dense twin, the paper."""
    lines = [
        "| network | data | recipe, epochs | n | accuracy % | dense % | remaining % | paper % |",
        "|---" * 8 + "|",
    ]
    for name, row in paper.ROWS.items():
        of_row = [result for result in results if result.setting.labels.get("row") == name]
        masked = [result for result in of_row if result.method != DENSE]
        if not masked:
            continue
        best = max(masked, key=lambda result: (not result.failed, result.accuracy.mean))
        twin = f"{best.setting.config},{TWIN}"
        twins = [result for result in of_row if result.setting.config == twin]
        published = f"{row.accuracy.mean:.2f} at {100 * row.remaining.mean:.2f}"
        cells = [
            name,
            row.data,
            f"`{best.setting.config.partition(':')[2] or 'main'}`, {best.epochs}",
            _seeds(best),
            f"**{best.accuracy.text()}**",
            twins[0].accuracy.text() if twins else "",
            best.remaining.text(100).partition(" ")[0],
            published,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _published(result: Result) -> tuple[paper.Published, paper.Published | None] | None:
    row = paper.ROWS.get(result.setting.labels.get("row", ""))
    if row is None:
        return None
    return row.accuracy_of(result.method), row.remaining_of(result.method)


def _interval(numbers: Statistics, factor: float = 1) -> str:
    half = half_width(numbers)
    if half is None:
        return ""
    return f"{factor * (numbers.mean - half):.2f} to {factor * (numbers.mean + half):.2f}"


def to_csv(results: Sequence[Result]) -> str:
    """Write a table as comma-separated values, every number in full and shares as shares."""
    rows = [_values(result) for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _values(result: Result) -> dict[str, object]:
    values: dict[str, object] = {**result.setting.labels, "method": result.method}
    first = result.summaries[0]
    values |= {"network": first.network, "data": first.dataset, "epochs": result.epochs}
    values |= {"n": result.trained - result.failed, "failed": result.failed}
    values["seeds"] = " ".join(str(seed) for summary in result.summaries for seed in summary.seeds)
    for name, numbers in (("accuracy", result.accuracy), ("remaining", result.remaining)):
        half = half_width(numbers)
        values |= {f"{name}_mean": numbers.mean, f"{name}_std": numbers.std if half is not None else None}
        values[f"{name}_half_width"] = half
    published = _published(result)
    if published is not None:
        theirs, left = published
        values |= {"paper_accuracy": theirs.mean, "accuracy_difference": result.accuracy.mean - theirs.mean}
        if left is not None:
            values |= {
                "paper_remaining": left.mean,
                "remaining_difference": result.remaining.mean - left.mean,
            }
    return values | {
        "train_seconds": sum(summary.train_seconds for summary in result.summaries),
        "device": result.device,
        "versions": result.versions,
    }
