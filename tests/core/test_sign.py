"""The rule that hides nothing."""

import jax.numpy as jnp
import numpy as np

from ssm_jax import core


def test_a_score_of_zero_keeps_and_none_is_hidden():
    mask = core.SignOnly().mask(jnp.array([0.0, -0.0, 1e-30, -1e-30, jnp.inf, -jnp.inf]), {})
    np.testing.assert_array_equal(mask, [1, 1, 1, -1, 1, -1])
    assert [int(number) for number in core.SignOnly().count(mask)] == [2, 0, 4]
