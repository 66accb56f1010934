"""NumPy alone reads the file and computes with it."""

from __future__ import annotations

import json

import numpy as np

from ssm_jax.artifact.export import arrays, npz


def test_numpy_alone_computes_the_logits_as_the_docstrings_say(tmp_path, fcn, agree, snippet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    npz.write(fcn.artifact, tmp_path / "model.npz")
    names = {"np": np, "json": json, "images": fcn.images}
    exec(snippet(npz) + "\n" + snippet(arrays), names)
    agree(names["logits"], fcn)
    names["tensors"].close()


def test_the_file_holds_arrays_and_texts_without_pickle(tmp_path, case):
    npz.write(case.artifact, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        found = dict(file)
    texts = arrays.texts(case.artifact)
    assert {name: found.pop(name).item() for name in texts} == texts
    expected = arrays.tensors(case.artifact.network)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
