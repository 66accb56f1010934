"""How many weights top-k rules keep, and where ties go."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax.core.topk import Biprop, EdgePopup, Multicoated, SignedTopK

pytestmark = pytest.mark.usefixtures("strict_arithmetic")
SCORES = jax.random.normal(jax.random.key(0), (30, 20))


@pytest.mark.parametrize("rule", [EdgePopup, SignedTopK, Biprop, Multicoated])
@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
def test_the_density_is_kept_to_the_weight(rule, density):
    counts = rule(density).count(rule(density).mask(SCORES, {}))
    assert int(counts.inverted + counts.kept) == density * 600
    if rule is SignedTopK:
        assert counts.inverted == counts.kept


@pytest.mark.parametrize("rule", [EdgePopup, SignedTopK, Biprop, Multicoated])
def test_no_layer_is_left_without_a_weight(rule):
    assert rule(1e-9).mask(SCORES, {}).any()


def test_ties_with_the_last_weight_are_kept():
    scores = jnp.array([0.5, -0.2, 0.2, 0.1])
    np.testing.assert_array_equal(EdgePopup(0.5).mask(scores, {}), [1, 1, 1, 0])
    np.testing.assert_array_equal(SignedTopK(0.5).mask(jnp.ones(4), {}), np.ones(4))


def test_signed_topk_goes_by_the_order_of_the_scores_and_not_by_their_signs():
    np.testing.assert_array_equal(SignedTopK(1.0).mask(jnp.array([1.0, 4.0, 3.0, 2.0]), {}), [-1, 1, 1, -1])


def test_each_coat_lies_within_the_next():
    mask = np.asarray(Multicoated(0.5, coats=5).mask(SCORES, {}))
    sizes = np.abs(SCORES)
    assert [np.sum(mask >= n) for n in range(1, 6)] == [300, 240, 180, 120, 60]
    assert all(sizes[mask == n].max() < sizes[mask == n + 1].min() for n in range(5))


def test_a_helpful_weight_of_a_negative_score_gains_in_size():
    gradient = jax.grad(lambda scores: -EdgePopup(0.5).mask(scores, {}).sum())(jnp.array([-0.5, 0.5]))
    np.testing.assert_array_equal(gradient, [1, -1])  # descent moves both away from 0
