"""What a model computes becomes operations: of the library's networks the ones that they are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import IMAGES, model_of
from flax import nnx

import ssm_jax
from ssm_jax import errors, graph
from ssm_jax.graph import trace

OPERATIONS = {
    "fcn": ["standardize", "flatten", "dense", "elu", "dense", "elu", "dense"],
    "conv4": [
        *("standardize", "conv", "elu", "conv", "max_pool", "elu", "conv", "elu", "conv", "max_pool", "elu"),
        *("flatten", "dense", "elu", "dense", "elu", "dense"),
    ],
}


def network_of(model, shape, **settings):
    return trace.network(model, shape, before=ssm_jax.standardize, **settings)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("fcn", jnp.float32),
        ("fcn", jnp.bfloat16),
        ("conv4", jnp.float32),
    ],
)
def test_the_librarys_networks_are_their_operations(name, dtype):
    network = network_of(model_of(name, dtype=dtype), IMAGES[name])
    assert [graph.operation(node) for node in network.nodes] == OPERATIONS[name]
    assert network.dtype == jnp.dtype(dtype).name


@pytest.mark.slow
def test_operations_have_the_settings_and_the_paths_of_their_layers():
    network = network_of(model_of("resnet20", "batch_affine"), IMAGES["resnet20"])
    convolutions = {node.name: node for node in network.nodes if isinstance(node, graph.Conv)}
    assert convolutions["stem"].stride == 1 and convolutions["blocks/3/projection"].stride == 2
    (pool,) = (node for node in network.nodes if isinstance(node, graph.MaxPool))
    assert (pool.window, pool.stride, pool.padding) == (3, 1, 1)
    norm = next(node for node in network.nodes if isinstance(node, graph.Normalize))
    model = model_of("resnet20", "batch_affine")
    assert norm.name == "stem_norm" and norm.epsilon == 1e-3
    np.testing.assert_array_equal(norm.variance, model.stem_norm.var[...])
    np.testing.assert_array_equal(norm.offset, model.stem_norm.bias[...])


def test_layers_of_flax_under_masks_have_their_own_paths():
    net = nnx.Sequential(
        nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0)),
        nnx.elu,
        lambda x: x.mean((1, 2)),
        nnx.Linear(4, 3, rngs=nnx.Rngs(0)),
    )
    network = network_of(ssm_jax.supermask(net), (6, 6, 1))
    assert [layer.name for layer in network.layers()] == ["layers/0", "layers/3"]
    assert all(layer.kernel.ternary for layer in network.layers())


def test_what_there_is_no_operation_for_is_told_with_its_layer_in_one_line():
    net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), lambda x: jax.lax.sort(x))
    with pytest.raises(errors.InputError, match="what follows layers/0 computes sort, which can't"):
        trace.network(net, (2, 2, 1), before=lambda x: ssm_jax.standardize(x).reshape(len(x), -1))


@pytest.mark.parametrize("function", [jnp.multiply, jnp.subtract, jnp.maximum, jnp.power])
def test_constants_of_several_numbers_are_no_neutral_ones(function):
    constants = jnp.float32([[1.0, 2.0], [3.0, 4.0]])
    network = trace.network(lambda x: function(x, constants), (2, 2), "float32")
    assert len(network.nodes) > 0 and network.nodes[-1].inputs[0] == 0
