"""The panels of the paper's rows, of made-up results; how they look is looked at by eye."""

import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from ssm_jax.experiments import panels
from ssm_jax.experiments.results import Result


@pytest.fixture
def drawn(planned, summarized):
    """The panels of settings `(row, config, accuracies, method)`."""

    def draw(*settings):
        results = [
            Result(
                planned(f"{i}", row=row, config=config).setting,
                (summarized(accuracies, [0.04] * len(accuracies), method=method),),
            )
            for i, (row, config, accuracies, method) in enumerate(settings)
        ]
        figure = Figure()
        panels.draw(figure, results)
        return {axes.get_title(): axes for axes in figure.axes}

    return draw


def said(axes):
    return {text.get_text() for text in axes.texts}


def test_every_row_has_a_panel_with_the_paper_and_others_on_the_same_network(drawn):
    found = drawn(("fcn", "fcn.py:best", [98.0], "signed"), ("conv2", "conv2.py", [75.0], "signed"))
    assert list(found) == ["fcn, mnist", "conv2, cifar10"]
    assert said(found["fcn, mnist"]) == {"best", "paper", "Zhou"}
    assert {"main", "biprop", "edge-popup"} <= said(found["conv2, cifar10"])


def test_a_dense_twin_is_a_line_and_a_failed_network_an_open_mark(drawn):
    (axes,) = drawn(
        ("conv6", "conv6.py:best", [50.0, 88.0, 89.0], "signed"), ("conv6", "conv6.py", [91.0], "dense")
    ).values()
    assert {"dense", "1 of 3 failed"} <= said(axes)
    low, high = axes.get_ylim()
    assert low > 60 and high > 91


def test_a_point_far_below_does_not_hide_the_differences(drawn):
    (axes,) = drawn(("resnet20", "resnet20.py:best", [87.0], "signed")).values()
    assert axes.get_ylim()[0] > 60  # edge-popup has 26.4 % at 1.8 %
