"""Figures of trained networks; every function returns a matplotlib figure that belongs to its caller.

They are narrow, so that their text can be read on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_jax import errors
from ssm_jax.analysis import masks, style
from ssm_jax.analysis.masks import ByLayer, Overlap
from ssm_jax.runs import curves as means
from ssm_jax.runs.summary import Layer, Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# What `curves` draws: label of the axis, factor, and the metrics, the first of which is of a line of its own.
CURVES: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "loss": ("loss", 1.0, ("test_loss", "train_loss")),
    "accuracy": ("accuracy, %", 1.0, ("test_accuracy", "train_accuracy")),
    "remaining": ("remaining weights, % (log scale)", 100.0, ("remaining_weights",)),
}


@style.drawn
def curves(runs: Mapping[str, Sequence[Mapping[str, float]]], what: str) -> Figure:
    """Draw a metric over the epochs: the mean over seeds, and every seed as a faint line.

    Args:
      runs: By name, the lines of `metrics.jsonl`.
      what: `loss`, `accuracy` (of the test and, dashed, the training set) or `remaining`.

    Raises:
      InputError: There is no such metric, or matplotlib is not installed.
    """
    from matplotlib import ticker

    label, factor, metrics = errors.choose("curve", what, CURVES)
    figure = style.figure(2.9)
    axes = figure.add_subplot()
    for i, lines in enumerate(runs.values()):
        for j, metric in enumerate(metrics):
            # The only run has a color for each of its two lines.
            color = style.COLORS[(i if len(runs) > 1 else j) % len(style.COLORS)]
            seeds = sorted({line["seed"] for line in lines})
            for seed in seeds if len(seeds) > 1 else ():
                own = [line for line in lines if line["seed"] == seed]
                axes.plot(*_points(own, metric, factor), color=color, linewidth=0.6, alpha=0.35)
            axes.plot(
                *_points(means.of_metrics(lines), metric, factor),
                color=color,
                linewidth=1.6 if j == 0 else 1.1,
                linestyle="--" if j else "-",
                marker="." if len({line["epoch"] for line in lines}) == 1 else None,
            )
    if what == "remaining":
        axes.set_yscale("log")
        style.label_log_axis(axes.yaxis)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if len(runs) > 1:
        style.legend(figure, [_line(i) for i in range(len(runs))], runs)
    elif len(metrics) > 1:
        style.legend(figure, [_line(0), _line(1, linestyle="--")], ("test", "training"))
    return figure


def _points(lines: Sequence[Mapping[str, float]], metric: str, factor: float) -> Any:
    points = sorted((line["epoch"], factor * line[metric]) for line in lines if metric in line)
    return [epoch for epoch, _ in points], [value for _, value in points]


def _line(number: int, **settings: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=style.COLORS[number % len(style.COLORS)], **settings)


@style.drawn
def layer_shares(
    layers: Sequence[Layer], names: Sequence[str] = ("-1 invert", "0 hide", "+1 keep")
) -> Figure:
    """Draw the shares of -1, 0 and +1 of every masked layer, in the order of the network.

    Args:
      layers: The layers of a run's summary.
      names: What these three do.
    """
    figure = style.figure(0.9 + 0.24 * len(layers))
    axes = figure.add_subplot()
    places = np.arange(len(layers))
    left = np.zeros(len(layers))
    parts = {"inverted": style.INVERTED, "hidden": style.HIDDEN, "kept": style.KEPT}
    for name, color in parts.items():
        shares = np.array([100 * getattr(layer, name) for layer in layers])
        alpha = 0.3 if name == "hidden" else 1.0
        axes.barh(places, shares, left=left, color=color, alpha=alpha, height=0.72)
        left += shares
    axes.set_yticks(places, [style.short(layer.name) for layer in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the layer's weights, %")
    axes.grid(False)
    axes.tick_params(axis="y", length=0)
    style.legend(figure, axes.containers, names)
    return figure


@style.drawn
def folded_mask(mask: np.ndarray, shape: tuple[int, int, int], image: np.ndarray | None = None) -> Figure:
    """Draw the mask of a dense layer where its inputs lie in the image: as in Koster et al. 2022.

    Args:
      mask: See `fold`.
      shape: See `fold`.
      image: An image `[H, W]` to be shown beside it, such as the mean of the training set.
    """
    pictures = {"remaining weights per place": masks.fold(mask, shape)}
    if image is not None:
        pictures["mean training image"] = np.asarray(image, float)
    figure = style.figure(2.3 if len(pictures) > 1 else 3.2)
    for axes, (title, picture) in zip(np.ravel(figure.subplots(1, len(pictures))), pictures.items()):
        drawn = axes.imshow(picture, cmap="viridis", vmin=0, interpolation="none")
        style.bare(axes)
        axes.set_title(title)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.85, aspect=30)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
    return figure


@style.drawn
def filters(kernel: np.ndarray, most: int = 48) -> Figure:
    """Draw the effective kernels of a first layer as signed tiles, the channels of a unit side by side.

    Args:
      kernel: Shape `(k, k, I, O)`; a dense layer's is folded to `(H, W, C, O)`.
      most: The most units to show, those with the most remaining weights.
    """
    from matplotlib.colors import to_rgba

    height, width, channels, units = kernel.shape
    weights = np.count_nonzero(kernel.reshape(-1, units), axis=0)
    chosen = np.sort(np.argsort(-weights, kind="stable")[:most])
    thin, wide = (1, 3) if height > 8 else (0.25, 1)
    scale = max(1, round(24 / height)) if height < 24 else 1
    gap, margin = max(1, round(thin * scale)), max(2, round(wide * scale))
    tile = (height * scale, channels * (width * scale + gap) - gap)
    columns = max(1, min(len(chosen), round(math.sqrt(2.0 * len(chosen) * tile[0] / tile[1]))))
    rows = -(-len(chosen) // columns)
    strength = kernel / (np.abs(kernel).max() or 1)
    sheet = np.zeros((rows * (tile[0] + margin) - margin, columns * (tile[1] + margin) - margin, 4))
    colors = {sign: np.array(to_rgba(color)) for sign, color in ((-1, style.INVERTED), (1, style.KEPT))}
    nothing = np.array(to_rgba(style.HIDDEN, 0.22))
    for place, unit in enumerate(chosen):
        top, left = (tile[0] + margin) * (place // columns), (tile[1] + margin) * (place % columns)
        for channel in range(channels):
            values = strength[:, :, channel, unit]
            cells = np.broadcast_to(nothing, (height, width, 4)).copy()
            for sign, color in colors.items():
                of_sign = values * sign > 0
                cells[of_sign] = color
                cells[of_sign, 3] = 0.25 + 0.75 * np.abs(values[of_sign])
            start = left + channel * (width * scale + gap)
            block = np.repeat(np.repeat(cells, scale, 0), scale, 1)
            sheet[top : top + tile[0], start : start + width * scale] = block
    figure = style.figure(0.35 + min(7.0, style.WIDTH * sheet.shape[0] / sheet.shape[1]))
    axes = figure.add_subplot()
    axes.imshow(sheet, interpolation="none")
    style.bare(axes)
    from matplotlib.patches import Patch

    patches = [Patch(color=color) for color in (style.INVERTED, style.KEPT)]
    style.legend(figure, patches, ("negative weight", "positive weight"))
    return figure


@style.drawn
def weights_per_unit(layers: Mapping[str, np.ndarray]) -> Figure:
    """Draw how many weights remain per unit: half of a layer's units lie in its box, all between its ends.

    Args:
      layers: By a layer's name, the number of remaining weights into each of its units, `[O]`.
    """
    figure = style.figure(0.8 + 0.3 * len(layers))
    axes = figure.add_subplot()
    for place, counts in enumerate(layers.values()):
        low, first, middle, third, high = np.quantile(counts, [0, 0.25, 0.5, 0.75, 1])
        axes.plot([low, high], [place, place], color=style.GRAY, linewidth=1, zorder=2)
        axes.barh(place, third - first, left=first, height=0.5, color=style.KEPT, alpha=0.55, zorder=3)
        axes.plot([middle] * 2, [place - 0.25, place + 0.25], color=style.INK, linewidth=1.6, zorder=4)
        dead = int(np.count_nonzero(counts == 0))
        if dead:
            axes.plot(0, place, marker="x", color=style.INVERTED, markersize=6, markeredgewidth=1.6, zorder=5)
    axes.set_yticks(range(len(layers)), [style.short(name) for name in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    least, most = (end(np.concatenate(list(layers.values()))) for end in (np.min, np.max))
    if least:
        axes.set_xscale("log")
        style.label_log_axis(axes.xaxis, (1, 2, 5) if most < 50 * least else (1,))
    else:
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=-0.2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("weights into a unit (log scale)")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


@style.drawn
def overlap(pairs: Mapping[str, ByLayer[Overlap]]) -> Figure:
    """Draw which share of the remaining weights two masks have in common, by layer; chance is hollow.

    Args:
      pairs: By the name of a pair, its overlap; the pairs are of one architecture.
    """
    layers = list(next(iter(pairs.values())).layers)
    figure = style.figure(1.0 + 0.2 * len(pairs) + 0.3 * len(layers))
    axes = figure.add_subplot()
    handles = []
    for i, pair in enumerate(pairs.values()):
        color, marker = style.COLORS[i % len(style.COLORS)], style.MARKERS[i % len(style.MARKERS)]
        places = np.arange(len(layers)) + 0.5 * ((i + 0.5) / len(pairs) - 0.5)
        jaccard = [_percent(pair.layers[layer].jaccard) for layer in layers]
        chance = [_percent(pair.layers[layer].jaccard_by_chance) for layer in layers]
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 6, "linestyle": "none"}
        axes.hlines(places, chance, jaccard, color=color, linewidth=1, alpha=0.6)
        axes.plot(chance, places, markerfacecolor="none", **look)
        handles += axes.plot(jaccard, places, **look)
    axes.set_yticks(range(len(layers)), [style.short(layer) for layer in layers])
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("weights in both masks / weights in either, %")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    style.legend(figure, handles, pairs)
    return figure


def _percent(share: float | None) -> float:
    return math.nan if share is None else 100 * share


@style.drawn
def hardest(
    images: np.ndarray, labels: Sequence[str], predictions: Sequence[str], probabilities: Sequence[float]
) -> Figure:
    """Draw images that a network takes for something else.

    Args:
      images: uint8 `[N, H, W, C]`, at least one; C is 1 or 3.
      labels: What each is.
      predictions: What the network says.
      probabilities: How sure it is of that, in [0, 1].
    """
    words = max(map(len, (*labels, *predictions))) > 3
    columns = min(4 if words else 5, len(images))
    rows = -(-len(images) // columns)
    figure = style.figure(rows * (style.WIDTH / max(columns, 4) + (0.45 if words else 0.3)))
    places = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for axes in places:
        axes.set_axis_off()
    for axes, image, label, prediction, probability in zip(
        places, images, labels, predictions, probabilities, strict=False
    ):
        gray = image.shape[-1] != 3
        axes.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255, interpolation="none")
        title = f"{style.short(label)}{chr(10) if words else ' '}→ {style.short(prediction)}"
        axes.set_title(f"{title}\n{100 * probability:.0f} %", fontsize=8)
    return figure


@style.drawn
def sizes(sizes: Mapping[str, int]) -> Figure:
    """Draw sizes on a logarithmic scale.

    Args:
      sizes: Bytes by what they are of, more than 0 each.
    """
    figure = style.figure(0.7 + 0.3 * len(sizes))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(sizes)), list(sizes.values()), color=style.KEPT, height=0.6)
    axes.bar_label(bars, [style.in_bytes(size) for size in sizes.values()], padding=3, fontsize=8)
    axes.set_yticks(range(len(sizes)), [style.short(name) for name in sizes])
    axes.set_ylim(len(sizes) - 0.5, -0.5)
    axes.set_xscale("log")
    largest = max(sizes.values())
    axes.set_xlim(min(min(sizes.values()) / 3, largest / 50), largest * 8)
    style.label_log_axis(axes.xaxis, (1,))
    axes.xaxis.set_major_formatter(lambda value, _: style.in_bytes(value))
    axes.set_xlabel("size (log scale)")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


@style.drawn
def frontier(runs: Mapping[str, tuple[Statistics, Statistics]]) -> Figure:
    """Draw accuracy against remaining weights: the mean of every run, and its seeds as faint points.

    Args:
      runs: By name, test accuracy in % and remaining weights as a share.
    """
    figure = style.figure(3.2)
    axes = figure.add_subplot()
    handles = []
    for i, (accuracy, remaining) in enumerate(runs.values()):
        color, marker = style.COLORS[i % len(style.COLORS)], style.MARKERS[i % len(style.MARKERS)]
        shares = [100 * share for share in remaining.values]
        if len(shares) > 1:
            axes.scatter(shares, accuracy.values, color=color, marker=marker, s=12, alpha=0.4, linewidths=0)
        handles += axes.plot(
            100 * remaining.mean, accuracy.mean, color=color, marker=marker, markersize=7, linestyle="none"
        )
    axes.set_xscale("log")
    style.label_log_axis(axes.xaxis)
    axes.set_xlabel("remaining weights, % (log scale)")
    axes.set_ylabel("test accuracy, %")
    axes.margins(0.12)
    style.legend(figure, handles, runs)
    return figure
