"""The paper's rows as small panels, one a network: what is ours, its dense twin, the paper, others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ssm_jax.analysis import style
from ssm_jax.config import DENSE
from ssm_jax.experiments import paper
from ssm_jax.experiments.results import Result, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
_OURS, _THEIRS = style.COLORS[0], style.COLORS[1]
# Accuracies far below the others would hide the differences of these; they are named at the lower edge.
_FARTHEST = 12.0


def size(results: Sequence[Result]) -> tuple[float, float]:
    """Return width and height in inches of the figure of some results."""
    return 8.0, 2.5 * math.ceil(len(grouped(results, "row")) / COLUMNS) + 0.5


def draw(figure: Figure, results: Sequence[Result]) -> None:
    """Draw a panel, into an empty figure, for every row of the paper that has a result."""
    by_row = grouped(results, "row")
    panels = figure.subplots(math.ceil(len(by_row) / COLUMNS), COLUMNS, squeeze=False)
    for axes, (name, group) in zip(panels.flat, by_row.items(), strict=False):
        _panel(axes, name, group)
    for axes in panels.flat[len(by_row) :]:
        axes.remove()
    figure.supxlabel("remaining weights, % (log scale)", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=9)


def _panel(axes: Axes, name: str, group: Sequence[Result]) -> None:
    row = paper.ROWS[name]
    masked = [result for result in group if result.method != DENSE]
    points = [(100 * row.remaining.mean, row.accuracy.mean, "paper", _THEIRS, "*")]
    points += [
        (100 * math.sqrt(point.low * point.high), point.accuracy, point.short, style.GRAY, "x")
        for point in paper.POINTS
        if (point.network, point.data) == (row.network, row.data) and row.width == 1
    ]
    ours = [
        (100 * result.remaining.mean, result.accuracy.mean, _variant(result), _OURS, "o") for result in masked
    ]
    dense = [result.accuracy.mean for result in group if result.method == DENSE]
    high = max([accuracy for _, accuracy, *_ in [*points, *ours]] + dense)
    shown = [point for point in points if point[1] > high - 2 * _FARTHEST] + ours
    for remaining, accuracy, label, color, marker in shown:
        size: dict[str, Any] = {"*": {"markersize": 10}, "x": {"markersize": 5}}.get(
            marker, {"markersize": 5}
        )
        axes.plot(remaining, accuracy, marker, color=color, zorder=3, **size)
        # Ours beside the mark, others below it, so that points of nearly one place can all be read.
        place, align = ((-6, -2), "right") if color == _OURS else ((0, -12), "center")
        axes.annotate(
            label, (remaining, accuracy), place, ha=align, textcoords="offset points", fontsize=7, color=color
        )
    for accuracy in dense:
        axes.axhline(accuracy, color=_OURS, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            "dense", (1, accuracy), (-2, 2), xycoords=("axes fraction", "data"), ha="right",
            textcoords="offset points", fontsize=7, color=_OURS,
        )  # fmt: skip
    low = min([accuracy for _, accuracy, *_ in shown] + dense)
    axes.set_ylim(low - 0.15 * (high - low) - 0.3, high + 0.15 * (high - low) + 0.3)
    axes.set_xscale("log")
    left, right = min(point[0] for point in shown), max(point[0] for point in shown)
    span = (2 * right / left) ** 0.45
    axes.set_xlim(left / span / 1.2, min(right * span, 130))  # none has more than 100 %
    style.label_log_axis(axes.xaxis, (1, 3) if right / left > 8 else (1, 2, 5))
    for result in masked:
        if result.failed:
            axes.plot(
                100 * result.remaining.mean, 0.03, "o", transform=axes.get_xaxis_transform(),
                markerfacecolor="none", color=_OURS, markersize=5, clip_on=False,
            )  # fmt: skip
            axes.annotate(
                f"{result.failed} of {result.trained} failed", (100 * result.remaining.mean, 0.03), (6, 0),
                xycoords=axes.get_xaxis_transform(), textcoords="offset points", fontsize=7, color=_OURS,
            )  # fmt: skip
    axes.set_title(f"{name}, {row.data}", fontsize=9)


def _variant(result: Result) -> str:
    return result.setting.config.partition(":")[2] or "main"
