"""Counting a mask's values, and the straight-through gradient of any selection."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import core

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def test_count():
    shares = core.count(jnp.array([[1, -1, 0, 0], [0, 0, 1, -1]], jnp.float32))
    assert tuple(map(int, shares)) == (2, 4, 2) == (shares.inverted, shares.hidden, shares.kept)
    assert {part.dtype for part in shares} == {jnp.dtype("int32")}
    assert tuple(map(int, core.count(jnp.array([[1, 0], [1, 1]])))) == (0, 1, 3)
    assert tuple(map(int, core.count(jnp.zeros((3, 5), jnp.bfloat16)))) == (0, 15, 0)


def test_count_is_exact_where_float32_is_not():
    side = 4100  # 4100^2 is above 2^24
    assert int(jax.jit(core.count)(jnp.ones((side, side), jnp.int8)).kept) == side**2


def test_straight_through_hands_the_gradient_to_the_scores_and_to_nothing_else():
    @core.straight_through
    def rounded(scores, offset, key):
        return jnp.round(scores + offset + jax.random.uniform(key, scores.shape))

    scores, key = jnp.array([0.2, -1.7, 3.0]), jax.random.key(0)
    weight = jnp.array([1.0, -2.0, 0.5])
    value, (by_scores, by_offset) = jax.value_and_grad(
        lambda scores, offset: jnp.sum(weight * rounded(scores, offset, key)), (0, 1)
    )(scores, jnp.float32(0.1))
    expected = np.round(scores + jnp.float32(0.1) + jax.random.uniform(key, (3,)))
    np.testing.assert_allclose(value, np.sum(weight * expected), rtol=1e-6)
    np.testing.assert_array_equal(by_scores, weight)
    assert by_offset == 0
