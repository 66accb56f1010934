"""The largest entries of an array against a sorted one, ties and all signs included."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.core import selection
from ssm_jax.core.selection import extremes, largest, threshold
from ssm_jax.nn.products import library


@pytest.fixture(scope="module", autouse=True, params=["counts", "handler"])
def search(request, strict_arithmetic):
    """Every test searches by counts of JAX, and by the C++ handler."""
    handler = None
    if request.param == "handler":
        try:
            library.register()
        except errors.InputError as error:
            pytest.skip(str(error))
        handler = library.target("select")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_handler", handler)
        jax.clear_caches()  # of programs with the other search
        yield request.param


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
bound = jax.jit(threshold, static_argnums=1)


@pytest.mark.parametrize("number", [1, 100, 500, 998, 999])
def test_it_selects_what_a_sort_would_and_what_ties_with_the_last(number):
    for spread, values in SPREAD.items():
        values = values.astype(np.float32)
        found = selected(jnp.asarray(values), number)
        np.testing.assert_array_equal(found, values >= np.sort(values)[-number], spread)
        assert found.sum() >= number


# Larger than what a sample brackets at first; a sample of every few sees nothing of the last one but zeros.
LARGE = {
    "normal": RNG.normal(size=20_000),
    "heavy tails": RNG.normal(size=20_000) ** 7,
    "ascending": np.linspace(-1, 1, 20_000),
    "mostly zeros": np.where(RNG.random(20_000) < 0.8, 0, RNG.normal(size=20_000)),
    "denormal": RNG.normal(size=20_000) * 1e-39,
    "whole columns": RNG.normal(size=20_480),
    "whole columns, all the same": np.full(20_480, -0.3),
    "infinite": np.where(RNG.random(20_000) < 0.5, -np.inf, RNG.normal(size=20_000)),
    "periodic": np.where(np.arange(20_000) % 19 == 0, 0, RNG.normal(size=20_000)),
}


@pytest.mark.parametrize("number", [1, 2000, 19_999, 20_000])
def test_a_sample_changes_nothing(number):
    for spread, values in LARGE.items():
        values = values.astype(np.float32)
        found = selected(jnp.asarray(values), number)
        tiny = np.abs(values) < np.finfo(np.float32).tiny
        values = np.where(tiny, 0, values)  # as JAX compares denormal ones
        np.testing.assert_array_equal(found, values >= np.sort(values)[-number], spread)


@pytest.mark.parametrize("number", [1, 2000, 19_999, 20_000])
def test_a_sample_changes_no_threshold(number):
    for spread in set(LARGE) - {"denormal", "infinite"}:
        values = LARGE[spread].astype(np.float32)
        found = values > bound(jnp.asarray(values), number)
        np.testing.assert_array_equal(found, values >= np.sort(values)[-number], spread)


def test_both_ends_at_once_and_several_times():
    values = jnp.asarray(LARGE["heavy tails"], jnp.float32)
    ordered = np.sort(values)
    several = jax.jit(lambda values: extremes(values, [1, 2000, 19_000], [5, 2000]))
    # A later search begins where an earlier one ended, which may be far off by then.
    for factor in (1.0, 1.001, -1.0, 1e-20, 1.0):
        ordered = np.sort(factor * values)
        for bound, found in zip((-1, -2000, -19_000), several(factor * values), strict=False):
            np.testing.assert_array_equal(found, factor * values >= ordered[bound])
        for bound, found in zip((4, 1999), several(factor * values)[3:], strict=True):
            np.testing.assert_array_equal(found, factor * values <= ordered[bound])


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


@pytest.mark.parametrize("size", [999, 20_000, 49_152])
@pytest.mark.parametrize("check_vma", [False, True])
def test_every_device_selects_of_its_own_part(size, check_vma, search):
    mesh = jax.make_mesh(
        (2,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )
    spec = jax.sharding.PartitionSpec("seeds")
    values = jnp.asarray(np.random.default_rng(1).normal(size=(2, size)), jnp.float32)
    select = functools.partial(largest, number=size // 5)
    each = jax.shard_map(select, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check_vma)
    # A part that lies on one device is searched as any other array is, large ones by a sample.
    if search == "counts":
        assert ("sort" in str(jax.make_jaxpr(each)(values))) == (size > 10_000)
    for one, found in zip(values, jax.jit(each)(values), strict=True):
        np.testing.assert_array_equal(found, one >= np.sort(one)[-(size // 5)])
