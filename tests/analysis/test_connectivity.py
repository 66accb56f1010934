"""Weights on a path from the image to a logit: by hand, and by what the network computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import graph
from ssm_jax.analysis import connectivity, masks
from ssm_jax.artifact import to_graph
from ssm_jax.nn import layers, networks


def network_of(kernels, shape):
    """The operations of FCN or Conv2 of these masks, without activations."""
    nodes = []

    def add(kind, **fields):
        nodes.append(kind(inputs=(len(nodes),), **fields))

    for name in sorted(kernels):
        kernel = graph.Kernel(kernels[name])
        if name == "denses/0":
            add(graph.Flatten)
        if name.startswith("convs"):
            add(graph.Conv, name=name, kernel=kernel, stride=1)
        else:
            add(graph.Dense, name=name, kernel=kernel)
        if name == "convs/1":
            add(graph.MaxPool, window=2, stride=2)
    return graph.Network(image_shape=shape, classes=kernel.shape[1], nodes=tuple(nodes))


def connected(kernels, shape):
    return connectivity.connected(kernels, network_of(kernels, shape))


def test_weights_before_and_behind_a_dead_end_are_hidden():
    found = connected(
        {
            # The second unit is not reached; the third leads nowhere.
            "denses/0": np.array([[1, 0, -1], [0, 0, 0]], np.int8),
            "denses/1": np.array([[-1, 0], [1, 1], [0, 0]], np.int8),
        },
        (1, 2, 1),
    )
    np.testing.assert_array_equal(found["denses/0"], [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found["denses/1"], [[-1, 0], [0, 0], [0, 0]])
    assert found["denses/0"].dtype == np.int8
    assert masks.units(found).layers["denses/0"].dead_outputs == 2


def conv2(window=(1, 1), dense_row=0):
    """Conv2 on 4x4 images, one channel; each kernel has one weight, the dense layer's in one row."""
    kernels = {f"convs/{i}": np.zeros((3, 3, 1, 1), np.int8) for i in range(2)}
    kernels["convs/0"][window] = 1
    kernels["convs/1"][1, 1] = 1
    kernels["denses/0"] = np.zeros((4, 1), np.int8)
    kernels["denses/0"][dense_row] = 1
    return kernels


def test_a_window_that_meets_only_padding_is_off_all_paths():
    # The dense row is of the upper left quarter; a weight at the window's corner meets an image there ...
    assert connected(conv2((0, 0), 0), (4, 4, 1))["convs/0"].sum() == 1
    # ... and on an image of 2x2 places, a weight that looks two places away would not, but one away does.
    assert connected(conv2((2, 2), 3), (4, 4, 1))["convs/0"].sum() == 1
    two = conv2((2, 2))
    two["denses/0"] = np.ones((1, 1), np.int8)
    two["convs/1"][1, 1], two["convs/1"][2, 2] = 0, 1
    # Both look to the lower right, two places in all: only padding is there.
    assert not any(mask.any() for mask in connected(two, (2, 2, 1)).values())


def test_rows_of_the_first_dense_layer_are_places_and_channels_in_the_order_of_a_reshape():
    kernels = {f"convs/{i}": np.zeros((3, 3, o, 2), np.int8) for i, o in ((0, 1), (1, 2))}
    kernels["convs/0"][1, 1, 0, 1] = 1
    kernels["convs/1"][1, 1, 1, 1] = 1  # the second channel alone
    kernels["denses/0"] = np.ones((2 * 3 * 2, 1), np.int8)
    found = connected(kernels, (4, 6, 1))
    assert found["denses/0"][:, 0].tolist() == [0, 1] * 6


def test_an_odd_edge_that_the_pool_drops_is_needed_by_nobody():
    kernels = conv2()
    kernels["denses/0"] = np.ones((1, 1), np.int8)
    kernels["convs/1"][1, 1], kernels["convs/1"][0, 0] = 0, 1
    # Of 3x3 places the pool takes the first 2x2: the upper left of them is reached for (1, 1) alone.
    assert connected(kernels, (3, 3, 1))["convs/1"].sum() == 1
    kernels["convs/0"][1, 1], kernels["convs/0"][0, 0] = 0, 1
    # One further to the upper left still is an image's place only for (2, 2), which the pool dropped.
    assert not any(mask.any() for mask in connected(kernels, (3, 3, 1)).values())


# Image shape, width, and a density at which some weights lie on a path and some do not.
NETWORKS = {
    "fcn": ((4, 4, 1), 0.05, 0.1),
    "conv4": ((9, 8, 1), 0.04, 0.25),
    "resnet20": ((8, 8, 1), 0.2, 0.2),
}


def build(name, positive):
    """The network with sparse random masks: (dense network with effective kernels, masks)."""
    shape, width, density = NETWORKS[name]
    network = networks.build(name, shape, 3, width=width, rngs=nnx.Rngs(0))
    generator = np.random.default_rng(1)
    found = {}
    for path, layer in list(layers.masked_layers(network)):
        p = [density / 2, 1 - density, density / 2]
        found[path] = generator.choice(np.array([-1, 0, 1], np.int8), layer.shape, p=p)
        size = generator.uniform(0.5, 1.5, layer.shape).astype(np.float32)
        layer.become_dense(jnp.asarray(size * (abs(found[path]) if positive else found[path])))
    return network, found


def with_masks(network, found):
    network = nnx.clone(network)
    for path, layer in layers.masked_layers(network):
        layer.kernel[...] = layer.kernel[...] * (found[path] != 0)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_computes_the_same_without_what_is_on_no_path(name):
    network, found = build(name, positive=False)
    paths = connectivity.connected(found, to_graph.network(network, NETWORKS[name][0]))
    assert 0 < sum(map(np.count_nonzero, paths.values())) < sum(map(np.count_nonzero, found.values()))
    images = jax.random.normal(jax.random.key(0), (8, *NETWORKS[name][0]))
    expected = network(images)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(with_masks(network, paths)(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_on_a_path_moves_a_logit(name):
    # Where all weights and images are positive nothing cancels, and ELU is the identity: a weight has a
    # gradient where it is on a path, unless max-pools never choose that path on any of these images.
    network, found = build(name, positive=True)
    paths = connectivity.connected(found, to_graph.network(network, NETWORKS[name][0]))
    images = jax.random.uniform(jax.random.key(0), (300, *NETWORKS[name][0])) ** 4
    definition, params, rest = nnx.split(network, nnx.Param, ...)
    gradient = jax.jit(jax.grad(lambda params: nnx.merge(definition, params, rest)(images).sum()))(params)
    moved = nnx.merge(definition, gradient, rest)
    for path, layer in layers.masked_layers(moved):
        np.testing.assert_array_equal(
            (np.asarray(layer.kernel[...]) != 0) & (found[path] != 0), paths[path] != 0, err_msg=path
        )
