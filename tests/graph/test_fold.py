"""Factors and offsets behind a layer become part of it, and the logits stay."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from artifact.test_model import NAMES
from flax import nnx

from benchmarks.strangers import MODELS, inputs_of
from ssm_jax import graph
from ssm_jax.artifact import run
from ssm_jax.graph import trace
from ssm_jax.graph.compact import compact
from ssm_jax.graph.fold import fold


def logits_of(network: graph.Network, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(lambda x: run.apply(network, run.parameters(network), x))(inputs))


@functools.cache
def traced(name: str) -> graph.Network:
    build, shape, dtype = MODELS[name]
    return trace.network(build(), shape, dtype)


def kinds(network: graph.Network) -> list[str]:
    return [graph.operation(node) for node in network.nodes]


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(0.5, 1.5, shape).astype(np.float32)


def chain(kernel: graph.Kernel) -> graph.Network:
    """A dense layer, and behind it a bias, a normalization, and constants from both sides."""
    channels = {name: floats(3) for name in ("mean", "variance", "scale", "offset")}
    nodes = (
        graph.Dense(inputs=(0,), name="dense", kernel=kernel),
        graph.Offset(inputs=(1,), values=floats(3)),
        graph.Normalize(inputs=(2,), name="norm", epsilon=1e-3, **channels),
        graph.Constant(inputs=(), values=np.float32([2])),
        graph.Binary(inputs=(3, 4), function="div"),
        graph.Constant(inputs=(), values=floats(3)),
        graph.Binary(inputs=(6, 5), function="sub"),
        graph.Constant(inputs=(), values=np.float32([3])),
        graph.Binary(inputs=(8, 7), function="mul"),
        graph.Unary(inputs=(9,), function="tanh"),
    )
    return graph.Network(image_shape=(4,), image_dtype="float32", classes=3, nodes=nodes)


def test_a_chain_becomes_one_layer_and_one_offset():
    network = chain(graph.Kernel(floats(4, 3) * 0.1))
    folded = fold(network)
    assert kinds(folded) == ["dense", "offset", "unary"]
    inputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(logits_of(folded, inputs), logits_of(network, inputs), atol=1e-6)
    assert kinds(fold(folded)) == kinds(folded)


def test_whole_numbers_stay_whole():
    ternary = graph.Kernel(np.int8([[1, 0, -1], [0, 1, 1], [1, 1, 0], [0, 0, 1]]), np.float32(0.5))
    network = chain(ternary)
    assert kinds(fold(network)) == ["dense", "offset", *kinds(network)[2:]]
    same = graph.Constant(inputs=(), values=np.float32([-3]))
    nodes = (network.nodes[0], same, graph.Binary(inputs=(1, 2), function="mul"))
    network = graph.Network(image_shape=(4,), image_dtype="float32", classes=3, nodes=nodes)
    (layer,) = fold(network).nodes
    assert layer.kernel.scale == -1.5 and (layer.kernel.values == ternary.values).all()


def test_a_value_that_others_read_too_is_kept():
    network = chain(graph.Kernel(floats(4, 3)))
    nodes = (*network.nodes[:2], graph.Add(inputs=(1, 2)))
    network = graph.Network(image_shape=(4,), image_dtype="float32", classes=3, nodes=nodes)
    assert kinds(fold(network)) == ["dense", "offset", "add"]


@pytest.mark.parametrize("name", NAMES)
def test_any_network_computes_the_same_folded_and_compacted(name):
    network, inputs = traced(name), inputs_of(name)
    expected = logits_of(network, inputs)
    for smaller in (fold(network), compact(network)):
        assert len(smaller.nodes) <= len(network.nodes)
        np.testing.assert_allclose(logits_of(smaller, inputs), expected, atol=5e-6 * np.abs(expected).max())


class Branches(nnx.Module):
    """Two branches side by side and biases; of the middle, units can be emptied."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(1, 6, (3, 3), strides=2, padding="VALID", rngs=rngs)
        self.left = nnx.Conv(6, 4, (3, 3), rngs=rngs)
        self.right = nnx.Conv(6, 4, (1, 1), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)
        for layer in (self.first, self.left, self.right):
            layer.bias[...] = floats(layer.bias.shape[0])

    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nnx.relu(self.first(images))
        hidden = nnx.silu(self.left(hidden)) * nnx.sigmoid(self.right(hidden))
        return self.head(nnx.avg_pool(hidden, (2, 2)).mean((1, 2)))


def test_units_without_a_path_go_and_what_they_made_of_biases_stays():
    model, inputs = Branches(), np.random.default_rng(0).normal(size=(3, 9, 9, 1)).astype(np.float32)
    # Nothing enters unit 0, which is its bias then; nobody reads unit 1; the head doesn't read product 2.
    model.first.kernel[...] = model.first.kernel[...].at[..., 0].set(0)
    for branch in (model.left, model.right):
        branch.kernel[...] = branch.kernel[...].at[:, :, 1].set(0)
    model.head.kernel[...] = model.head.kernel[...].at[2].set(0)
    network = trace.network(model, (9, 9, 1), "float32")
    smaller = compact(network)
    shapes = {layer.name: layer.kernel.shape for layer in smaller.layers()}
    assert shapes == {"first": (3, 3, 1, 4), "left": (3, 3, 4, 3), "right": (1, 1, 4, 3), "head": (3, 3)}
    # By definition: a weight is on a path if what it reads depends on the image, and logits on its result.
    removed = sum(layer.kernel.remaining for layer in network.layers())
    removed -= sum(layer.kernel.remaining for layer in smaller.layers())
    lives, read = np.array([0, 1, 1, 1, 1, 1]), np.array([1, 0, 1, 1, 1, 1])
    kept = (lives * read).sum()
    assert kept == 4 and removed == 9 * (lives.sum() - kept) + (9 + 1) * (5 * 4 - 4 * 3)
    np.testing.assert_allclose(logits_of(smaller, inputs), np.asarray(model(inputs)), atol=1e-5)
    again = compact(smaller)
    assert kinds(again) == kinds(smaller) and again.shapes() == smaller.shapes()
