"""A file becomes a function from images to logits, whatever computes them."""

from __future__ import annotations

import pathlib
import pickle
import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import CLASSES, images_of, model_of, network_of
from flax import nnx

import ssm_jax
from ssm_jax import compilers, errors, graph
from ssm_jax.artifact import format, load, native, to_graph

NAMES = tuple("abcde")


def compiles() -> bool:
    try:
        return bool(compilers.find("C"))
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
    format.write(artifact_of(network_of("conv2")), path)
    return path


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    logits = nnx.jit(lambda model, images: model(ssm_jax.standardize(images)))
    return np.asarray(logits(model_of("conv2"), jnp.asarray(images_of("conv2"))))


def test_dense_gives_the_logits_of_the_trained_network_bit_for_bit(file, expected):
    model = ssm_jax.load(file, backend="dense")
    logits = model(images_of("conv2"))
    assert logits.shape == (3, CLASSES)
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_these_logits_for_one_image_and_several(backend, file, expected):
    model = load.load(file, backend)
    assert model.backend == backend and model.class_names == NAMES
    images = images_of("conv2")
    for given in (images, jnp.asarray(images), np.asfortranarray(images)):
        logits = model(given)
        assert type(logits) is np.ndarray and logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model(images[1:2]), expected[1:2], rtol=1e-5, atol=1e-5)
    assert model(images[:0]).shape == (0, CLASSES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_can_be_part_of_a_jitted_function(backend, file, expected):
    model = load.load(file, backend)
    for _ in range(2):  # what was made in the first function must be of use in the second
        labels = jax.jit(lambda images: model(images).argmax(-1))(images_of("conv2"))
        np.testing.assert_array_equal(labels, expected.argmax(-1))


def test_by_default_no_program_runs(file, expected, monkeypatch):
    monkeypatch.setattr(compilers, "find", None)
    monkeypatch.setattr(subprocess, "run", None)
    np.testing.assert_array_equal(ssm_jax.load(file)(images_of("conv2")), expected)


def test_a_model_is_pickled_by_its_artifact(file, expected):
    model = pickle.loads(pickle.dumps(ssm_jax.load(file)))
    assert model.backend == "dense" and model.class_names == NAMES
    np.testing.assert_array_equal(model(images_of("conv2")), expected)


def test_an_image_is_taken_as_it_is_where_nothing_is_standardized():
    """By every backend as float32, whose sums don't wrap and whose pools have a lowest value."""
    nodes = (
        graph.Add(inputs=(0, 0)),
        graph.MaxPool(inputs=(0,), window=2, stride=2, padding=1),
        graph.Offset(inputs=(1,), values=np.float32([0.5])),
        graph.Elu(inputs=(3,)),
        graph.Mean(inputs=(4,)),
        graph.Mean(inputs=(2,)),
        graph.Add(inputs=(5, 6)),
    )
    artifact = format.Artifact(graph.Network(image_shape=(2, 2, 1), classes=1, nodes=nodes), ("a",), {})
    images = np.uint8([200, 30, 7, 255]).reshape(1, 2, 2, 1)
    for backend in ("dense", "compact", *(["native"] if compiles() else [])):
        assert load.Model(artifact, backend)(images).tolist() == [[2 * 123 + 0.5 + 123]]


@pytest.fixture
def compiler(monkeypatch) -> None:
    """As if there were one."""
    monkeypatch.setattr(compilers, "find", lambda language: ["cc"])


def dense_network(kernels: list[np.ndarray]) -> graph.Network:
    nodes: list[graph.Node] = [graph.Standardize(inputs=(0,)), graph.Flatten(inputs=(1,))]
    for i, kernel in enumerate(kernels):
        nodes.append(graph.Dense(inputs=(i + 2,), name=str(i), kernel=graph.Kernel(kernel)))
    side = round(len(kernels[0]) ** 0.5)
    return graph.Network(image_shape=(side, side, 1), classes=kernels[-1].shape[1], nodes=tuple(nodes))


@pytest.mark.slow
def test_the_best_is_native_where_few_weights_are_left_and_the_batch_is_small(compiler):
    kernel = np.zeros((784, 300), np.int8)
    kernel[::10] = 1
    few = dense_network([kernel, np.ones((300, 10), np.int8)])
    all_ = dense_network([np.ones((784, 300), np.int8), np.ones((300, 10), np.int8)])
    assert [load.best(few, batch) for batch in (1, 32)] == ["native", "compact"]
    assert [load.best(all_, batch) for batch in (1, 32)] == ["compact", "compact"]
    # Convolutions gain with every batch, if a tenth of their weights is left.
    for threshold, expected in ((0.9, "native"), (0.0, "compact")):
        network = to_graph.network(large_conv(threshold), (32, 32, 3))
        assert [load.best(network, batch) for batch in (1, 32)] == [expected, expected]


def large_conv(threshold: float) -> nnx.Module:
    masking = ssm_jax.Masking(rule=ssm_jax.Signed(threshold=threshold))
    return ssm_jax.build("conv4", (32, 32, 3), 10, width=0.25, masking=masking, rngs=nnx.Rngs(0))


def test_the_best_is_compact_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert load.best(network_of("conv2"), 1) == "compact"


def test_auto_is_the_best_for_the_batch(file, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(load, "best", lambda network, batch: asked.append(batch) or "compact")
    model = load.load(file, "auto")
    for _ in range(2):
        logits = model(images_of("conv2"))
        np.testing.assert_array_equal(logits, load.load(file, "compact")(images_of("conv2")))
    assert model.backend == "auto" and asked == [1, 3]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_auto_does_without_a_compiler_that_fails(file, expected, compiler, monkeypatch):
    def fail(network):
        raise errors.RunError("cc can't compile the network: no headers")

    monkeypatch.setattr(native, "compile", fail)
    monkeypatch.setattr(load, "best", lambda network, batch: "native")
    with pytest.warns(UserWarning, match="no headers; the backend is 'compact' instead"):
        model = load.load(file, "auto")
    np.testing.assert_allclose(model(images_of("conv2")), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(errors.RunError, match="no headers"):
        load.load(file, "native")


def test_threads_share_a_batch_and_keep_its_order(file, monkeypatch):
    monkeypatch.setattr(load, "_A_THREADS", 1)
    monkeypatch.setattr(load, "_cores", lambda: 3)
    parts = []

    def compiled(images):
        parts.append(len(images))
        return images[:, 0, 0].astype(np.float32)

    monkeypatch.setattr(native, "compile", lambda network: compiled)
    images = np.arange(7 * 8 * 8 * 3, dtype=np.uint8).reshape(7, 8, 8, 3)
    np.testing.assert_array_equal(load.load(file, "native")(images), images[:, 0, 0])
    assert sorted(parts) == [2, 2, 3]


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
    with pytest.raises(errors.InputError, match="unknown backend 'nativ'; did you mean 'native'"):
        load.load("nowhere.ssm", "nativ")
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


def test_training_a_module_keeps_its_mask_and_it_goes_back_into_a_file(file, tmp_path):
    model = load.load(file, "dense")
    module, images = model.module(), images_of("conv2")
    gradient = nnx.grad(lambda module: module(images).sum())(module)
    kernels = nnx.state(module, nnx.Param)
    nnx.update(module, jax.tree.map(lambda kernel, slope: kernel - 0.1 * (slope + 1), kernels, gradient))
    tuned = model.with_module(module)
    tuned.save(tmp_path / "tuned.ssm")
    again = load.load(tmp_path / "tuned.ssm", "dense")
    for before, after in zip(model.artifact.network.layers(), again.artifact.network.layers(), strict=True):
        np.testing.assert_array_equal(before.kernel.values == 0, after.kernel.values == 0)
        assert (before.kernel.dense() != after.kernel.dense()).any()
    np.testing.assert_allclose(again(images), module(images), rtol=1e-6)
    with pytest.raises(errors.InputError, match="the module is of another network"):
        again.with_module(module)


@pytest.mark.slow
def test_a_modules_statistics_are_no_parameters():
    module = load.Module(network_of("resnet20", "batch_affine"))
    statistics = jax.tree.leaves(nnx.state(module, nnx.BatchStat))
    normalizations = [node for node in module.network.nodes if isinstance(node, graph.Normalize)]
    assert len(statistics) == 2 * len(normalizations)
    parameters = jax.tree.leaves(nnx.state(module, nnx.Param))
    assert len(parameters) == len(module.network.layers()) + 2 * len(normalizations)


def test_a_model_says_what_it_is(file):
    model = ssm_jax.load(file, backend="dense")
    assert repr(model) == f"<Model of small: uint8 (8, 8, 3) to {CLASSES} logits, dense>"


def test_a_name_in_a_record_cannot_steer_a_terminal(tmp_path):
    nodes = (graph.Standardize(inputs=(0,)), graph.Flatten(inputs=(1,)))
    nodes += (graph.Dense(inputs=(2,), name="head", kernel=graph.Kernel(np.int8([[1, -1]]))),)
    network = graph.Network(image_shape=(1, 1, 1), classes=2, nodes=nodes)
    model = load.Model(format.Artifact(network, ("no", "yes"), {"network": "\x1b[2J" * 50}), backend="dense")
    assert (
        repr(model).startswith(r"<Model of \x1b[2J") and repr(model).isprintable() and len(repr(model)) < 200
    )
