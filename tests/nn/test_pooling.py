"""Max-pooling against that of Flax, ties included."""

from __future__ import annotations

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax.nn.pooling import max_pool

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


@pytest.mark.parametrize(
    ("window", "stride", "shape", "dtype"),
    [
        (2, 2, (2, 6, 6, 3), jnp.float32),
        (2, 2, (2, 7, 5, 3), jnp.bfloat16),
        (3, 1, (2, 7, 5, 3), jnp.float32),
        (2, 3, (2, 7, 5, 3), jnp.float32),
    ],
)
def test_max_pool_is_that_of_flax_with_ties(window, stride, shape, dtype):
    images = jnp.asarray(np.random.default_rng(0).integers(-1, 2, shape), dtype)  # most windows tie

    def reference(images):
        return flax.linen.max_pool(images, (window, window), (stride, stride), "VALID")

    shape = jax.eval_shape(reference, images).shape
    cotangent = jnp.asarray(np.random.default_rng(1).integers(1, 9, shape), dtype)

    def value_and_gradient(pool):
        outputs, pull = jax.vjp(pool, images)
        return outputs, pull(cotangent)[0]

    def ours(images):
        return max_pool(images, window, stride)

    outputs, gradient = jax.jit(lambda: value_and_gradient(ours))()
    expected, expected_gradient = jax.jit(lambda: value_and_gradient(reference))()
    assert outputs.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(np.float32(outputs), np.float32(expected))
    np.testing.assert_array_equal(np.float32(gradient), np.float32(expected_gradient))


def test_max_pool_of_a_literal_image():
    image = jnp.array([[1.0, 5, 2], [3, 5, 9], [8, 7, 6]]).reshape(1, 3, 3, 1)
    outputs, pull = jax.vjp(lambda images: max_pool(images, 2, 2), image)
    assert outputs.tolist() == [[[[5.0]]]]  # the odd edge, with its 9, is dropped
    # Of the two fives the first one, row by row.
    (gradient,) = pull(jnp.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(max_pool(image, 2, 1)[0, ..., 0], [[5, 9], [8, 9]])


def test_a_tpu_selects_and_scatters_and_no_other_platform_does():
    traced = jax.jit(jax.grad(lambda images: max_pool(images, 2, 2).sum())).trace(jnp.ones((1, 4, 4, 1)))
    for platform in ("cpu", "cuda", "tpu"):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("select_and_scatter" in program) == (platform == "tpu")
