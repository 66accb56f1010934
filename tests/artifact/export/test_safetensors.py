"""The safetensors library reads the file, and NumPy computes with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("safetensors")
import safetensors.numpy

from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.export import safetensors as exported


def test_numpy_computes_the_logits_as_the_docstrings_say(tmp_path, fcn, agree, snippet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported.write(fcn.artifact, tmp_path / "model.safetensors")
    names = {"np": np, "json": json, "safetensors": safetensors, "images": fcn.images}
    exec(snippet(exported) + "\n" + snippet(arrays), names)
    agree(names["logits"], fcn)


def test_the_file_holds_arrays_and_texts(tmp_path, case):
    path = tmp_path / "model.safetensors"
    exported.write(case.artifact, path)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == arrays.texts(case.artifact)
    found, expected = safetensors.numpy.load_file(path), arrays.tensors(case.artifact.network)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
