"""Figures of an experiment's results, as PNG and SVG; matplotlib is imported when one is drawn."""

from __future__ import annotations

import contextlib
import functools
import itertools
import pathlib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ssm_jax import files
from ssm_jax.analysis import style
from ssm_jax.config import DENSE
from ssm_jax.experiments import panels, paper
from ssm_jax.experiments.record import Experiment
from ssm_jax.experiments.results import Result, grouped, span
from ssm_jax.experiments.tables import half_width
from ssm_jax.runs.summary import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Which label makes a line, or a color, of the results of an experiment.
_SERIES = {"paper": "row", "frontier": "rule", "rivals": "rule", "ablation": "part", "rates": "rule"}
# What is drawn of a curve.
_CURVES = ("test_accuracy", "remaining_weights")
# A network's name, its data and width.
_Network = tuple[str, str, float]
# More curves than these in one figure can't be told apart.
_MOST_CURVES = 14
# A line that results are compared with.
_REFERENCE: dict[str, Any] = {"color": style.GRAY, "linewidth": 1, "linestyle": (0, (6, 3))}


def draw(experiment: Experiment, results: Sequence[Result], folder: pathlib.Path) -> list[pathlib.Path]:
    """Draw the figures of an experiment.

    Args:
      folder: The folder that gets `frontier.png` and `.svg`, accuracy against remaining weights, or of
        ablations `settings.png` and `.svg`, accuracy setting by setting; and `curves.png` and `.svg`, or
        several of these where there are many settings.

    Raises:
      InputError: matplotlib is not installed.
    """
    style.require()
    if experiment.kind == "runs":  # which have nothing in common
        return []
    by_series = grouped(results, _SERIES[experiment.kind])
    masked = {
        name: [result for result in series if result.method != DENSE] for name, series in by_series.items()
    }
    written: list[pathlib.Path] = []
    if experiment.kind == "ablation":
        with _figure(folder / "settings", written, width=8, height=1.2 + 0.2 * len(results)) as figure:
            _settings(figure.add_subplot(), by_series, results)
    elif experiment.kind == "paper":
        width, height = panels.size(results)
        with _figure(folder / "frontier", written, width, height) as figure:
            panels.draw(figure, results)
    elif any(masked.values()):
        joined = experiment.kind == "frontier"
        with _figure(folder / "frontier", written, width=8) as figure:
            _frontier(figure.add_subplot(), {n: s for n, s in masked.items() if s}, results, joined)
    curves = {
        result.setting.name: result
        for result in results
        if result.curve and all(name in point for name in _CURVES for point in result.curve)
    }
    if len(curves) <= _MOST_CURVES:
        groups = {"": list(curves.values())}
    else:
        groups = grouped(list(curves.values()), _SERIES[experiment.kind])
    for name, group in groups.items():
        if group:
            # The name may come from a file, and decides no folder.
            stem = "-".join(filter(None, ("curves", re.sub(r"\W+", "-", name))))
            with _figure(folder / stem, written, width=9) as figure:
                _curves(figure, group)
    return written


@contextlib.contextmanager
def _figure(
    path: pathlib.Path, written: list[pathlib.Path], width: float, height: float = 4.2
) -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(style.STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        for kind, settings in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            save = functools.partial(figure.savefig, format=kind, **settings)
            written.append(path.with_suffix(f".{kind}"))
            files.write_whole(written[-1], save)


def _marks(i: int) -> dict[str, Any]:
    """How the results of the i-th series look."""
    return {
        "color": style.COLORS[i % len(style.COLORS)],
        "marker": style.MARKERS[i % len(style.MARKERS)],
        "markersize": 5,
        "capsize": 2,
        "zorder": 3,
    }


def _frontier(axes: Axes, series: dict[str, list[Result]], results: Sequence[Result], joined: bool) -> None:
    """Draw accuracy against remaining weights, with what others published for the same networks."""
    for i, (name, group) in enumerate(series.items()):
        group = sorted(group, key=lambda result: result.remaining.mean)
        axes.errorbar(
            [100 * result.remaining.mean for result in group],
            [result.accuracy.mean for result in group],
            xerr=[_error(result.remaining, 100) for result in group],
            yerr=[_error(result.accuracy) for result in group],
            linestyle=style.LINES[i % len(style.LINES)] if joined else "none",
            label=name,
            **_marks(i),
        )
    dense = [result for result in results if result.method == DENSE]
    if len(dense) == 1:
        axes.axhline(dense[0].accuracy.mean, label="dense (ours)", **_REFERENCE)
    _published(axes, set(_networks(results)))
    axes.set_xscale("log")
    style.label_log_axis(axes.xaxis)
    axes.set_title(_title(results), fontsize=9)
    axes.set_xlabel("remaining weights, % (log scale)")
    axes.set_ylabel("test accuracy, %")
    # An interval of few and different seeds ends where no accuracy is.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 102))
    # matplotlib lists lines, which are others' results, before error bars.
    handles, labels = axes.get_legend_handles_labels()
    others = len(handles) - len(series)
    axes.legend(
        handles[others:] + handles[:others],
        labels[others:] + labels[:others],
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
    )


def _settings(axes: Axes, parts: dict[str, list[Result]], results: Sequence[Result]) -> None:
    """Draw the accuracy of every setting in a row of its own, and what remains where it is not the same."""
    rows = [result for group in parts.values() for result in group]
    places = {result.setting.name: place for place, result in enumerate(rows)}
    for i, (name, group) in enumerate(parts.items()):
        axes.errorbar(
            [result.accuracy.mean for result in group],
            [places[result.setting.name] for result in group],
            xerr=[_error(result.accuracy) for result in group],
            linestyle="none",
            label=name,
            **_marks(i),
        )
    axes.axvline(rows[0].accuracy.mean, **_REFERENCE)
    remaining = [f"{100 * result.remaining.mean:.2f} %" for result in rows]
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels(
        [
            result.setting.labels.get("setting", result.setting.name)
            + ("" if left == remaining[0] else f", {left} remain")
            for result, left in zip(rows, remaining, strict=True)
        ]
    )
    axes.invert_yaxis()
    axes.set_title(f"{_title(results)}; {remaining[0]} of the weights remain but where said", fontsize=9)
    axes.set_xlabel("test accuracy, %")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _title(results: Sequence[Result]) -> str:
    """What results are of: networks, data, epochs and seeds."""
    summaries = [summary for result in results for summary in result.summaries]
    networks = dict.fromkeys(f"{summary.network} on {summary.dataset}" for summary in summaries)
    epochs = span(summary.epochs for summary in summaries)
    seeds = span(len(result.accuracy.values) for result in results)
    named = f"{', '.join(networks)}: " if len(networks) < 3 else ""
    return f"{named}{epochs} epochs, n = {seeds}" + (", 95 % intervals of means" if seeds != "1" else "")


def _error(numbers: Statistics, factor: float = 1) -> float:
    return factor * (half_width(numbers) or 0.0)


def _networks(results: Sequence[Result]) -> list[_Network]:
    summaries = (summary for result in results for summary in result.summaries)
    return [(summary.network, summary.dataset, summary.config.model.width) for summary in summaries]


def _published(axes: Axes, networks: Collection[_Network]) -> None:
    """Mark the paper's rows and others' results for some networks."""
    look: dict[str, Any] = {"linestyle": "none", "linewidth": 1, "zorder": 4}
    star = {"marker": "*", "markersize": 11, "markerfacecolor": "white"}
    labels: dict[str, dict[str, Any]] = {}
    for row in paper.ROWS.values():
        if (row.network, row.data, row.width) in networks:
            labels["Koster et al. 2022"] = star
            axes.errorbar(
                100 * row.remaining.mean,
                row.accuracy.mean,
                xerr=_bracket(row.remaining, 100),
                yerr=_bracket(row.accuracy),
                color="black",
                capsize=2,
                **look | star,
            )
    shapes = itertools.cycle(("1", "2", "3", "4", "+", "x"))
    for point in paper.POINTS:
        if (point.network, point.data, 1.0) in networks:
            spread = point.low < point.high
            label = f"{point.source}, a range" if spread else point.source
            if label not in labels:
                line = {"linestyle": "-"} if spread else {}
                labels[label] = {"marker": next(shapes), "markersize": 10, "markeredgewidth": 1.5, **line}
            ends = [100 * point.low, 100 * point.high]
            axes.plot(ends, [point.accuracy] * 2, color="black", **look | labels[label])
    for label, marks in labels.items():
        axes.plot([], [], color="black", label=label, **look | marks)


def _bracket(number: paper.Published, factor: float = 1) -> Any:
    if number.low is None or number.high is None:
        return None
    return [[factor * (number.mean - number.low)], [factor * (number.high - number.mean)]]


def _curves(figure: Figure, results: Sequence[Result]) -> None:
    """Draw accuracy and remaining weights over the epochs."""
    accuracy, remaining = figure.subplots(1, 2, sharex=True)
    for i, result in enumerate(results):
        look: dict[str, Any] = {
            "color": style.COLORS[i % len(style.COLORS)],
            "linestyle": style.LINES[i % len(style.LINES)],  # 4 lines and 7 colors: 28 looks
            "linewidth": 1.3,
            "label": result.setting.name,
        }
        epochs = [point["epoch"] for point in result.curve]
        accuracy.plot(epochs, [point["test_accuracy"] for point in result.curve], **look)
        remaining.plot(epochs, [100 * point["remaining_weights"] for point in result.curve], **look)
    accuracy.set_ylabel("test accuracy, %")
    remaining.set_ylabel("remaining weights, % (log scale)")
    remaining.set_yscale("log")
    style.label_log_axis(remaining.yaxis)
    for axes in (accuracy, remaining):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    remaining.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
