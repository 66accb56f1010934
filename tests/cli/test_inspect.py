"""What a file holds, in text and in JSON."""

import json

import numpy as np
import pytest

import ssm_jax
from ssm_jax import graph
from ssm_jax.artifact import format
from ssm_jax.artifact.format import Artifact
from ssm_jax.cli import inspect


def test_a_layer_is_counted():
    values = np.int8([[1, 0, -1, 0], [0, 0, 0, 0], [1, 0, 1, 0]])
    found = inspect.layer(graph.Dense(inputs=(1,), name="head", kernel=graph.Kernel(values)))
    assert (found.name, found.shape, found.weights) == ("head", (3, 4), 12)
    assert (found.negative, found.hidden, found.positive) == (1 / 12, 8 / 12, 3 / 12)
    assert (found.inputs, found.dead_inputs, found.outputs, found.dead_outputs) == (3, 1, 4, 2)
    # 12 values of 1/12, 8/12 and 3/12: 14.27 bits.
    assert found.entropy == 2 and found.bytes >= found.entropy


def test_units_of_a_convolution_are_its_channels():
    values = np.zeros((3, 3, 2, 3), np.int8)
    values[1, 1, 0, 2] = 1
    found = inspect.layer(graph.Conv(inputs=(1,), name="conv", kernel=graph.Kernel(values), stride=1))
    assert (found.inputs, found.dead_inputs, found.outputs, found.dead_outputs) == (2, 1, 3, 2)


def test_the_table_and_the_record_are_shown(ssm, network, trained):
    status, out, err = ssm("inspect", network)
    assert status == 0 and err == ""
    summary = json.loads((trained / "summary.json").read_text())
    accuracy, remaining = summary["test_accuracy"]["values"][0], summary["remaining_weights"]["values"][0]
    first = out.partition("\n")[0]
    assert first.startswith("fcn on digits, signed, seed 0, 2 epochs")
    assert first.endswith(f": test accuracy {accuracy:.2f} %, remaining weights {100 * remaining:.2f} %")
    assert "\ninputs 8x8x1 of uint8, computed in float32\n10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in out
    for layer in summary["layers"]:
        assert f"{layer['name']}  {'x'.join(map(str, layer['shape']))}" in out
    assert "\n<0, 0, >0: of the weights as applied" in out and "+1" not in out
    assert f"{network.stat().st_size:,} bytes" in out and "\n  dataset: digits\n" in out


def test_json_holds_what_the_network_says(ssm, network, trained):
    status, out, _ = ssm("inspect", network, "--json")
    facts = json.loads(out)
    restored = ssm_jax.restore(trained)
    assert status == 0 and [layer["name"] for layer in facts["layers"]] == list(restored.masks)
    for layer, mask in zip(facts["layers"], restored.masks.values()):
        assert layer["shape"] == list(mask.shape) and layer["weights"] == mask.size
        assert layer["hidden"] == pytest.approx((mask == 0).mean())
        assert layer["negative"] + layer["hidden"] + layer["positive"] == pytest.approx(1)
        assert layer["dead_outputs"] == (~mask.any(0)).sum()
    weights = sum(mask.size for mask in restored.masks.values())
    sizes = facts["bytes"]
    assert sizes["file"] == network.stat().st_size
    assert (sizes["weights"], sizes["float32"]) == (weights, 4 * weights)
    assert facts["multiply_adds"] == {
        "all": weights,
        "remaining": sum(np.count_nonzero(mask) for mask in restored.masks.values()),
    }
    assert facts["record"]["config"]["data.name"] == "digits"


def test_a_record_of_somebody_else_is_shown_without_control_characters(ssm, tmp_path):
    kernel = graph.Kernel(np.int8([[1, -1]]))
    nodes = (graph.Flatten(inputs=(0,)), graph.Dense(inputs=(1,), name="head", kernel=kernel))
    record = {"network": "\x1b[2J", "test_accuracy": "high", "more": [1, {"a": None}], "long": "x" * 10**4}
    made = graph.Network(image_shape=(1, 1, 1), classes=2, nodes=nodes)
    format.write(Artifact(made, ("a", "b"), record), tmp_path / "own.ssm")
    status, out, _ = ssm("inspect", tmp_path / "own.ssm")
    assert status == 0 and out.startswith("?[2J\n") and "\x1b" not in out
    assert "\n  test_accuracy: high\n" in out and max(map(len, out.splitlines())) < 250
    format.write(Artifact(made, ("a", "b"), {}), tmp_path / "own.ssm")
    out = ssm("inspect", tmp_path / "own.ssm")[1]
    assert out.startswith("a network without a record\n") and "training record" not in out


def test_what_is_no_network_is_refused(refused, tmp_path):
    (tmp_path / "other").write_bytes(b"something else")
    assert "other: it is no .ssm file" in refused("inspect", tmp_path / "other")
    assert "cannot read none.ssm: No such file" in refused("inspect", "none.ssm")
    assert f"{tmp_path} holds no run" in refused("inspect", tmp_path)


def test_a_run_is_shown_as_what_is_exported_of_it(ssm, trained, network):
    of_run, of_file = (json.loads(ssm("inspect", source, "--json")[1]) for source in (trained, network))
    assert of_run == of_file
