"""A network as plain data: what fits together, and how much of it there may be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from artifact.small import network_of

from ssm_jax import errors, graph


def pooled(height: int, window: int, padding: int) -> graph.Network:
    """An image of one channel, pooled by 1 x 1 strides, and the mean of it."""
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.MaxPool(inputs=(1,), window=window, stride=1, padding=padding),
        graph.Mean(inputs=(2,)),
    )
    return graph.Network(image_shape=(height, 1, 1), classes=1, nodes=nodes)


def test_a_window_has_at_most_16_lines():
    assert pooled(1, 16, 15).shapes()[2] == (16, 16, 1)
    with pytest.raises(errors.InputError, match="max_pool can't take a value of shape"):
        pooled(1, 17, 16)


def test_the_values_of_an_image_are_bounded_together():
    most = graph.MOST_ELEMENTS
    side = most // 2 - 1
    standardize = graph.Standardize(inputs=(0,))
    mean = graph.Mean(inputs=(1,))
    assert graph.Network(image_shape=(side, 1, 1), classes=1, nodes=(standardize, mean))
    with pytest.raises(errors.InputError, match=r"have 67,108,865 elements up to operation 1; allowed is"):
        graph.Network(image_shape=(side + 1, 1, 1), classes=1, nodes=(standardize, mean))


def test_an_operation_takes_earlier_values_alone():
    with pytest.raises(errors.InputError, match=r"operation 0 takes values \(1,\), which it can't"):
        graph.Network(image_shape=(1, 1, 1), classes=1, nodes=(graph.Mean(inputs=(1,)),))


def test_the_last_value_is_the_logits():
    with pytest.raises(errors.InputError, match=r"the network gives \(1,\), not 2 logits"):
        graph.Network(image_shape=(2, 2, 1), classes=2, nodes=(graph.Mean(inputs=(0,)),))


@pytest.mark.parametrize(
    ("values", "ternary"), [([-1, 0, 1], True), ([-128, 0, 1], False), ([2, 0, 1], False)]
)
def test_ternary_is_minus_one_zero_and_one(values, ternary):
    assert graph.Kernel(np.int8([values])).ternary is ternary


def test_multiply_adds_are_counted_by_place():
    network = network_of("conv2")
    whole, remaining = graph.multiply_adds(network)
    # Two convolutions on 8x8, then dense layers on 4x4 of the last.
    expected = sum(
        math.prod(layer.kernel.shape) * (64 if isinstance(layer, graph.Conv) else 1)
        for layer in network.layers()
    )
    assert whole == expected and 0 < remaining < whole
