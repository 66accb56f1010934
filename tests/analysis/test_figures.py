"""Figures show the numbers that they are given; how they look is looked at by eye."""

import itertools

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

from matplotlib.colors import to_rgba

from ssm_jax import errors
from ssm_jax.analysis import figures, masks, style
from ssm_jax.runs.summary import Layer, Statistics

LINES = [
    {"epoch": epoch, "seed": seed, "test_accuracy": 90.0 + 2 * seed + epoch, "remaining_weights": 0.5 / epoch}
    for epoch in (1, 2)
    for seed in (0, 1)
]


def texts(axes):
    return [label.get_text() for label in axes]


def legend_of(figure):
    (legend,) = figure.legends
    return texts(legend.get_texts())


def test_a_curve_is_the_mean_over_seeds_and_every_seed():
    (axes,) = figures.curves({"run": LINES}, "accuracy").axes
    drawn = [line.get_ydata().tolist() for line in axes.lines if len(line.get_xdata())]
    assert drawn == [[91.0, 92.0], [93.0, 94.0], [92.0, 93.0]]
    assert axes.get_xlabel() == "epoch" and axes.get_ylabel() == "accuracy, %"


def test_remaining_weights_are_drawn_in_percent_on_a_log_scale():
    (axes,) = figures.curves({"run": LINES}, "remaining").axes
    assert axes.lines[-1].get_ydata().tolist() == [50.0, 25.0] and axes.get_yscale() == "log"


def test_an_unknown_curve_is_refused():
    with pytest.raises(errors.InputError, match="unknown curve 'los'; did you mean 'loss'"):
        figures.curves({"run": LINES}, "los")


def test_shares_of_a_layer_are_bars_one_after_another():
    layer = Layer(name="dense", shape=(4, 2), weights=8, inverted=0.25, hidden=0.625, kept=0.125)
    (axes,) = figures.layer_shares([layer]).axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 25), (25, 62.5), (87.5, 12.5)]
    assert texts(axes.get_yticklabels()) == ["dense"]


def test_a_mask_is_folded_with_its_channels_added_up():
    mask = np.array([[1, 0], [-1, 1], [0, 0], [3, 0]], np.int8)
    np.testing.assert_array_equal(masks.fold(mask, (1, 2, 2)), [[3, 1]])
    np.testing.assert_array_equal(masks.fold(np.float32([[0.25, 0.5]]), (1, 1, 1)), [[0.75]])


def test_a_folded_mask_stands_beside_the_image():
    image = np.array([[0.0, 9.0]])
    figure = figures.folded_mask(np.array([[1, 0], [-1, 1]], np.int8), (1, 2, 1), image)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert shown["remaining weights per place"].tolist() == [[1.0, 2.0]]
    assert shown["mean training image"].tolist() == image.tolist()


def test_a_filter_has_the_colors_of_its_signs():
    kernel = np.zeros((30, 30, 1, 3), np.float32)
    kernel[0, 0, 0, 1], kernel[29, 29, 0, 1], kernel[5, 5, 0, 2] = 0.5, -0.25, 0.5
    (axes,) = figures.filters(kernel, most=1).axes
    sheet = axes.images[0].get_array()
    assert sheet.shape == (30, 30, 4)  # the one unit with two weights
    assert tuple(sheet[0, 0]) == to_rgba(style.KEPT)
    assert tuple(sheet[29, 29]) == to_rgba(style.INVERTED, 0.625)
    assert tuple(sheet[5, 5]) == to_rgba(style.HIDDEN, 0.22)


def test_weights_into_a_unit_are_counted():
    mask = np.zeros((3, 3, 2, 2), np.int8)
    mask[0, 0, 0, 0] = mask[2, 2, 1, 0] = -1
    assert masks.incoming(mask).tolist() == [2, 0]


def test_a_layer_with_dead_units_gets_a_cross():
    (axes,) = figures.weights_per_unit({"some": np.array([0, 4, 8]), "none": np.array([1, 2, 3])}).axes
    crosses = [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "x"]
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_color() == style.INK]
    assert crosses == [[0]] and medians == [4, 2]


@pytest.mark.parametrize("counts", [[3, 4, 6], [30, 400, 2000], [0, 4, 6]])
def test_numbers_below_an_axis_do_not_run_into_each_other(counts):
    for figure in (
        figures.weights_per_unit({"layer": np.array(counts)}),
        figures.sizes({"dense": 1_064_800, "file": 1_072_000}),
    ):
        figure.canvas.draw()
        (axes,) = figure.axes
        labels = [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)]
        boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
        boxes = sorted(
            (box.x0, box.x1) for box in boxes if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1
        )
        assert boxes and all(left[1] < right[0] for left, right in itertools.pairwise(boxes))


def test_overlap_is_drawn_beside_chance():
    first, second = np.array([[1, 1], [0, 0]], np.int8), np.array([[1, 0], [1, 0]], np.int8)
    (axes,) = figures.overlap({"a, b": masks.overlap({"dense": first}, {"dense": second})}).axes
    chance, found = (line.get_xdata()[0] for line in axes.lines)
    assert (found, chance) == pytest.approx((100 / 3, 100 / 3))
    assert axes.lines[0].get_markerfacecolor() == "none" and legend_of(axes.figure) == ["a, b"]


def test_sizes_are_bars_with_their_numbers():
    (axes,) = figures.sizes({"dense": 1_064_800, "file": 10_839}).axes
    assert [bar.get_width() for bar in axes.patches] == [1_064_800, 10_839]
    assert texts(axes.texts) == ["1.06 MB", "10.8 kB"] and texts(axes.get_yticklabels()) == ["dense", "file"]


def test_the_frontier_has_a_point_of_every_run():
    runs = {
        "a": (Statistics.of([90.0, 92.0]), Statistics.of([0.04, 0.06])),
        "b": (Statistics.of([95.0]), Statistics.of([1.0])),
    }
    figure = figures.frontier(runs)
    (axes,) = figure.axes
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    assert points == [pytest.approx((5.0, 91.0)), (100.0, 95.0)] and legend_of(figure) == ["a", "b"]
    (seeds,) = axes.collections
    assert seeds.get_offsets().tolist() == [[4.0, 90.0], [6.0, 92.0]]
