"""What a finished run says: `summary.json` and the closing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ssm_jax.config import DENSE


def statistics(values: Iterable[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1; 0 for one value) and the values themselves.

    Examples:
      >>> statistics([1.0, 3.0])
      {'mean': 2.0, 'std': 1.4142135623730951, 'values': [1.0, 3.0]}
    """
    values = [float(value) for value in values]
    return {
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "values": values,
    }


def table(summary: dict[str, Any]) -> str:
    """The closing table: the shares of -1, 0 and +1 per masked layer, then the run's main numbers.

    Args:
      summary: the content of `summary.json`.
    """
    # A dense baseline has no mask.
    columns = {} if summary["method"] == DENSE else {"-1 %": "inverted", "0 %": "hidden", "+1 %": "kept"}
    rows: list[tuple[str, ...]] = [("layer", "kernel", "weights", *columns)]
    for layer in summary["layers"]:
        shares = (f"{100 * layer[name]:.2f}" for name in columns.values())
        rows.append((layer["name"], "x".join(map(str, layer["shape"])), f"{layer['weights']:,}", *shares))
    total = sum(layer["weights"] for layer in summary["layers"])
    means = (
        sum(layer[name] * layer["weights"] for layer in summary["layers"]) / total
        for name in columns.values()
    )
    rows.append(("all", "", f"{total:,}", *(f"{100 * mean:.2f}" for mean in means)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines.insert(len(lines) - 1, "-" * len(lines[0]))

    def spread(name: str, factor: float) -> str:
        numbers = summary[name]
        deviation = f" ± {factor * numbers['std']:.2f}" if len(numbers["values"]) > 1 else ""
        return f"{factor * numbers['mean']:.2f}{deviation} %"

    seeds = summary["seeds"]
    device = f"{summary['device_count']} x {summary['device']}"
    lines += [
        "",
        f"{summary['network']} on {summary['dataset']}, {summary['method']}, "
        + (f"{len(seeds)} seeds, " if len(seeds) > 1 else f"seed {seeds[0]}, " if seeds else "")
        + f"{summary['epochs']} epochs: test accuracy {spread('test_accuracy', 1)}, "
        f"remaining weights {spread('remaining_weights', 100)}",
        f"trained in {summary['train_seconds']:.1f} s ({summary['images_per_second']:,.0f} images/s) after "
        f"{summary['compile_seconds']:.1f} s of compilation on {device}",
    ]
    for failure in summary["failed_seeds"]:
        lines.append(
            f"seed {failure['seed']} failed: {failure['metric']} not finite at step {failure['step']}"
        )
    return "\n".join(lines)
