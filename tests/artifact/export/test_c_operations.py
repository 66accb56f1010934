"""The steps of a network: what is done in place, and what kernels become."""

from __future__ import annotations

import numpy as np
import pytest
from artifact.small import network_of

from ssm_jax import errors, graph
from ssm_jax.artifact.export.c_kernels import kernel_lists
from ssm_jax.artifact.export.c_operations import plan


def test_a_ternary_kernel_is_a_list_to_add_and_one_to_subtract_per_output():
    values = np.int8([[1, 0], [-1, 0], [0, -1], [1, -1]])
    lists, sizes = kernel_lists(values, np.array([5, 6, 8, 20]))
    assert lists.tolist() == [2, 5, 15, 1, 6, 0, 2, 8, 12]
    assert sizes.tolist() == [1]


def test_coats_have_lists_of_their_own():
    lists, sizes = kernel_lists(np.int8([[3], [-1], [1], [-3]]), np.arange(4))
    assert sizes.tolist() == [1, 3]
    assert lists.tolist() == [1, 2, 1, 1, 1, 0, 1, 3]


def test_floating_point_kernels_have_a_weight_for_every_place():
    lists, weights = kernel_lists(np.float32([[0.5, 0], [0, 0], [-2, 0]]), np.array([7, 8, 9]))
    assert lists.tolist() == [2, 7, 2, 0]
    assert weights.tolist() == [0.5, -2]


def test_places_are_sorted_so_that_distances_are_not_negative():
    lists, weights = kernel_lists(np.float32([[0.5], [2]]), np.array([9, 4]))
    assert lists.tolist() == [2, 4, 5] and weights.tolist() == [2, 0.5]


def test_an_empty_kernel_has_empty_lists():
    assert kernel_lists(np.zeros((3, 2), np.int8), np.arange(3))[0].tolist() == [0, 0, 0, 0]
    assert kernel_lists(np.zeros((3, 2), np.float32), np.arange(3))[0].tolist() == [0, 0]


def test_activations_are_computed_in_place():
    steps = [step.function for step in plan(network_of("conv2")).steps]
    assert [name for name in steps if name != "border"] == [
        *("read_image", "standardize", "conv_uint8", "elu", "conv_uint8", "max_pool", "elu"),
        *("dense_uint8", "elu", "dense_uint8", "elu", "dense_uint8", "copy"),
    ]


def test_a_value_that_is_needed_later_is_copied_first():
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Elu(inputs=(1,)),
        graph.Add(inputs=(1, 2)),
        graph.Mean(inputs=(3,)),
    )
    made = plan(graph.Network(image_shape=(2, 2, 3), classes=3, nodes=nodes))
    assert [step.function for step in made.steps] == [
        *("read_image", "standardize", "copy", "elu", "add", "mean", "copy")
    ]


@pytest.mark.parametrize("name", ["conv2", "resnet20"])
def test_scratch_is_a_few_values_not_all(name):
    network = network_of(name)
    made = plan(network)
    largest = max(int(np.prod(shape)) for shape in network.shapes())
    assert largest < made.scratch < 8 * largest


def test_a_value_beyond_the_memory_that_c_is_written_for_is_refused():
    # A line of 2**24 values, to which 64 lines of a convolution's margin come on both sides.
    kernel = graph.Kernel(np.ones((129, 129, 1, 1), np.int8))
    nodes = (
        graph.Standardize(inputs=(0,)),
        graph.Conv(inputs=(1,), name="conv", kernel=kernel, stride=1),
        graph.Mean(inputs=(2,)),
    )
    network = graph.Network(image_shape=(1, 2**24, 1), classes=1, nodes=nodes)
    with pytest.raises(errors.InputError, match=r"works on .* floats at once; in C at most 134,217,728 are"):
        plan(network)
