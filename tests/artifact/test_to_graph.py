"""A network as plain data computes what the trained one does, bit for bit."""

from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import images_of, model_of, network_of
from flax import nnx

import ssm_jax
from ssm_jax import config as configuration
from ssm_jax import core, errors, graph
from ssm_jax.artifact import format, run, to_graph
from ssm_jax.core.initializers import he_uniform
from ssm_jax.data import datasets


def logits_of_model(model: nnx.Module, images: np.ndarray) -> np.ndarray:
    logits = nnx.jit(lambda model, images: model(ssm_jax.standardize(images)))(model, jnp.asarray(images))
    return np.asarray(logits.astype(jnp.float32))


def logits_of_network(network: graph.Network, images: np.ndarray) -> np.ndarray:
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    return np.asarray(apply(run.parameters(network), images).astype(jnp.float32))


def test_logits_are_those_of_the_trained_network_bit_for_bit(family):
    name, images = family[0], images_of(family[0])
    ours, theirs = logits_of_network(network_of(*family), images), logits_of_model(model_of(*family), images)
    assert np.isfinite(theirs).all() and np.ptp(theirs) > 0, name
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", [ssm_jax.Signed(rescale=0.5), core.Biprop(density=0.3), core.EdgePopup(density=0.3)]
)
def test_so_are_those_of_kernels_with_a_constant_of_their_mask(rule):
    network, model, images = network_of("conv2", rule=rule), model_of("conv2", rule=rule), images_of("conv2")
    np.testing.assert_array_equal(logits_of_network(network, images), logits_of_model(model, images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv2", "resnet20"])
def test_logits_in_bfloat16_are_bit_for_bit_the_same(name):
    given = (name, "batch_affine" if name == "resnet20" else "none")
    network = network_of(*given, dtype=jnp.bfloat16)
    assert network.dtype == "bfloat16"
    images = images_of(name)
    np.testing.assert_array_equal(
        logits_of_network(network, images), logits_of_model(model_of(*given, dtype=jnp.bfloat16), images)
    )


def test_a_signed_constant_kernel_is_its_mask_with_signs_and_one_constant():
    model = model_of("fcn")
    layer, node = model.denses[1], network_of("fcn").layers()[1]
    assert node.name == "denses/1" and node.kernel.ternary
    np.testing.assert_array_equal(node.kernel.values, np.asarray(layer.mask() * layer.signs[...]))
    assert node.kernel.scale == np.float32(layer.constant[...])


def test_kernels_of_other_draws_stay_floating_point():
    network = network_of("conv2", kernel_init=he_uniform())
    model = model_of("conv2", kernel_init=he_uniform())
    assert network.layers()[0].kernel.values.dtype == np.float32
    np.testing.assert_array_equal(
        network.layers()[0].kernel.dense(), np.asarray(model.convs[0].effective_kernel())
    )


def test_coats_are_whole_numbers():
    kernel = graph.Kernel.of(np.float32(0.125) * np.float32([[3, -1], [0, 2]]))
    assert kernel.values.tolist() == [[3, -1], [0, 2]] and kernel.scale == np.float32(0.125)
    assert not kernel.ternary and kernel.remaining == 3


def test_an_empty_kernel_is_all_zeros():
    kernel = graph.Kernel.of(np.zeros((2, 3), np.float32))
    assert kernel.ternary and not kernel.dense().any()


def test_a_dense_baseline_is_exported_too():
    network, images = network_of("fcn", rule=None, kernel_init=he_uniform()), images_of("fcn")
    np.testing.assert_array_equal(
        logits_of_network(network, images),
        logits_of_model(model_of("fcn", rule=None, kernel_init=he_uniform()), images),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two seeds, and its summary."""
    settings = configuration.override(
        configuration.default(),
        {
            "data.name": "digits",
            "data.validation": 0.1,
            "model.width": 0.1,
            "training.epochs": 2,
            "seed": 5,
            "seeds": 2,
            "checkpoint.best": True,
        },
    )
    workdir = tmp_path_factory.mktemp("pack") / "run"
    return workdir, ssm_jax.train_and_evaluate(settings, workdir)


def test_a_finished_run_becomes_a_file_of_the_same_logits(finished, tmp_path):
    workdir, summary = finished
    artifact = to_graph.of_run(workdir, seed=6)
    format.write(artifact, tmp_path / "model.ssm")
    found = format.read(tmp_path / "model.ssm")
    images, labels = datasets.load("digits").test_images, datasets.load("digits").test_labels
    logits = logits_of_network(found.network, images)
    np.testing.assert_array_equal(logits, logits_of_model(ssm_jax.restore(workdir, seed=6).model, images))
    assert 100 * np.mean(logits.argmax(-1) == labels) == pytest.approx(summary.test_accuracy.values[1])
    assert found.class_names == tuple("0123456789")


def test_the_record_says_how_the_network_came_to_be(finished):
    workdir, summary = finished
    record = to_graph.of_run(workdir).record
    config = record.pop("config")
    assert record == {
        "network": "fcn",
        "dataset": "digits",
        "dataset_version": "1.0.0",
        "rule": "signed",
        "seed": 5,
        "step": summary.steps,
        "epochs": 2,
        "test_accuracy": summary.test_accuracy.values[0],
        "remaining_weights": pytest.approx(summary.remaining_weights.values[0]),
        "versions": summary.versions,
    }
    assert config["model.width"] == 0.1 and not set(configuration.RESUME_SAFE_FIELDS) & set(config)
    assert (
        dict(configuration.fields(configuration.override(configuration.default(), config))).items()
        >= config.items()
    )


def test_the_best_state_has_been_tested_by_nobody_unless_it_is_the_last(finished):
    workdir, summary = finished
    record = to_graph.of_run(workdir, best=True).record
    assert record["step"] == ssm_jax.restore(workdir, best=True).step
    assert (record["test_accuracy"] is None) == (record["step"] < summary.steps)


def test_a_run_that_cannot_be_exported_is_refused_in_one_line(finished, tmp_path):
    workdir, summary = finished
    with pytest.raises(errors.InputError, match="holds no run"):
        to_graph.of_run(tmp_path)
    with pytest.raises(errors.InputError, match="there is no seed 7: it has 5 to 6"):
        to_graph.of_run(workdir, seed=7)
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(errors.InputError, match=f"the run in {tmp_path} is not finished"):
        to_graph.of_run(tmp_path)
    failed = {"seed": 6, "step": 1, "metric": "loss"}
    one = json.loads((workdir / "summary.json").read_text()) | {"seeds": [5], "failed_seeds": [failed]}
    for name in ("test_accuracy", "remaining_weights"):
        one[name]["values"] = one[name]["values"][:1]
    (tmp_path / "summary.json").write_text(json.dumps(one))
    with pytest.raises(errors.InputError, match=r"seed 6 of the run in .* has failed"):
        to_graph.of_run(tmp_path, seed=6)
    values = json.loads((workdir / "run.json").read_text()) | {"model": "Own", "network": "Own"}
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(errors.InputError, match=r"trained Own: pass the same `model`, Own"):
        to_graph.of_run(tmp_path)
