"""The benchmark of inference: its drawn networks, its contenders and its table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from artifact.small import CLASSES, network_of

import ssm_jax
from benchmarks import inference
from ssm_jax import graph
from ssm_jax.artifact import format


def test_a_power_law_goes_on_with_other_layers():
    # Density 1/size: ten weights a layer.
    made = inference.power_law([100, 1000], [0.1, 0.01], [200, 5000], 20 / 5200)
    np.testing.assert_allclose(made, [10 / 200, 10 / 5000], rtol=1e-6)
    # A layer that is full is that; the others share the rest.
    made = inference.power_law([100, 1000], [0.1, 0.01], [10, 1000], 60 / 1010)
    np.testing.assert_allclose(made, [1, 50 / 1000], rtol=1e-6)


def test_a_drawn_network_has_the_densities_of_its_file():
    name, left = "fcn", 0.0377
    network = inference.draw(name)
    layers = json.loads((inference.RESULTS / inference.DENSITIES[name][0]).read_text())["layers"]
    found = inference.facts(network, "drawn")
    assert found["remaining_weights"] / found["dense"]["weights"] == pytest.approx(left, rel=0.02)
    assert list(found["densities"].values()) == pytest.approx(
        [1 - layer["hidden"] for layer in layers], rel=0.1
    )
    assert all(layer.kernel.ternary for layer in network.layers())


def test_every_form_of_a_file_is_measured_and_tabled(tmp_path, capsys):
    network = network_of("conv2", rule=ssm_jax.Signed(threshold=0.8))
    path = tmp_path / "small.ssm"
    format.write(format.Artifact(network, tuple("abcde"), {"network": "conv2", "epochs": 3}), path)
    flags = ["--batches", "2", "--repeats", "1", "--seconds", "0", "--json", str(tmp_path / "made.json")]
    assert inference.main([str(path), *flags]) == 0
    report = json.loads((tmp_path / "made.json").read_text())
    found = report["networks"]["small"]
    assert found["origin"] == 'trained: {"network": "conv2", "epochs": 3}'
    assert found["compact"]["weights"] < found["dense"]["weights"]
    assert found["compact"]["shapes"]["denses/2"][1] == CLASSES
    times = found["batches"]["2"]
    assert {"native"} >= set(inference.CONTENDERS) - set(times["ms"])
    for form, difference in times["difference"].items():
        assert difference < (0.1 if form == "bfloat16" else 1e-4), form
    assert capsys.readouterr().out.strip() == inference.markdown([report])


@pytest.mark.slow
def test_gathering_and_int8_have_the_logits_of_the_dense_network(monkeypatch):
    monkeypatch.setattr(inference, "GATHERED_WEIGHTS", 1)
    monkeypatch.setattr(inference, "GATHERED_SHARE", 1.0)
    network = network_of("fcn", rule=ssm_jax.Signed(threshold=0.5))
    assert isinstance(network.nodes[-1], graph.Dense)
    forms = inference.forms(network)
    images = np.random.default_rng(0).integers(0, 256, (2, *network.image_shape), np.uint8)
    for name in ("gather", "int8"):
        np.testing.assert_allclose(forms[name](images), forms["dense"](images), rtol=1e-5, atol=1e-5)
