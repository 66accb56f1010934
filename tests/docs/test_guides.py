"""The code of the guides runs, page by page, as a reader would run it."""

from __future__ import annotations

import pathlib
import re

import pytest

import ssm_jax
from ssm_jax import core

GUIDES = pathlib.Path(__file__).parents[2] / "docs" / "guides"


def run(name: str) -> dict:
    """Run the Python of a page; returns what it has defined."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (GUIDES / f"{name}.md").read_text(), re.S | re.M)
    assert blocks
    found: dict = {"__name__": "__main__"}
    exec(compile("\n".join(blocks), f"{name}.md", "exec", dont_inherit=True), found)
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_own_model(capsys):
    page = run("own-model")
    assert [path for path, _ in ssm_jax.masked_layers(page["raw"])] == ["weight"]
    assert "norm/scale" in capsys.readouterr().out
    assert page["logits"].shape == (2, 10)


def test_own_loop():
    page = run("own-loop")
    # But for scores that tie.
    assert ssm_jax.remaining_weights(page["model"]) == pytest.approx(0.1, abs=1.5 / 7400)
    counts = core.counts(page["masks"]).values()
    assert sum(int(count.hidden) for count in counts) == 7400 - 740
    assert float(page["value"]) < 2.2


def test_pretrained():
    page = run("pretrained")
    assert ssm_jax.remaining_weights(page["model"]) == pytest.approx(0.3, abs=0.5 / 7400)


@pytest.mark.slow
def test_own_rule():
    page = run("own-rule")
    assert (page["gradient"] == 1).all()
    assert page["summary"].method == "above" and 0 < page["summary"].remaining_weights.mean < 1


def test_own_data():
    assert run("own-data")["summary"].test_accuracy.mean > 90


def test_tracking():
    assert run("tracking")["best"].accuracy.keys() == {0}
