"""A network as plain data computes what the trained one does, bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import CLASSES, IMAGES, images_of, model_of, network_of
from flax import nnx

import ssm_jax
from ssm_jax import errors
from ssm_jax.artifact import graph, pack, run
from ssm_jax.nn.initializers import he_uniform


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


def test_a_model_of_the_users_own_is_refused_in_one_line():
    with pytest.raises(errors.InputError, match="a Linear can't be exported; allowed is FullyConnected"):
        pack.network(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), IMAGES["fcn"], CLASSES)
