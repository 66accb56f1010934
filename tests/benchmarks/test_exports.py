"""What is said of exported models is what the file of measurements says."""

from __future__ import annotations

import json
import pathlib

import pytest

pytest.importorskip("onnxruntime")
exports = pytest.importorskip("benchmarks.exports")

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "exports" / "models.json").read_text())


def test_the_table_is_what_the_file_says():
    text = (ROOT / "docs" / "guides" / "export.md").read_text()
    assert (
        exports.table(RESULTS) == text.split("<!-- exported -->\n")[1].split("\n<!-- end of exported -->")[0]
    )


def test_every_model_returned_with_the_same_logits():
    assert RESULTS.keys() == exports.models().keys()
    for name, of in RESULTS.items():
        for kind in ("ssm", "onnx", "c"):
            assert of[kind].get("difference", 0) < 1e-5, (name, kind)


def test_a_model_is_measured():
    build, inputs = exports.models()["readme"]
    found, stored = exports.measured(build, inputs), RESULTS["readme"]
    for kind in ("operations", "weights", "remaining"):
        assert found[kind] == stored[kind]
    assert found["c"].keys() == stored["c"].keys() and found["c"]["difference"] < 1e-5
