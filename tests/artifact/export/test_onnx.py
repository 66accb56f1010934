"""onnxruntime runs the file, for any number of images."""

from __future__ import annotations

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from artifact.exported import RECORD, case_of
from artifact.small import images_of, network_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from ssm_jax import graph
from ssm_jax.artifact.export import onnx as exported


def session_of(artifact, **options) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(exported.model(artifact).SerializeToString(), settings)


def rounded(scale: np.float32) -> np.float32:
    return np.float32(scale.astype(jnp.bfloat16))


def logits_of(artifact, images: np.ndarray) -> np.ndarray:
    (logits,) = session_of(artifact).run(["logits"], {"images": images})
    return logits


def test_onnxruntime_computes_the_logits_as_the_docstring_says(tmp_path, case, agree, snippet, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exported.write(case.artifact, tmp_path / "model.onnx")
    for batch in (1, 20):
        part = dataclasses.replace(case, images=case.images[:batch], logits=case.logits[:batch])
        names = {"onnxruntime": onnxruntime, "images": part.images}
        exec(snippet(exported), names)
        agree(names["logits"], part)


def test_networks_of_every_family_are_translated(family, agree):
    case = case_of(network_of(*family), images_of(family[0]))
    agree(logits_of(case.artifact, case.images), case)


def test_every_operation_is_translated(every_operation, agree):
    agree(logits_of(every_operation.artifact, every_operation.images), every_operation)


def test_an_image_is_taken_as_it_is_where_nothing_is_standardized(agree):
    nodes = (
        graph.Add(inputs=(0, 0)),
        graph.MaxPool(inputs=(0,), window=2, stride=1, padding=1),
        graph.Offset(inputs=(1,), values=np.float32([0.5])),
        graph.Mean(inputs=(3,)),
        graph.Mean(inputs=(2,)),
        graph.Add(inputs=(4, 5)),
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    case = case_of(graph.Network(image_shape=(4, 4, 1), classes=1, nodes=nodes), images)
    agree(logits_of(case.artifact, images), case)


def test_a_bfloat16_network_computes_in_float32_with_its_rounded_kernels(agree):
    network = network_of("conv2")
    in_bfloat16 = case_of(dataclasses.replace(network, dtype="bfloat16"), images_of("conv2"))
    logits = logits_of(in_bfloat16.artifact, in_bfloat16.images)
    np.testing.assert_allclose(logits, in_bfloat16.logits, rtol=0, atol=0.02 * np.abs(logits).max())
    layers = [
        dataclasses.replace(node, kernel=graph.Kernel(node.kernel.values, rounded(node.kernel.scale)))
        if isinstance(node, (graph.Conv, graph.Dense))
        else node
        for node in network.nodes
    ]
    rounded_kernels = dataclasses.replace(network, nodes=tuple(layers))
    agree(logits, case_of(rounded_kernels, in_bfloat16.images))


def test_a_uniform_image_is_divided_by_the_floor(fcn, agree):
    images = np.full((1, 8, 8, 1), 200, np.uint8)
    images[0, 0, 0, 0] = 201
    case = case_of(fcn.artifact.network, images)
    agree(logits_of(case.artifact, images), case)


def test_the_file_has_names_shapes_classes_and_record(case):
    session = session_of(case.artifact)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["batch", 8, 8, 1])
    assert (given.name, given.type, given.shape) == ("logits", "tensor(float)", ["batch", 10])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == list(case.artifact.class_names)
    assert json.loads(metadata["record"]) == RECORD


def test_a_weight_takes_a_byte_in_the_file_and_is_unpacked_once(tmp_path, fcn):
    stored = {
        tuple(tensor.dims): len(tensor.raw_data)
        for tensor in exported.model(fcn.artifact).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    assert stored == {layer.kernel.shape: layer.kernel.values.size for layer in fcn.artifact.network.layers()}
    session_of(fcn.artifact, optimized_model_filepath=str(tmp_path / "optimized.onnx"))
    optimized = onnx.load(tmp_path / "optimized.onnx").graph
    # Of the images alone, and of the deviation.
    assert [node.op_type for node in optimized.node].count("Cast") == 1
    assert [node.op_type for node in optimized.node].count("Mul") == 1
