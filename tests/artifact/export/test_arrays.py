"""Arrays and JSON hold a network whole."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from artifact.exported import artifact_of
from artifact.small import network_of

from ssm_jax import errors, graph
from ssm_jax.artifact import run
from ssm_jax.artifact.export import arrays
from ssm_jax.artifact.format import Artifact


def rebuilt(described: dict[str, Any], tensors: dict[str, np.ndarray]) -> graph.Network:
    """The network again, by the module's docstring alone."""
    nodes = []
    for operation in described["operations"]:
        fields = dict(operation)
        kind, name = graph.OPERATIONS[fields.pop("operation")], fields.get("name")
        own = {
            key.rpartition(".")[2]: array for key, array in tensors.items() if key.rpartition(".")[0] == name
        }
        if kind in (graph.Conv, graph.Dense):
            fields["kernel"] = (
                graph.Kernel(own["kernel"])
                if "kernel" in own
                else graph.Kernel(own["values"], np.float32(own["scale"]))
            )
        elif kind is graph.Offset:
            fields = {"inputs": fields["inputs"], "values": own["values"]}
        else:
            fields |= own
        nodes.append(kind(**fields | {"inputs": tuple(fields["inputs"])}))
    return graph.Network(
        image_shape=tuple(described["image_shape"]),
        classes=described["classes"],
        dtype=described["dtype"],
        nodes=tuple(nodes),
    )


def assert_whole(network: graph.Network) -> None:
    tensors, text = arrays.tensors(network), arrays.texts(artifact_of(network))["graph"]
    again = rebuilt(json.loads(text), tensors)
    assert arrays.texts(artifact_of(again))["graph"] == text
    same(arrays.tensors(again), tensors)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_name_that_leads_out_of_a_folder_is_refused():
    nodes = (
        graph.Flatten(inputs=(0,)),
        graph.Dense(inputs=(1,), name="../../x", kernel=graph.Kernel(np.int8([[1]]))),
    )
    with pytest.raises(errors.InputError, match=r"the name of a layer is '\.\./\.\./x'; it must be"):
        arrays.tensors(graph.Network(image_shape=(1, 1, 1), classes=1, nodes=nodes))


@pytest.mark.slow
def test_a_network_of_every_family_can_be_built_again(family):
    assert_whole(network_of(*family))


def test_every_operation_can_be_built_again(every_operation):
    assert_whole(every_operation.artifact.network)


def test_names_settings_and_arrays_of_a_small_network():
    kernel = graph.Kernel(np.int8([[1, 0], [-1, 1]]), np.float32(0.5))
    network = graph.Network(
        image_shape=(1, 2, 1),
        classes=2,
        nodes=(
            graph.Standardize(inputs=(0,)),
            graph.Flatten(inputs=(1,)),
            graph.Dense(inputs=(2,), name="denses/0", kernel=kernel),
            graph.Offset(inputs=(3,), values=np.float32([1, 2])),
        ),
    )
    texts = arrays.texts(Artifact(network, ("no", "yes"), {"seed": 3}))
    assert {name: json.loads(text) for name, text in texts.items()} == {
        "graph": {
            "image_dtype": "uint8",
            "image_shape": [1, 2, 1],
            "classes": 2,
            "dtype": "float32",
            "operations": [
                {"operation": "standardize", "inputs": [0]},
                {"operation": "flatten", "inputs": [1]},
                {"operation": "dense", "inputs": [2], "name": "denses/0"},
                {"operation": "offset", "inputs": [3], "name": "offset/3"},
            ],
        },
        "class_names": ["no", "yes"],
        "record": {"seed": 3},
    }
    found = arrays.tensors(network)
    assert {name: (array.dtype.name, array.tolist()) for name, array in found.items()} == {
        "denses/0.values": ("int8", [[1, 0], [-1, 1]]),
        "denses/0.scale": ("float32", 0.5),
        "offset/3.values": ("float32", [1.0, 2.0]),
    }


def test_arrays_of_a_bfloat16_network_are_those_that_it_computes_with(every_operation):
    network = dataclasses.replace(every_operation.artifact.network, dtype="bfloat16")
    computed = run.parameters(network)
    for node, held in zip(arrays.rounded(network).nodes, computed):
        if isinstance(node, (graph.Conv, graph.Dense)):
            np.testing.assert_array_equal(node.kernel.dense(), held["kernel"].astype(np.float32))
        elif isinstance(node, graph.Normalize):
            for name, array in node.arrays().items():
                np.testing.assert_array_equal(array, held[name].astype(np.float32))
    # Still whole numbers where every number times the rounded constant is one of bfloat16's.
    names = {name for name in arrays.tensors(network) if name.startswith("denses/0")}
    assert names == {"denses/0.values", "denses/0.scale"}


def test_numpy_alone_computes_the_logits_as_the_docstrings_say(tmp_path, fcn, agree, snippet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays.npz(fcn.artifact, tmp_path / "model.npz")
    names = {"np": np, "json": json, "images": fcn.images}
    exec(snippet(arrays.npz) + "\n" + snippet(arrays), names)
    agree(names["logits"], fcn)
    names["tensors"].close()


def test_npz_holds_arrays_and_texts_without_pickle(tmp_path, case):
    arrays.npz(case.artifact, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        found = dict(file)
    texts = arrays.texts(case.artifact)
    assert {name: found.pop(name).item() for name in texts} == texts
    same(found, arrays.tensors(case.artifact.network))


def test_safetensors_and_numpy_compute_the_logits_as_the_docstrings_say(
    tmp_path, fcn, agree, snippet, monkeypatch
):
    safetensors = pytest.importorskip("safetensors")
    pytest.importorskip("safetensors.numpy")
    monkeypatch.chdir(tmp_path)
    arrays.safetensors(fcn.artifact, tmp_path / "model.safetensors")
    names = {"np": np, "json": json, "safetensors": safetensors, "images": fcn.images}
    exec(snippet(arrays.safetensors) + "\n" + snippet(arrays), names)
    agree(names["logits"], fcn)


def test_safetensors_hold_arrays_and_texts(tmp_path, case):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    arrays.safetensors(case.artifact, path)
    with pytest.importorskip("safetensors").safe_open(path, "numpy") as file:
        assert file.metadata() == arrays.texts(case.artifact)
    same(numpy.load_file(path), arrays.tensors(case.artifact.network))
