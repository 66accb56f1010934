"""Thresholds for a density, against sorted values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssm_jax import config, core, errors
from ssm_jax.core import density

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

RNG = np.random.default_rng(0)
SCALES = [jnp.float32(scale) for scale in (1.0, 0.1, 3.0)]
# The second layer is small in units of its scale: a global budget leaves it little.
LAYERS = [
    jnp.asarray(np.abs(RNG.normal(size=size)) * scale, jnp.float32)
    for size, scale in (((40, 30), 1), ((20, 10), 0.02), ((50,), 9))
]
SIZES = np.array([1200, 200, 50])


def remaining(found):
    return np.array([int(jnp.sum(layer > bound)) for layer, bound in zip(LAYERS, found, strict=True)])


@pytest.mark.parametrize("share", [0.002, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.5])  # of the share
@pytest.mark.parametrize("budget", density.BUDGETS)
def test_the_share_is_left(share, floor, budget):
    find = jax.jit(density.thresholds, static_argnums=(3, 4))
    counts = remaining(find(LAYERS, SCALES, share, share * floor, budget))
    if budget == "layer":
        np.testing.assert_array_equal(counts, np.maximum(1, np.round(share * SIZES)))
    else:
        assert counts.sum() == max(1, round(share * 1450))
    if floor:
        assert (counts >= np.maximum(1, np.round(share * floor * SIZES))).all()


@pytest.mark.parametrize("number", [1, 2, 7, 60, 199, 200])
def test_neighbors_among_floats_are_told_apart(number):
    """A ratio times a scale is rounded, and would take in a neighbor or leave one out."""
    values = jnp.asarray(1 + np.arange(100) * 2.0**-23, jnp.float32)
    found = density.thresholds([values, values * 2], [jnp.float32(1.9), jnp.float32(3.7)], number / 200)
    assert sum(int(jnp.sum(layer > bound)) for layer, bound in zip([values, values * 2], found)) == number


def test_a_global_budget_moves_all_thresholds_in_proportion():
    found = density.thresholds(LAYERS, SCALES, 0.1)
    ratios = np.array(found) / np.array(SCALES)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)
    assert remaining(found)[1] == 0  # so that a layer may die


def test_a_floor_lowers_the_threshold_of_its_layer_alone():
    found = density.thresholds(LAYERS, SCALES, 0.1, 0.05)
    ratios = np.array(found) / np.array(SCALES)
    assert ratios[1] < ratios[0]
    np.testing.assert_allclose(ratios[2], ratios[0], rtol=1e-6)
    assert remaining(found)[1] == 10


def test_values_of_either_sign_and_thresholds_below_zero():
    values = [jnp.array([3.0, 1.0, -1.0, -2.0, -3.0])]
    for share, expected in [(0.2, 1), (0.4, 2), (0.6, 3), (0.8, 4), (1.0, 5)]:
        assert int(jnp.sum(values[0] > density.thresholds(values, [jnp.float32(1)], share)[0])) == expected


@pytest.mark.parametrize(("share", "floor"), [(1.0, 0.0), (1.0, 1.0), (0.3, 0.2)])
def test_rounding_takes_no_weight_from_a_layer_that_must_remain(share, floor):
    # Layers of one weight, of which a floor keeps all, among larger ones; each draw has other roundings.
    shapes = [(1,), (1,), (7, 8), (3,)]

    def remaining(key):
        keys = jax.random.split(key, 2 * len(shapes))
        layers = [jnp.abs(jax.random.normal(key, shape)) for key, shape in zip(keys, shapes)]
        scales = [jax.random.uniform(key, minval=0.1, maxval=3.0) for key in keys[len(shapes) :]]
        found = density.thresholds(layers, scales, share, floor)
        return jnp.array([jnp.sum(layer > bound) for layer, bound in zip(layers, found)])

    counts = jax.jit(jax.vmap(remaining))(jax.random.split(jax.random.key(0), 500))
    least = [max(1, round(floor * np.prod(shape))) if floor else 0 for shape in shapes]
    assert (np.asarray(counts) >= least).all()
    assert np.ptp(counts.sum(1)) == 0 and counts[0].sum() == max(round(share * 61), sum(least))


def test_the_target_goes_geometrically_from_the_first_density_to_the_last():
    way = [float(density.target(jnp.float32(0.64), 0.04, jnp.float32(p))) for p in (0, 0.25, 0.5, 1, 3)]
    np.testing.assert_allclose(way, [0.64, 0.32, 0.16, 0.04, 0.04], rtol=1e-6)
    assert float(density.target(jnp.float32(0), 0.5, jnp.float32(0))) == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 1.5}, "density is 1.5; allowed is above 0 and at most 1"),
        ({"density": -0.1}, "density is -0.1; allowed is above 0 and at most 1"),
        ({"density": 0.02, "floor": 0.05}, "floor is 0.05; allowed is 0 to the density, 0.02"),
        ({"floor": 0.05}, "floor is 0.05; allowed is 0 to the density, 0.0"),
    ],
)
@pytest.mark.parametrize("rule", ["signed", "binary"])
def test_a_setting_out_of_range_is_one_line(rule, changes, message):
    settings = config.default().mask
    settings.update(changes)
    with pytest.raises(errors.InputError, match=f"^config.mask.{message}$"):
        core.by_name(rule, settings)


def test_an_unknown_budget_and_a_rule_without_density_are_refused():
    with pytest.raises(errors.InputError, match=r"unknown budget 'gobal'; did you mean 'global'\?"):
        core.Signed(density=0.1, budget="gobal")
    settings = config.default().mask
    settings.density = 0.1
    for rule in ("dense", "sign_only", "stochastic"):
        with pytest.raises(
            errors.InputError, match=f"mask.density is 0.1; the mask rule '{rule}' takes none"
        ):
            core.by_name(rule, settings)
