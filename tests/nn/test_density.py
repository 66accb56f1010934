"""The density of a model of one's own, set in place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import core, errors
from ssm_jax.nn.layers import Dense, Masking, masked_layers
from ssm_jax.nn.networks import build

pytestmark = pytest.mark.filterwarnings("ignore:set_density hides most")


def remaining(model):
    counts = [layer.count() for _, layer in sorted(masked_layers(model))]
    kept = [int(inverted + kept) for inverted, _, kept in counts]
    sizes = [int(sum(count)) for count in counts]
    return sum(kept) / sum(sizes), [k / n for k, n in zip(kept, sizes, strict=True)]


def fcn(rule):
    return build("fcn", (8, 8, 1), 10, width=0.2, masking=Masking(rule=rule), rngs=nnx.Rngs(0))


@pytest.fixture
def model():
    return fcn("signed")


@pytest.mark.parametrize("rule", ["signed", "binary"])
def test_it_is_reached_and_again(rule):
    model = fcn(rule)
    for density in (0.01, 0.2, 0.2):
        ssm_jax.set_density(model, density)
        assert remaining(model)[0] == pytest.approx(density, rel=0.01)


def test_budget_of_every_layer_and_floor(model):
    ssm_jax.set_density(model, 0.1, budget="layer")
    assert remaining(model)[1] == pytest.approx([0.1] * 3, rel=0.01)
    ssm_jax.set_density(model, 0.1, floor=0.1)
    assert min(remaining(model)[1]) >= 0.099


def test_thresholds_of_zero_can_be_set_and_all_weights_be_asked_for(model):
    for _, layer in masked_layers(model):
        layer.rule_state["threshold"][...] = jnp.float32(0)
    for density in (0.1, 1.0, 0.02):
        ssm_jax.set_density(model, density)
        assert remaining(model)[0] == pytest.approx(density, rel=0.01)


def test_it_works_under_jit(model):
    nnx.jit(lambda model: ssm_jax.set_density(model, 0.05))(model)
    assert remaining(model)[0] == pytest.approx(0.05, rel=0.01)
    compiled = nnx.jit(ssm_jax.set_density)
    for density in (0.1, 0.02):  # one program for all densities
        compiled(model, jnp.float32(density))
        assert remaining(model)[0] == pytest.approx(density, rel=0.01)


def test_other_layers_are_left_alone():
    class Mixed(nnx.Module):
        def __init__(self, rngs):
            self.threshold = Dense(20, 10, rngs=rngs)
            self.popup = Dense(20, 10, masking=Masking(rule=core.EdgePopup(0.5)), rngs=rngs)

    model = Mixed(nnx.Rngs(0))
    ssm_jax.set_density(model, 0.1)
    assert remaining(model)[1] == [0.5, 0.1]  # popup, threshold
    with pytest.raises(errors.InputError, match="no layer of the model has a threshold"):
        ssm_jax.set_density(model.popup, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0.0}, "density is 0.0; allowed is above 0 and at most 1"),
        ({"density": "half"}, "density is 'half'; allowed is one number above 0 and at most 1"),
        ({"density": 0.1, "floor": 0.2}, "floor is 0.2; allowed is 0 to the density, 0.1"),
        ({"density": 0.1, "budget": "layers"}, "unknown budget 'layers'; did you mean 'layer'"),
    ],
)
def test_a_bad_setting_is_one_line_and_changes_nothing(model, arguments, message):
    before = jax.tree.leaves(nnx.state(model))
    with pytest.raises(errors.InputError, match=message):
        ssm_jax.set_density(model, **arguments)
    assert all((a == b).all() for a, b in zip(before, jax.tree.leaves(nnx.state(model)), strict=True))


@pytest.mark.filterwarnings("error")
def test_hiding_most_of_what_remains_at_once_is_warned_of(model):
    before = remaining(model)[0]
    ssm_jax.set_density(model, 0.6 * before)
    with pytest.warns(UserWarning, match=r"% to 5\.0% at once: a trained network does not survive"):
        ssm_jax.set_density(model, 0.05)
    assert remaining(model)[0] == pytest.approx(0.05, rel=0.01)
    nnx.jit(ssm_jax.set_density)(model, jnp.float32(0.01))  # traced: a schedule of the caller's own
