"""Convolutions and their gradients against lax; several networks at once."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ssm_jax.nn.convolution import convolve

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (32, 2), (9, 2)])
def test_both_gradients_of_a_convolution_are_those_of_lax(size, stride):
    # 20 images of 32x32: on a CPU the kernel's gradient is summed over 8, 8 and 4 of them.
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (20, size, size, 2))
    kernel = jax.random.normal(keys[1], (3, 3, 2, 4))

    def plain(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(images, kernel, (stride, stride), "SAME", dimension_numbers=numbers)

    with jax.default_matmul_precision("highest"):
        outputs, backward = jax.vjp(lambda i, k: convolve(i, k, stride), images, kernel)
        expected, expected_backward = jax.vjp(plain, images, kernel)
        cotangent = jax.random.normal(keys[2], outputs.shape)
        np.testing.assert_array_equal(outputs, expected)
        for ours, theirs in zip(backward(cotangent), expected_backward(cotangent), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_networks_side_by_side_convolve_one_after_another():
    """Grouped convolutions, which `vmap` makes of lax's own, are slow: nowhere is there one."""
    keys = jax.random.split(jax.random.key(0), 2)
    images = jax.random.normal(keys[0], (3, 2, 6, 6, 2))  # of three networks
    kernels = jax.random.normal(keys[1], (3, 3, 3, 2, 4))

    def squares(images, kernel):
        return jnp.sum(convolve(images, kernel, 2) ** 2)

    value_and_gradients = jax.value_and_grad(squares, argnums=(0, 1))
    together = jax.vmap(value_and_gradients)(images, kernels)
    for i in range(3):
        alone = value_and_gradients(images[i], kernels[i])
        for ours, expected in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(ours[i], expected, rtol=1e-5, atol=1e-5)

    shared = jax.vmap(lambda kernel: convolve(images[0], kernel, 1))(kernels)  # one network's images for all
    for i in range(3):
        np.testing.assert_array_equal(shared[i], convolve(images[0], kernels[i], 1))

    traced = jax.jit(jax.vmap(value_and_gradients)).trace(images, kernels)
    for platform in ("cuda", "tpu"):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert program.count("stablehlo.convolution") == 3 * 3
        groups = re.findall(r"(?:batch|feature)_group_count = (\d+)", program)
        assert groups == ["1"] * 2 * 9
