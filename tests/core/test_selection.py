"""The largest entries of an array against a sorted one, ties and all signs included."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax.core.selection import largest, threshold

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

RNG = np.random.default_rng(0)
SPREAD = {
    "uniform": RNG.uniform(-1, 1, 999),
    "heavy tails": RNG.normal(size=999) ** 7,
    "many magnitudes": RNG.normal(size=999) * 10.0 ** RNG.uniform(-30, 30, 999),
    "two crowds": np.where(RNG.random(999) < 0.97, 1e-6, 1) * RNG.normal(size=999),
    "mostly zeros": np.where(RNG.random(999) < 0.8, 0, RNG.normal(size=999)),
    "zeros of both signs": np.where(RNG.random(999) < 0.5, 0.0, -0.0),
    "integers": np.round(RNG.normal(size=999) * 3),
    "the largest floats": np.where(RNG.random(999) < 0.5, 1, -1) * np.linspace(3.0e38, 3.4e38, 999),
    "infinite": np.where(RNG.random(999) < 0.5, np.inf, -np.inf),
    "all the same": np.full(999, 0.3),
}
selected = jax.jit(largest, static_argnums=1)


@pytest.mark.parametrize("spread", SPREAD)
@pytest.mark.parametrize("number", [1, 100, 500, 998, 999])
def test_it_selects_what_a_sort_would_and_what_ties_with_the_last(spread, number):
    values = SPREAD[spread].astype(np.float32)
    expected = values >= np.sort(values)[-number]
    found = selected(jnp.asarray(values), number)
    np.testing.assert_array_equal(found, expected)
    assert found.sum() >= number


# Larger than what a sample brackets at first; a sample of every few sees nothing of the last one but zeros.
LARGE = {
    "normal": RNG.normal(size=20_000),
    "heavy tails": RNG.normal(size=20_000) ** 7,
    "ascending": np.linspace(-1, 1, 20_000),
    "mostly zeros": np.where(RNG.random(20_000) < 0.8, 0, RNG.normal(size=20_000)),
    "periodic": np.where(np.arange(20_000) % 19 == 0, 0, RNG.normal(size=20_000)),
}


@pytest.mark.parametrize("spread", LARGE)
@pytest.mark.parametrize("number", [1, 2000, 19_999, 20_000])
def test_a_sample_changes_nothing(spread, number):
    values = LARGE[spread].astype(np.float32)
    expected = values >= np.sort(values)[-number]
    np.testing.assert_array_equal(selected(jnp.asarray(values), number), expected)
    np.testing.assert_array_equal(values > threshold(jnp.asarray(values), number), expected)


def test_each_network_of_a_vmap_has_its_own_threshold():
    values = jnp.stack([jnp.asarray(values, jnp.float32) for values in SPREAD.values()])
    together = jax.jit(jax.vmap(functools.partial(largest, number=100)))(values)
    for one, found in zip(values, together, strict=True):
        np.testing.assert_array_equal(found, selected(one, 100))


def test_half_precision_and_any_shape():
    values = jnp.asarray(SPREAD["uniform"], jnp.bfloat16).reshape(3, 9, 37)
    found = largest(values, 50)
    ordered = np.sort(np.float32(values).ravel())
    np.testing.assert_array_equal(found, np.float32(values) >= ordered[-50])
