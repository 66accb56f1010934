"""The stochastic rule: how often a weight is drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax.core.stochastic import Stochastic

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def test_a_weight_is_kept_as_often_as_the_sigmoid_of_its_score_says():
    scores = jnp.array([-3.0, -1.0, 0.0, 0.5, 2.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.jit(jax.vmap(lambda key: Stochastic().mask(scores, {}, key)))(keys)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    probability = np.asarray(jax.nn.sigmoid(scores))
    deviation = np.sqrt(probability * (1 - probability) / len(keys))
    assert (np.abs(drawn.mean(0) - probability) < 4 * deviation).all()


def test_weights_of_a_layer_are_drawn_independently():
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: Stochastic().mask(jnp.zeros(2), {}, key))(keys))
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / np.sqrt(len(keys))


def test_the_same_key_draws_the_same_mask():
    scores = jax.random.normal(jax.random.key(0), (30, 20))
    one, same, other = (Stochastic().mask(scores, {}, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
