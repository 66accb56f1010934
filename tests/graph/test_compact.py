"""A compacted network is smaller and has the logits of the whole one."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from artifact.small import CLASSES, IMAGES, images_of, network_of

import ssm_jax
from ssm_jax import graph
from ssm_jax.artifact import run
from ssm_jax.graph.compact import compact


def logits_of(network: graph.Network, images: np.ndarray) -> np.ndarray:
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    return np.asarray(apply(run.parameters(network), images).astype(jnp.float32))


def compacted(network: graph.Network, tolerance: float = 1e-5) -> graph.Network:
    """The compacted network, after a look at its logits, its operations and whether it is final."""
    smaller = compact(network)
    images = np.random.default_rng(3).integers(0, 256, (4, *network.image_shape), np.uint8)
    np.testing.assert_allclose(
        logits_of(smaller, images), logits_of(network, images), rtol=tolerance, atol=tolerance
    )
    kinds = [type(node) for node in smaller.nodes if not isinstance(node, graph.Offset)]
    assert kinds == [type(node) for node in network.nodes if not isinstance(node, graph.Offset)]
    again = compact(smaller)
    assert [type(node) for node in again.nodes] == [type(node) for node in smaller.nodes]
    assert again.shapes() == smaller.shapes()
    for layer, other in zip(smaller.layers(), again.layers(), strict=True):
        np.testing.assert_array_equal(layer.kernel.values, other.kernel.values)
    return smaller


def sizes(network: graph.Network) -> list[tuple[int, ...]]:
    return [layer.kernel.shape for layer in network.layers()]


def dense(value: int, kernel: list[list[float]]) -> graph.Dense:
    return graph.Dense(inputs=(value,), name=f"dense{value}", kernel=graph.Kernel.of(np.float32(kernel)))


def conv(value: int, kernel: np.ndarray, stride: int = 1) -> graph.Conv:
    return graph.Conv(
        inputs=(value,), name=f"conv{value}", kernel=graph.Kernel.of(np.float32(kernel)), stride=stride
    )


def normalize(value: int, channels: int) -> graph.Normalize:
    mean, scale = np.arange(channels, dtype=np.float32) - 1, np.arange(channels, dtype=np.float32) + 1
    return graph.Normalize(
        inputs=(value,),
        name=f"norm{value}",
        mean=mean,
        variance=scale,
        scale=scale,
        offset=-mean / 2,
        epsilon=1e-3,
    )


def network(image_shape: tuple[int, int, int], classes: int, *nodes: graph.Node) -> graph.Network:
    return graph.Network(
        image_shape=image_shape, classes=classes, nodes=(graph.Standardize(inputs=(0,)), *nodes)
    )


def pruned(name: str, normalization: str, keep: float) -> graph.Network:
    """A network of a family of which so many weights are left."""
    return network_of(name, normalization, rule=ssm_jax.Signed(threshold=1 - keep))


def test_logits_stay_and_layers_shrink(family):
    whole = pruned(*family, 0.1)
    smaller = compacted(whole)
    assert graph.multiply_adds(smaller)[0] < graph.multiply_adds(whole)[0]
    assert all(
        new <= old for layer in zip(sizes(smaller), sizes(whole), strict=True) for new, old in zip(*layer)
    )
    assert smaller.layers()[0].kernel.shape[:-1] == whole.layers()[0].kernel.shape[:-1]


def test_a_full_network_stays_as_it_is(family):
    whole = network_of(*family, rule=ssm_jax.Signed(threshold=0.0))
    smaller = compact(whole)
    assert sizes(smaller) == sizes(whole) and len(smaller.nodes) == len(whole.nodes)


@pytest.mark.slow
def test_weights_stay_ternary_with_their_constant():
    whole = pruned("conv4", "none", 0.2)
    for layer, smaller in zip(whole.layers(), compact(whole).layers(), strict=True):
        assert smaller.kernel.ternary and smaller.kernel.scale == layer.kernel.scale
        assert smaller.name == layer.name


def test_units_that_nothing_enters_or_reads_go_with_all_their_weights():
    # Unit 0 lives, nothing enters unit 1, nothing reads unit 2; then unit 1 reads the dead unit alone.
    first = dense(2, [[1, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 0, 1]])
    second = dense(4, [[1, 0], [0, 1], [0, 0]])
    third = dense(6, [[1, -1], [1, 1]])
    whole = network(
        (2, 2, 1),
        2,
        graph.Flatten(inputs=(1,)),
        first,
        graph.Elu(inputs=(3,)),
        second,
        graph.Elu(inputs=(5,)),
        third,
    )
    smaller = compacted(whole)
    assert [layer.kernel.values.tolist() for layer in smaller.layers()] == [
        [[1], [1], [-1], [0]],
        [[1]],
        [[1, -1]],
    ]
    assert graph.multiply_adds(smaller) == (4 + 1 + 2, 3 + 1 + 2)


def test_a_filter_goes_with_all_its_places_behind_a_flatten():
    kernel = np.zeros((3, 3, 1, 3))
    kernel[1, 1, 0] = [1, 0, 1]
    rows = np.zeros((4, 3, 2))
    rows[3, 0], rows[0, 1] = [1, -1], [1, 1]
    whole = network(
        (4, 4, 1),
        2,
        conv(1, kernel),
        graph.MaxPool(inputs=(2,), window=2, stride=2),
        graph.Elu(inputs=(3,)),
        graph.Flatten(inputs=(4,)),
        dense(5, rows.reshape(12, 2)),
    )
    smaller = compacted(whole)
    assert sizes(smaller) == [(3, 3, 1, 1), (4, 2)]
    np.testing.assert_array_equal(smaller.layers()[1].kernel.values, rows[:, 0])


def test_a_constant_unit_of_a_normalized_network_becomes_an_offset_of_its_reader():
    # Nothing enters unit 1: behind the normalization it is (0 - 0) * ... + 0, unit 2's is not 0.
    whole = network(
        (2, 1, 1),
        2,
        graph.Flatten(inputs=(1,)),
        dense(2, [[1, 0, 0], [-1, 0, 0]]),
        normalize(3, 3),
        graph.Elu(inputs=(4,)),
        dense(5, [[1, 1], [1, 0], [2, -1]]),
    )
    smaller = compacted(whole)
    assert sizes(smaller) == [(2, 1), (1, 2)]
    (offset,) = (node for node in smaller.nodes if isinstance(node, graph.Offset))
    # Mean 1, variance and scale 3, offset -1/2; ELU below 0 is exp(x) - 1.
    value = np.expm1((0 - 1) * 3 / np.sqrt(3 + 1e-3) - 0.5)
    np.testing.assert_allclose(offset.values, [2 * value, -value], rtol=1e-6)
    assert smaller.nodes[-1] is offset


@pytest.mark.parametrize(
    ("side", "stride", "expected"),
    [
        (3, 1, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
        # A line of padding after the image alone, then on both sides.
        (4, 2, [[9, 6], [6, 4]]),
        (5, 2, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
    ],
)
def test_a_constant_channel_counts_less_at_the_edges(side, stride, expected):
    first = np.zeros((1, 1, 1, 2))
    first[..., 0] = 1
    outputs = len(expected) ** 2
    whole = network(
        (side, side, 1),
        1,
        conv(1, first),
        graph.Offset(inputs=(2,), values=np.float32([3, 1])),
        conv(3, np.ones((3, 3, 2, 1)), stride),
        graph.Flatten(inputs=(4,)),
        dense(5, np.ones((outputs, 1)).tolist()),
    )
    smaller = compacted(whole)
    assert sizes(smaller) == [(1, 1, 1, 1), (3, 3, 1, 1), (outputs, 1)]
    old, new = (node.values for node in smaller.nodes if isinstance(node, graph.Offset))
    assert old.tolist() == [3] and new[..., 0].tolist() == expected


def test_a_constant_that_is_the_same_everywhere_is_one_number_a_channel():
    first = np.zeros((1, 1, 1, 2))
    first[..., 0] = 1
    whole = network(
        (3, 3, 1),
        2,
        conv(1, first),
        graph.Offset(inputs=(2,), values=np.float32([0, 2])),
        graph.MaxPool(inputs=(3,), window=3, stride=1, padding=1),
        conv(4, np.ones((1, 1, 2, 1))),
        graph.Mean(inputs=(5,)),
        dense(6, [[1, -1]]),
    )
    assert [node.values.tolist() for node in compacted(whole).nodes if isinstance(node, graph.Offset)] == [
        [2]
    ]


def residual(
    stem: np.ndarray, inner: np.ndarray, outer: np.ndarray, head: list[list[float]]
) -> graph.Network:
    """`head(mean(elu(stem + outer(elu(inner(stem))))))`, of 1x1 convolutions."""
    return network(
        (2, 2, 1),
        len(head[0]),
        conv(1, stem[None, None]),
        conv(2, inner[None, None]),
        graph.Elu(inputs=(3,)),
        conv(4, outer[None, None]),
        graph.Add(inputs=(5, 2)),
        graph.Elu(inputs=(6,)),
        graph.Mean(inputs=(7,)),
        dense(8, head),
    )


def test_a_channel_of_a_residual_stream_stays_if_one_summand_or_reader_needs_it():
    # Channel 0: nothing but the inner convolution reads it. 1: only the branch enters it. 2: nothing enters.
    # 3: nothing reads it.
    stem = np.float32([[1, 0, 0, 1]])
    inner = np.float32([[1, 0], [0, 0], [0, 1], [0, 0]])
    outer = np.float32([[0, 1, 0, 1], [0, 0, 0, 0]])
    smaller = compacted(residual(stem, inner, outer, [[0, 0], [1, -1], [1, 1], [0, 0]]))
    assert sizes(smaller) == [(1, 1, 1, 2), (1, 1, 2, 1), (1, 1, 1, 2), (2, 2)]


def test_a_circle_of_a_residual_stream_that_only_feeds_itself_goes():
    # The branch reads channel 1 and writes to it; the logits read channel 0.
    stem, inner, outer = np.float32([[1, 1]]), np.float32([[0], [1]]), np.float32([[0, 1]])
    smaller = compacted(residual(stem, inner, outer, [[1, -1], [0, 0]]))
    assert sizes(smaller) == [(1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1), (1, 2)]
    assert [layer.kernel.remaining for layer in smaller.layers()] == [1, 0, 0, 2]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_empty_layer_leaves_logits_of_0_and_a_channel_a_value(layer):
    whole = emptied(network_of("conv2"), layer)
    smaller = compacted(whole)
    assert smaller.layers()[-1].kernel.shape[-1] == CLASSES
    assert min(min(size) for size in sizes(smaller)) >= 1
    assert sum(layer.kernel.remaining for layer in smaller.layers()) == 0
    assert not logits_of(smaller, images_of("conv2")).any()


@pytest.mark.slow
def test_an_empty_layer_leaves_constant_logits_of_a_normalized_network():
    smaller = compacted(emptied(network_of("resnet20", "batch"), -1))
    assert sum(layer.kernel.remaining for layer in smaller.layers()) == 0
    # The head is empty, and its inputs are as well gone as not.
    assert max(max(size[2:]) for size in sizes(smaller)[1:-1]) == 1


def emptied(network: graph.Network, layer: int) -> graph.Network:
    """The network with one kernel of zeros."""
    empty = network.layers()[layer]
    kernel = graph.Kernel(np.zeros_like(empty.kernel.values), empty.kernel.scale)
    nodes = [dataclasses.replace(node, kernel=kernel) if node is empty else node for node in network.nodes]
    return dataclasses.replace(network, nodes=tuple(nodes))


@pytest.mark.slow
def test_in_bfloat16_too():
    whole = network_of("resnet20", "batch", rule=ssm_jax.Signed(threshold=0.9), dtype=jnp.bfloat16)
    smaller = compacted(whole, tolerance=0.05)
    assert smaller.dtype == "bfloat16"


def test_images_keep_their_shape():
    assert compact(pruned("fcn", "none", 0.01)).layers()[0].kernel.shape[0] == np.prod(IMAGES["fcn"])
