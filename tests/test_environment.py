"""A seed decides a network, whatever JAX's own settings are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hostile import HOSTILE, seed_offset

import ssm_jax
from ssm_jax import environment, errors


def test_a_key_is_of_our_generator_whatever_is_set():
    expected = jax.random.key_data(jax.random.key(123, impl="threefry2x32"))
    with jax.default_prng_impl("rbg"), seed_offset(5):
        key = environment.key(jnp.int32(123))
        assert jax.random.key_impl(key) == "threefry2x32"
        np.testing.assert_array_equal(jax.random.key_data(key), expected)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_setting_is_pinned_and_comes_back(name):
    setting, value = HOSTILE[name]
    usual = getattr(jax.config, name)
    with setting(value):
        with environment.pinned():
            assert getattr(jax.config, name) in (usual, "allow")
        assert getattr(jax.config, name) == value


def test_usual_settings_are_not_made_again():
    traces = []

    @jax.jit
    def traced(x):
        traces.append(x)
        return x

    traced(1.0)
    with environment.own_program():
        traced(1.0)
    assert len(traces) == 1


def test_supermask_draws_by_its_seed_alone():
    def scores():
        model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        return ssm_jax.supermask(model, rngs=5).kernel.scores.get_value()

    expected = np.asarray(scores())
    np.testing.assert_array_equal(
        expected, ssm_jax.supermask(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(5)).kernel.scores[...]
    )
    with jax.default_prng_impl("rbg"), jax.threefry_partitionable(False), seed_offset(3):
        np.testing.assert_array_equal(scores(), expected)


@pytest.mark.usefixtures("optimized")
def test_what_changes_rounding_is_recorded():
    assert environment.recorded() == {}
    with jax.default_matmul_precision("highest"):
        assert environment.recorded() == {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def test_what_no_program_can_run_with_is_named(monkeypatch):
    environment.check()
    with jax.no_tracing(True), pytest.raises(errors.InputError, match="JAX_NO_TRACING is True"):
        environment.check()

    def devices():
        assert False  # noqa: B011 as JAX does for a platform that is not there

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(errors.InputError, match="JAX_PLATFORMS is 'cpu'"):
        environment.check()
