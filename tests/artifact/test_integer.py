"""Networks in whole numbers compute what JAX computes, as far as int8 can tell, or say what they can't."""

import dataclasses

import numpy as np
import pytest
from artifact.exported import case_of, digits
from artifact.small import images_of, network_of

from ssm_jax import errors, graph
from ssm_jax.artifact import integer
from ssm_jax.core.initializers import he_uniform
from ssm_jax.core.topk import Multicoated

STANDARDIZE = graph.Standardize(inputs=(0,))


def of_nodes(*nodes, image_shape=(1, 2, 1), classes=2):
    return graph.Network(image_shape=image_shape, classes=classes, nodes=(STANDARDIZE, *nodes))


def test_rescaling_is_to_nearest_with_halves_away_from_zero():
    sums = np.array([0, 1, 2, 3, -1, -2, -3, 1000, -1000])
    assert integer.Rescale((1,), 1)(sums).tolist() == [0, 1, 1, 2, -1, -1, -2, 127, -128]
    assert integer.Rescale((3, 1), 2)(np.array([2, -2]), np.array([0, 1])).tolist() == [2, -1]


@pytest.mark.parametrize("ratio", [1e-9, 0.3, 1.0, 7.5, 1e6])
def test_a_ratio_is_met_to_nine_digits(ratio):
    rescale = integer.Rescale.of(ratio)
    assert 0 < rescale.factors[0] < 2**31 and 1 <= rescale.shift <= 62
    assert rescale.factors[0] / 2**rescale.shift == pytest.approx(ratio, rel=1e-8)


def test_a_ratio_that_no_shift_meets_is_refused():
    with pytest.raises(errors.InputError, match="too much for int8"):
        integer.Rescale.of(2.0**31)


@pytest.mark.parametrize("scale", [0.03125, 0.1, 1.0, 3.0])
def test_the_table_of_elu_is_elu(scale):
    values = np.arange(-128, 128).astype(np.int8)
    made = integer._elu(graph.Elu(inputs=(0,)), integer.elu_table(scale), values)
    real = values * scale
    expected = np.rint(np.where(real > 0, real, np.expm1(real)) / scale)
    assert np.array_equal(made, expected)


def test_pixels_are_standardized_to_the_nearest_whole_number():
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), np.uint8)
    images[1] = 200  # flat
    images[2] = 0
    images[2, 0, 0, 0] = 1  # below the floor of the deviation
    floats = images.astype(np.float64)
    deviation = np.maximum(floats.std((1, 2, 3), keepdims=True), (6 * 7 * 3) ** -0.5)
    expected = (floats - floats.mean((1, 2, 3), keepdims=True)) / deviation / 0.05
    made = integer._standardize(STANDARDIZE, round(2**integer.PIXEL_SHIFT / 0.05), images)
    assert not made[1].any() and np.abs(made - np.clip(expected, -128, 127)).max() <= 0.51


@pytest.mark.parametrize("name", ["fcn", "conv2", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_every_family_computes_what_jax_computes(name):
    case = case_of(network_of(name), images_of(name, 20))
    whole = integer.quantize(case.artifact.network, case.images)
    made = whole.logits(case.images) * whole.scales[-1]
    assert np.corrcoef(made.ravel(), case.logits.ravel())[0, 1] > 0.995


@pytest.mark.slow
@pytest.mark.parametrize(
    "masking",
    [{"rule": Multicoated(density=0.5, coats=3)}, {"kernel_init": he_uniform()}],
    ids=["coats", "floats"],
)
def test_kernels_of_other_numbers_become_int8(masking):
    case = case_of(network_of("conv2", **masking), images_of("conv2", 20))
    whole = integer.quantize(case.artifact.network, case.images)
    assert all(layer.kernel.values.dtype == np.int8 for layer in whole.network.layers())
    made = whole.logits(case.images) * whole.scales[-1]
    assert np.corrcoef(made.ravel(), case.logits.ravel())[0, 1] > 0.99


def test_sums_are_exact_and_logits_are_the_last_sums():
    kernel = graph.Kernel(np.int8([[1, -1], [1, 0]]), np.float32(0.5))
    network = of_nodes(graph.Flatten(inputs=(1,)), graph.Dense(inputs=(2,), name="d", kernel=kernel))
    images = np.array([[[[0], [10]]]], np.uint8)  # -1 and 1, once standardized
    whole = integer.quantize(network, images)
    one = round(1 / whole.scales[1])
    assert whole.logits(images).tolist() == [[0, one]]
    assert whole.logits(images[:0]).shape == (0, 2)


def test_more_images_than_are_computed_at_once(monkeypatch):
    case = digits("conv2")
    whole = integer.quantize(case.artifact.network, case.images)
    expected = whole.logits(case.images)
    monkeypatch.setattr(integer, "_BATCH", 7)
    assert np.array_equal(whole.logits(case.images), expected)


def test_what_has_no_form_in_whole_numbers_is_named():
    images = np.zeros((1, 1, 2, 1), np.uint8)
    ones = np.ones(1, np.float32)
    flatten = graph.Flatten(inputs=(2,))
    normalize = graph.Normalize(inputs=(1,), name="norm", mean=ones, variance=ones, epsilon=1e-3)
    with pytest.raises(errors.InputError, match=r"norm \(normalize\) has no form in whole numbers"):
        integer.quantize(of_nodes(normalize, flatten), images)
    raw = graph.Network(image_shape=(1, 2, 1), classes=2, nodes=(graph.Flatten(inputs=(0,)),))
    with pytest.raises(errors.InputError, match="an image that is standardized first"):
        integer.quantize(raw, images)
    plain = of_nodes(graph.Flatten(inputs=(1,)))
    for given in (images.astype(np.float32), images[..., 0]):
        with pytest.raises(errors.InputError, match=r"allowed is uint8 \[B, 1, 2, 1\]"):
            integer.quantize(plain, given)
    with pytest.raises(errors.InputError, match="there are no images"):
        integer.quantize(plain, images[:0])
    with pytest.raises(errors.InputError, match="an image's size"):
        integer.quantize(dataclasses.replace(plain, image_shape=(1, 2**21, 1), classes=2**21), images)


def test_a_sum_beyond_32_bits_is_refused():
    huge = graph.Kernel(np.broadcast_to(np.int8(127), (2**18, 1)))
    with pytest.raises(errors.InputError, match="does not fit into 32 bits"):
        integer._whole(huge)
