"""A model of anybody's leaves as a file and returns with the same logits."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact import compiled
from flax import nnx

import ssm_jax
from benchmarks.strangers import MODELS, inputs_of
from ssm_jax import errors, graph
from ssm_jax.artifact import format, integer, native
from ssm_jax.artifact.export import c_integer
from ssm_jax.graph import trace

SLOW = ("vit", "u-net", "grouped")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]


@functools.cache
def made(name):
    """A model in evaluation, inputs for it and what it makes of them."""
    model, inputs = MODELS[name][0](), inputs_of(name)
    if isinstance(model, nnx.Module):
        model.eval()
    return model, inputs, np.asarray(model(inputs))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_its_file_gives_the_same_logits(name, tmp_path):
    model, inputs, expected = made(name)
    ssm_jax.export(model, inputs[:1], tmp_path / "model.ssm")
    loaded = ssm_jax.load(tmp_path / "model.ssm", "dense")
    close(loaded(inputs), expected)
    close(loaded(inputs[:1]), expected[:1])


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_computes_the_same(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, inputs, expected = made(name)
    ssm_jax.export(model, inputs[:1], tmp_path / "model.onnx", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(tmp_path / "model.onnx", options)
    close(session.run(["logits"], {"images": inputs})[0], expected)


@pytest.mark.parametrize("name", [pytest.param("vit", marks=pytest.mark.slow), "text"])
def test_a_program_takes_any_batch(name, tmp_path):
    model, inputs, expected = made(name)
    ssm_jax.export(model, inputs[:1], tmp_path / "model.stablehlo", "stablehlo")
    program = jax.export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    close(program.call(inputs), expected)


def test_masks_are_in_the_file_as_whole_numbers_by_the_paths_of_their_layers(tmp_path):
    ssm_jax.export(made("grouped")[0], inputs_of("grouped"), tmp_path / "model.ssm", class_names="abcd")
    artifact = format.read(tmp_path / "model.ssm")
    layers = {layer.name: layer.kernel for layer in artifact.network.layers()}
    assert set(layers) == {f"layers/1/{name}" for name in ("dilated", "grouped", "depthwise", "head")}
    assert all(kernel.ternary for kernel in layers.values())
    assert artifact.class_names == ("a", "b", "c", "d")


def test_a_network_of_the_library_is_of_its_operations_alone(tmp_path):
    model = ssm_jax.build("fcn", (4, 4, 1), 3, width=0.1, rngs=nnx.Rngs(0))
    images = np.zeros((1, 4, 4, 1), np.uint8)
    ssm_jax.export(nnx.Sequential(ssm_jax.standardize, model), images, tmp_path / "model.ssm")
    assert format.read(tmp_path / "model.ssm").network.plain


def sorted_logits():
    return nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), jnp.sort)


def test_what_has_no_operation_is_named_and_nothing_is_written(tmp_path):
    inputs = np.ones((2, 4), np.float32)
    for name in ("ssm", "npz"):
        with pytest.raises(errors.InputError, match="what follows layers/0 computes sort, which can't"):
            ssm_jax.export(sorted_logits(), inputs, tmp_path / "model", name)
    assert not list(tmp_path.iterdir())
    ssm_jax.export(sorted_logits(), inputs, tmp_path / "model.stablehlo", "stablehlo")
    program = jax.export.deserialize(pathlib.Path(tmp_path / "model.stablehlo").read_bytes())
    np.testing.assert_allclose(program.call(inputs), sorted_logits()(inputs), rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.ones((2, 4)), r"the example input is float64 \[2, 4\]; allowed is a batch"),
        (np.ones(4, np.float32), r"the example input is float32 \[4\]"),
        (np.ones((0, 4), np.float32), r"the example input is float32 \[0, 4\]"),
    ],
)
def test_an_input_that_is_none_is_told_first(inputs, said, tmp_path):
    with pytest.raises(errors.InputError, match=said):
        ssm_jax.export(sorted_logits(), inputs, tmp_path / "model.ssm")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda x: x - x.mean(0), "reduce_sum over the batch"),
        (lambda x: x @ x.T, "dot_general of different examples"),
        (lambda x: x.reshape(-1), r"reshape of \[2, 4\] to \[8\], which mixes examples"),
        (lambda x: x + jnp.arange(8.0).reshape(2, 4), "constants that differ from example to example"),
    ],
)
def test_examples_that_are_mixed_are_refused(model, said):
    with pytest.raises(errors.InputError, match=said):
        trace.network(model, (4,), "float32")


def test_a_function_of_one_example_is_exported_under_vmap(tmp_path):
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    inputs = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    ssm_jax.export(jax.vmap(lambda x: (x @ weights).sum(0)), inputs, tmp_path / "model.ssm")
    close(ssm_jax.load(tmp_path / "model.ssm", "dense")(inputs), (inputs @ weights).sum(1))
    (layer,) = format.read(tmp_path / "model.ssm").network.layers()
    assert isinstance(layer, graph.Dense) and layer.kernel.shape == (4, 3)


class ForC(nnx.Module):
    """What C has beside the library's own layers."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.valid = nnx.Conv(3, 6, (3, 3), padding="VALID", rngs=rngs)
        self.dilated = nnx.Conv(6, 6, (3, 2), kernel_dilation=2, feature_group_count=2, rngs=rngs)
        self.strided = nnx.Conv(6, 8, (4, 4), strides=2, padding=((3, 0), (1, 2)), rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images):
        hidden = nnx.leaky_relu(self.valid(images))
        hidden = nnx.avg_pool(nnx.silu(self.dilated(hidden)), (2, 2), strides=(2, 1), padding="SAME")
        hidden = nnx.hard_swish(self.strided(hidden))
        return nnx.tanh(self.head(nnx.max_pool(hidden, (2, 2), strides=(2, 2), padding="SAME").mean((1, 2))))


@pytest.mark.slow
def test_c_computes_convolutions_of_any_windows_and_functions_of_elements():
    model = nnx.Sequential(ssm_jax.standardize, ssm_jax.supermask(ForC(), biases="trained"))
    images = np.random.default_rng(0).integers(0, 256, (3, 11, 9, 3), np.uint8)
    predict = native.compile(trace.network(model, images.shape[1:]))
    close(predict(images), np.asarray(model(images)))


@pytest.mark.parametrize("name", NAMES)
def test_c_computes_the_same(name, tmp_path):
    model, inputs, expected = made(name)
    ssm_jax.export(model, inputs[:1], tmp_path / "net.c", "c")
    close(compiled.called(tmp_path / "net.c", inputs, expected.shape[1:]), expected)


def everything(values):
    """What C does with values of any rank: slices, transposes, paddings, reductions, choices."""
    turned = values.transpose(0, 2, 1, 3)[:, ::2, 1:]
    padded = jnp.pad(turned, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=0.5)
    flat = padded.reshape(len(values), -1, 2, 3)
    most = flat.max((1, 3)) + flat.min(2).min(1)[:, :2] + flat.prod(1).sum(2)
    both = jnp.concatenate([most, padded.sum((2, 3)), jnp.ones((len(values), 1))], -1)
    constants = jnp.arange(values[0].size, dtype=values.dtype).reshape(values.shape[1:]) / 7
    chosen = jnp.where(values > values.mean((1, 2), keepdims=True), values * constants, constants - values)
    return jnp.concatenate([both, chosen.reshape(len(values), -1)], -1)


def test_c_moves_elements_as_jax_does(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(3, 4, 5, 3)).astype(np.float32)
    expected = np.asarray(everything(inputs))
    ssm_jax.export(everything, inputs, tmp_path / "net.c", "c")
    close(compiled.called(tmp_path / "net.c", inputs, expected.shape[1:]), expected)


class Embedded(nnx.Module):
    """Embeddings, a product of several matrices, and a dense layer of rows."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.table, self.dense = nnx.Embed(4, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, codes):
        rows = self.table(codes)
        return self.dense(rows.swapaxes(1, 2)[:, None] @ rows[:, None])


def test_c_embeds_and_multiplies_matrices(tmp_path):
    codes = np.random.default_rng(0).integers(0, 4, (3, 5)).astype(np.int32)
    model = Embedded()
    expected = np.asarray(model(codes))
    ssm_jax.export(model, codes, tmp_path / "net.c", "c")
    close(compiled.called(tmp_path / "net.c", codes, expected.shape[1:]), expected)


def test_what_c_has_not_is_told(tmp_path):
    inputs = np.ones((1, 4, 4, 4, 2), np.float32)
    model = nnx.Conv(2, 3, (3, 3, 3), rngs=nnx.Rngs(0))
    with pytest.raises(errors.InputError, match="C has no convolution of values of 4 axes, only of 3"):
        ssm_jax.export(model, inputs, tmp_path / "model.c", "c")
    assert not list(tmp_path.iterdir())


def test_calibration_images_make_c_in_whole_numbers(tmp_path):
    model = nnx.Sequential(ssm_jax.standardize, ssm_jax.build("fcn", (4, 4, 1), 3, rngs=nnx.Rngs(0)))
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    ssm_jax.export(model, images[:1], tmp_path / "net.c", "c", calibration=images)
    whole = integer.quantize(trace.network(model, images.shape[1:]), images)
    artifact = format.Artifact(whole.network, ("0", "1", "2"), {"network": "Sequential"})
    expected = c_integer.sources(artifact, whole, "net")
    assert ((tmp_path / "net.c").read_text(), (tmp_path / "net.h").read_text()) == expected


def test_whole_numbers_that_cannot_be_are_refused(tmp_path):
    model, inputs, _ = made("grouped")
    with pytest.raises(errors.InputError, match="calibration is for format='c', whole num"):
        ssm_jax.export(model, inputs, tmp_path / "net.onnx", "onnx", calibration=inputs)
    with pytest.raises(errors.InputError, match="has no form in whole numbers"):
        ssm_jax.export(model, inputs, tmp_path / "net.c", "c", calibration=inputs)
    assert not list(tmp_path.iterdir())


def test_the_format_is_what_the_name_ends_in(tmp_path):
    model, inputs = nnx.Linear(4, 2, rngs=nnx.Rngs(0)), np.zeros((1, 4), np.float32)
    ssm_jax.export(model, inputs, tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as arrays:
        assert len(arrays.files)
    with pytest.raises(errors.InputError, match=r"net\.pt has no format: end it in one of \.ssm"):
        ssm_jax.export(model, inputs, tmp_path / "net.pt")


@pytest.mark.parametrize("ending", ["ssm", "stablehlo"])
def test_a_model_that_fails_on_the_input_is_one_line(tmp_path, ending):
    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    with pytest.raises(
        errors.InputError, match=r"the model fails on float32 \[B, 5\]: TypeError: dot_general"
    ):
        ssm_jax.export(model, np.zeros((1, 5), np.float32), tmp_path / f"net.{ending}")
