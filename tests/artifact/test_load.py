"""A file becomes a function from images to logits, whatever computes them."""

from __future__ import annotations

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import CLASSES, images_of, model_of, network_of
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.artifact import format, graph, load, native

NAMES = tuple("abcde")


def compiles() -> bool:
    try:
        return bool(native.compiler())
    except errors.InputError:
        return False


BACKENDS = [
    pytest.param(
        name, marks=[pytest.mark.skipif(name == "native" and not compiles(), reason="no C compiler")]
    )
    for name in load.BACKENDS
]


def artifact_of(network: graph.Network) -> format.Artifact:
    return format.Artifact(network, NAMES[: network.classes], {"network": "small"})


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("artifact") / "model.ssm"
    format.write(path, artifact_of(network_of("conv2")))
    return path


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    logits = nnx.jit(lambda model, images: model(ssm_jax.standardize(images)))
    return np.asarray(logits(model_of("conv2"), jnp.asarray(images_of("conv2"))))


def test_dense_gives_the_logits_of_the_trained_network_bit_for_bit(file, expected):
    model = ssm_jax.load(file, backend="dense")
    logits = model(images_of("conv2"))
    assert isinstance(logits, jax.Array) and logits.dtype == jnp.float32 and logits.shape == (3, CLASSES)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_these_logits_for_one_image_and_several(backend, file, expected):
    model = load.load(file, backend)
    assert model.backend == backend and model.artifact.class_names == NAMES
    images = images_of("conv2")
    for given in (images, jnp.asarray(images), np.asfortranarray(images)):
        np.testing.assert_allclose(model(given), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(images[1:2]), expected[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_can_be_part_of_a_jitted_function(backend, file, expected):
    model = load.load(file, backend)
    labels = jax.jit(lambda images: model(images).argmax(-1))(images_of("conv2"))
    np.testing.assert_array_equal(labels, expected.argmax(-1))


def test_auto_takes_native_where_there_is_a_compiler(file, expected, monkeypatch):
    model = load.load(file)
    assert model.backend == ("native" if compiles() else "sparse")
    np.testing.assert_allclose(model(images_of("conv2")), expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert load.load(file).backend == "sparse"
    with pytest.raises(errors.InputError, match="a C compiler is needed"):
        load.load(file, "native")


def test_large_layers_of_few_weights_are_lists_of_them(monkeypatch):
    rng = np.random.default_rng(0)
    kernels = (rng.random((800, 150)) < 0.04).astype(np.int8), np.ones((150, 3), np.int8)
    nodes: list[graph.Node] = [graph.Standardize(inputs=(0,)), graph.Flatten(inputs=(1,))]
    for i, kernel in enumerate(kernels):
        nodes.append(graph.Dense(inputs=(i + 2,), name=str(i), kernel=graph.Kernel(kernel)))
    network = graph.Network(image_shape=(20, 20, 2), classes=3, nodes=tuple(nodes))
    images = rng.integers(0, 256, (2, 20, 20, 2), np.uint8)
    listed = []
    monkeypatch.setattr(
        load.BCOO,
        "fromdense",
        lambda kernel, made=load.BCOO.fromdense: listed.append(kernel.shape) or made(kernel),
    )
    logits = load.Model(artifact_of(network), "sparse")(images)
    assert listed == [(800, 150)]
    np.testing.assert_allclose(
        logits, load.Model(artifact_of(network), "dense")(images), rtol=1e-4, atol=1e-4
    )


def test_logits_of_a_network_in_bfloat16_are_float32():
    model = load.Model(artifact_of(network_of("conv2", dtype=jnp.bfloat16)), "dense")
    assert model(images_of("conv2")).dtype == jnp.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((8, 8, 3), np.uint8),
            "uint8 [8, 8, 3]; allowed is uint8 [B, 8, 8, 3], a batch of one is images[None]",
        ),
        (np.zeros((1, 8, 8, 3), np.float32), "float32 [1, 8, 8, 3]; allowed is uint8 [B, 8, 8, 3]"),
        (np.zeros((1, 3, 8, 8), np.uint8), "uint8 [1, 3, 8, 8]; allowed is uint8 [B, 8, 8, 3]"),
        ([[1, 2]], "list [1, 2]; allowed is uint8 [B, 8, 8, 3]"),
    ],
)
def test_other_images_are_refused_in_one_line(images, message, file):
    model = load.load(file, "dense")
    for function in (model, model.module()):
        with pytest.raises(errors.InputError, match=f"^{re.escape(f'images are {message}')}$"):
            function(images)


def test_an_unknown_backend_names_the_nearest_before_the_file_is_read():
    with pytest.raises(errors.InputError, match="unknown backend 'sparce'; did you mean 'sparse'"):
        load.load("nowhere.ssm", "sparce")
    with pytest.raises(errors.InputError, match=r"nowhere\.ssm"):
        load.load("nowhere.ssm")


def test_the_module_computes_the_same_and_can_be_trained(file, expected):
    module = load.load(file, "dense").module()
    images = images_of("conv2")
    np.testing.assert_array_equal(nnx.jit(lambda module, images: module(images))(module, images), expected)
    gradients = nnx.grad(lambda module: module(images).sum())(module)
    kernels = jax.tree.leaves(nnx.state(module, nnx.Param))
    assert [kernel.shape for kernel in kernels] == [layer.kernel.shape for layer in module.network.layers()]
    assert all(np.any(gradient) for gradient in jax.tree.leaves(gradients))


def test_a_modules_statistics_are_no_parameters():
    module = load.Module(network_of("resnet20", "batch_affine"))
    statistics = jax.tree.leaves(nnx.state(module, nnx.BatchStat))
    normalizations = [node for node in module.network.nodes if isinstance(node, graph.Normalize)]
    assert len(statistics) == 2 * len(normalizations)
    parameters = jax.tree.leaves(nnx.state(module, nnx.Param))
    assert len(parameters) == len(module.network.layers()) + 2 * len(normalizations)
