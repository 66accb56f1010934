"""What a network may take, counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ssm_jax import errors, graph
from ssm_jax.graph import bounds


def kernel(*shape: int) -> graph.Kernel:
    return graph.Kernel(np.ones(shape, np.int8))


NODES = (
    graph.Standardize(inputs=(0,)),
    graph.Conv(inputs=(1,), name="conv", kernel=kernel(3, 3, 1, 2), stride=2),
    graph.MaxPool(inputs=(2,), window=2, stride=1, padding=1),
    graph.Flatten(inputs=(3,)),
    graph.Dense(inputs=(4,), name="dense", kernel=kernel(18, 3)),
)


def test_costs_are_those_of_one_image():
    shapes = graph.Network(image_shape=(4, 4, 1), classes=3, nodes=NODES).shapes()
    assert shapes == [(4, 4, 1), (4, 4, 1), (2, 2, 2), (3, 3, 2), (18,), (3,)]
    found = [bounds.cost(node, *shapes[i : i + 2]) for i, node in enumerate(NODES)]
    assert found == [
        bounds.Cost(work=16),
        bounds.Cost(work=4 * 18, windows=4 * 9, conv_positions=9),
        bounds.Cost(work=4 * 18, pool_positions=4),
        bounds.Cost(work=18),
        bounds.Cost(work=54),
    ]


def test_what_is_needed_at_once_is_what_a_later_operation_reads():
    network = graph.Network(image_shape=(4, 4, 1), classes=3, nodes=NODES)
    # The convolution: its input, its windows and its result. The image is needed no more.
    assert bounds.live(network) == 16 + 36 + 8
    # A value that is read again stays: 16 of the first, 8 of the second and 18 of the third.
    wide = dataclasses.replace(NODES[1], kernel=kernel(1, 1, 1, 2))
    network = graph.Network(
        image_shape=(4, 4, 1), classes=1, nodes=(NODES[0], wide, NODES[2], graph.Mean(inputs=(1,)))
    )
    assert bounds.live(network) == 16 + 8 + 18


def test_as_much_as_is_allowed_passes():
    nodes = (
        *(graph.Conv(inputs=(i,), name="conv", kernel=kernel(64, 64, 1, 1), stride=64) for i in range(16)),
        graph.MaxPool(inputs=(16,), window=16, stride=16, padding=15),
        graph.Mean(inputs=(17,)),
    )
    bounds.check(graph.Network(image_shape=(1, 1, 1), classes=1, nodes=nodes))


@pytest.mark.parametrize(
    "node",
    [
        graph.Offset(inputs=(0,), values=np.float32([np.nan])),
        graph.Conv(
            inputs=(0,), name="c", kernel=graph.Kernel(np.full((1, 1, 1, 1), np.inf, np.float32)), stride=1
        ),
        graph.Conv(
            inputs=(0,),
            name="c",
            kernel=graph.Kernel(np.ones((1, 1, 1, 1), np.int8), np.float32("nan")),
            stride=1,
        ),
        graph.Normalize(
            inputs=(0,), name="n", mean=np.float32([np.inf]), variance=np.float32([1]), epsilon=0.1
        ),
    ],
    ids=lambda node: graph.operation(node),
)
def test_numbers_that_are_not_finite_compute_nothing(node):
    network = graph.Network(image_shape=(2, 2, 1), classes=1, nodes=(node, graph.Mean(inputs=(1,))))
    with pytest.raises(errors.InputError, match=r"node 0\.\w+ holds numbers that are not finite"):
        bounds.check(network)


@pytest.mark.parametrize("variance", [-1.0, 0.0, np.nan])
def test_a_variance_of_nothing_is_refused(variance):
    arrays = {"mean": np.float32([0]), "variance": np.float32([variance])}
    node = graph.Normalize(inputs=(0,), name="n", epsilon=0.0, **arrays)
    network = graph.Network(image_shape=(2, 2, 1), classes=1, nodes=(node, graph.Mean(inputs=(1,))))
    with pytest.raises(errors.InputError, match=r"node 0\.variance \+ epsilon is .*; it must be above 0"):
        bounds.check(network)
