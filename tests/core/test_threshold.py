"""Fixed thresholds: where exactly they cut, and which share of the initial scores they hide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.core.threshold import Binary, Signed, ternary

pytestmark = pytest.mark.usefixtures("strict_arithmetic")
each_family = pytest.mark.parametrize("rule", [Signed, Binary])


def test_the_threshold_itself_is_hidden_on_both_sides_and_the_next_float_is_not():
    threshold = np.float32(0.3)
    above = np.nextafter(threshold, np.float32(1))
    scores = jnp.array([threshold, -threshold, above, -above])
    np.testing.assert_array_equal(ternary(scores, jnp.float32(0.3)), [0, 0, 1, -1])


def test_below_zero_everything_remains_once():
    scores = jnp.array([0.0, -0.0, 1.0, -1.0])
    np.testing.assert_array_equal(ternary(scores, jnp.float32(-1e-30)), [1, 1, 1, -1])


def test_a_threshold_of_zero_hides_only_zeros():
    mask = ternary(jnp.array([1e-30, 0.0, -1e-30]), jnp.float32(0))
    np.testing.assert_array_equal(mask, [1, 0, -1])


@each_family
@pytest.mark.parametrize(("share", "threshold"), [(0.0, 0.0), (0.4, 3.6), (0.6, 5.4), (1.0, 9.0)])
def test_the_threshold_is_a_share_of_the_largest_initial_score_of_either_sign(rule, share, threshold):
    scores = np.array([[0.5, -0.5], [9.0, -9.0]], np.float32)
    for part in (scores, scores[:, :1], scores[:, 1:]):  # both, positive, negative 9.0
        found = rule(share).init(jnp.asarray(part))["threshold"]
        assert found.shape == ()
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, threshold, rtol=1e-6)


def test_a_share_of_one_hides_every_weight_at_the_start():
    scores = jax.random.normal(jax.random.key(0), (50, 20))
    assert not Signed(1.0).mask(scores, Signed(1.0).init(scores)).any()


def test_the_threshold_hides_its_share_of_uniform_scores():
    scores = jax.random.uniform(jax.random.key(0), (300, 300), minval=-0.2, maxval=0.2)
    mask = Signed(0.4).mask(scores, Signed(0.4).init(scores))
    np.testing.assert_allclose(np.mean(np.asarray(mask) == 0), 0.4, atol=0.01)


@each_family
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(rule, share):
    with pytest.raises(errors.InputError, match=r"threshold is .*; allowed is 0 to 1"):
        rule(share)


@each_family
def test_an_absolute_threshold_is_in_the_units_of_the_scores(rule):
    scores = jnp.array([5.0, 2.5, -2.0, -3.0])
    state = rule(2.5, relative=False).init(scores)
    np.testing.assert_array_equal(state["threshold"], np.float32(2.5))
    expected = [1, 0, 0, -1 if rule is Signed else 0]
    np.testing.assert_array_equal(rule(2.5, relative=False).mask(scores, state), expected)
    with pytest.raises(errors.InputError, match=r"^threshold is -0.1; allowed is at least 0$"):
        rule(-0.1, relative=False)
