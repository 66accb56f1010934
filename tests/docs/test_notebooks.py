"""The notebooks run, with fewer epochs, and are stored without their output."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def code(path: pathlib.Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    "path",
    # One is enough to be quick.
    [
        pytest.param(path, marks=[] if path.stem == "masks-on-your-model" else pytest.mark.slow)
        for path in NOTEBOOKS
    ],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    cells = ["".join(cell["source"]) for cell in code(path)]
    text = "\n".join(cell for cell in cells if not cell.startswith("%pip"))
    text = re.sub(r"^(EPOCHS|STEPS) = \d+$", r"\1 = 2", text, flags=re.M)
    exec(compile(text, path.name, "exec"), {"__name__": "notebook"})
    pyplot.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output(path):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code(path))
