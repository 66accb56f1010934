"""Figures say what they need before anything is drawn, and are written down alike."""

import importlib.util

import pytest

from ssm_jax import errors
from ssm_jax.analysis import style

drawn = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="the extra `report` is not installed"
)


def test_without_matplotlib_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match="figures need matplotlib: pip install"):
        style.drawn(lambda: None)()


def named(name):
    @style.drawn
    def draw():
        figure = style.figure(2.0)
        (line,) = figure.add_subplot().plot([0, 1], [1, 0])
        style.legend(figure, [line], [name])
        return figure

    return draw()


@drawn
def test_the_same_figure_gives_the_same_svg_without_a_date():
    first, second = style.svg(named("a")), style.svg(named("a"))
    assert first == second and "date" not in first and "metadata" not in first


@drawn
@pytest.mark.parametrize("name", ["_hidden", "$x^", "日本", "a <b> & 'c'"])
def test_a_name_is_shown_as_it_is(name):
    (legend,) = named(name).legends
    assert legend.get_texts()[0].get_text().strip() == name
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert escaped in style.svg(named(name))


@drawn
def test_text_is_text_in_the_ink_that_a_page_can_replace():
    text = style.svg(named("a"))
    assert "<text" in text and f"fill: {style.INK}" in text and f"stroke: {style.INK}" in text
    assert "#000000" not in text and "#ffffff" not in text
