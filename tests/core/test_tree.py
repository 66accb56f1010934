"""Masks on a tree of arrays: against the definition, in stacks, under transformations and on meshes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssm_jax import core, errors, score_optimizer
from ssm_jax.core import Blocks, Masking, Signed

KEY = jax.random.key(0)
PARAMS = {
    "blocks": {"kernel": jnp.ones((3, 8, 8)), "bias": jnp.zeros((3, 8))},
    "embedding": jnp.ones((5, 8)),
    "head": {"kernel": jnp.ones((8, 4))},
}


def stacked(path, leaf):
    return int("blocks" in path)


def made(rule=Signed(), **options):
    return core.init(KEY, PARAMS, Masking(rule=rule), stacked=stacked, **options)


def remaining(masks):
    counts = [np.array(count) for count in core.counts(masks).values()]
    return 1 - sum(count[1] for count in counts) / sum(count.sum() for count in counts)


def test_apply_puts_effective_kernels_in_their_places():
    masks = made()
    params = core.apply(masks)
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)
    layer = masks.layers["head/kernel"]
    scores, threshold = np.asarray(layer.scores), float(layer.state["threshold"])
    assert threshold == pytest.approx(0.4 * np.abs(scores).max())
    mask = np.where(np.abs(scores) > threshold, np.sign(scores), 0)
    np.testing.assert_array_equal(params["head"]["kernel"], layer.random_kernel() * mask)
    np.testing.assert_allclose(np.abs(layer.random_kernel()), np.sqrt(3 / 8), rtol=1e-6)
    assert params["embedding"] is PARAMS["embedding"]
    assert core.counts(masks)["head/kernel"].hidden == np.sum(mask == 0)


def test_each_layer_of_a_stack_is_a_layer_of_its_own():
    layer = made(Signed(rescale=0.5)).layers["blocks/kernel"]
    assert layer.state["threshold"].shape == (3,)
    for i in range(3):
        one = dataclasses.replace(
            layer,
            frozen={"signs": layer.frozen["signs"][i], "constant": layer.frozen["constant"][i]},
            scores=layer.scores[i],
            state={name: value[i] for name, value in layer.state.items()},
        )
        np.testing.assert_allclose(layer.kernel()[i], one.kernel(), rtol=1e-6)
    assert float(np.ptp(layer.state["threshold"])) > 0


def test_the_gradient_is_straight_through_and_in_what_is_trained_alone():
    masks, weight = made(), jax.random.normal(KEY, (8, 4))
    gradient = jax.grad(
        lambda trained: jnp.sum(weight * core.apply(masks.replace(trained))["head"]["kernel"])
    )(masks.trained)
    expected = weight * masks.layers["head/kernel"].random_kernel()
    np.testing.assert_allclose(gradient["scores"]["head/kernel"], expected, rtol=1e-6)
    assert gradient["others"]["head"]["kernel"] is None and gradient["others"]["embedding"].shape == (5, 8)


@pytest.mark.parametrize("steps", [0, 40])
def test_a_density_is_reached_exactly_by_steps_alone(steps):
    masks = made(Signed(density=0.1), steps=steps)
    optimizer = optax.sgd(0.3)

    @jax.jit
    def step(masks, state, key):
        gradient = jax.tree.map(lambda array: jax.random.normal(key, array.shape), masks.trained)
        return core.update(masks, gradient, optimizer, state)

    state = optimizer.init(masks.trained)
    for number in range(steps or 3):
        masks, state = step(masks, state, jax.random.key(number))
        if number == 4:
            assert remaining(masks) > 0.1  # on the way
    assert masks.step == (steps or 3)
    assert remaining(masks) == pytest.approx(0.1, abs=0.5 / 224)


def test_a_density_can_be_set():
    masks = core.set_density(made(), 0.4)
    assert remaining(masks) == pytest.approx(0.4, abs=1 / 224)
    with pytest.raises(errors.InputError, match=r"density is 0\.0; allowed is above 0 and at most 1"):
        core.set_density(masks, 0)
    with pytest.raises(errors.InputError, match="no layer of the model has a threshold"):
        core.set_density(made("edge_popup"), 0.3)


def test_given_kernels_stay_and_begin_whole_their_smallest_weights_go_first():
    params = {"kernel": jax.random.normal(KEY, (40, 30))}
    masks = core.init(KEY, params, Masking(rule=Signed(density=0.25)), kernels="given")
    np.testing.assert_array_equal(core.apply(masks)["kernel"], params["kernel"])
    found = np.asarray(core.apply(core.advance(masks))["kernel"])
    sizes = np.sort(np.abs(np.asarray(params["kernel"]).ravel()))[::-1]
    kept = np.abs(found[found != 0])
    assert len(kept) == 300 and kept.min() > 0.9 * sizes[299]


def test_a_rule_that_draws_needs_a_key_to_be_trained_and_none_to_be_evaluated():
    masks = made("stochastic")

    def loss(trained, key):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(core.apply(masks.replace(trained), key)))

    assert loss(masks.trained, None) != loss(masks.trained, KEY) != loss(masks.trained, jax.random.key(1))
    assert jax.tree.leaves(jax.grad(loss)(masks.trained, KEY))
    with pytest.raises(errors.InputError, match="Stochastic draws at random in training and needs a key"):
        jax.grad(loss)(masks.trained, None)


def test_networks_side_by_side_are_those_one_by_one():
    def logits(key):
        masks = core.advance(core.init(key, PARAMS, Masking(rule=Signed(density=0.2)), stacked=stacked))
        return core.apply(masks)["blocks"]["kernel"]

    keys = jax.random.split(KEY, 2)
    np.testing.assert_allclose(jax.vmap(logits)(keys), [logits(key) for key in keys], rtol=1e-6)


def test_a_stack_runs_under_scan_with_remat():
    def run(trained):
        kernels = core.apply(masks.replace(trained))["blocks"]["kernel"]
        body = jax.checkpoint(lambda hidden, kernel: (jnp.tanh(hidden @ kernel), None))
        return jnp.sum(jax.lax.scan(body, jnp.ones((2, 8)), kernels)[0])

    masks = made()
    assert jnp.any(jax.jit(jax.grad(run))(masks.trained)["scores"]["blocks/kernel"] != 0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [AxisType.Explicit, AxisType.Auto])
@pytest.mark.parametrize("rule", [Signed(density=0.1, floor=0.02, rescale=0.5), "edge_popup", "stochastic"])
def test_what_is_spread_over_devices_stays_so(rule, mode):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(mode,))
    with jax.set_mesh(mesh):
        specs = {"rows": PartitionSpec("x", None), "stack": PartitionSpec("x", None, None)}
        shapes = {"rows": (8, 6), "stack": (2, 6, 6)}
        params = {
            name: jax.device_put(jnp.ones(shapes[name]), NamedSharding(mesh, spec))
            for name, spec in specs.items()
        }
        masks = core.init(KEY, params, Masking(rule=rule), stacked=lambda path, _: int(path == "stack"))
        masks = jax.jit(core.advance)(masks)

        def loss(trained):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(core.apply(masks.replace(trained), KEY)))

        gradient = jax.jit(jax.grad(loss))(masks.trained)["scores"]
        for name, layer in masks.layers.items():
            for array in (layer.scores, layer.frozen["signs"], gradient[name]):
                assert array.sharding.is_equivalent_to(params[name].sharding, array.ndim)
        if isinstance(rule, Signed):
            assert remaining(masks) == pytest.approx(0.1, abs=0.5 / 120)
            assert remaining(core.set_density(masks, 0.5)) == pytest.approx(0.5, abs=0.5 / 120)


def test_kernels_of_other_axes_are_drawn_with_their_fans():
    def where(path, leaf):
        return Blocks.of(leaf.shape, groups=(), outputs=(0,)) if "weight" in path else False

    masks = core.init(KEY, {"weight": jnp.ones((3, 12)), "bias": jnp.zeros(3)}, where=where)
    np.testing.assert_allclose(np.abs(masks.layers["weight"].random_kernel()), np.sqrt(3 / 12), rtol=1e-6)


def test_the_table_lists_what_has_no_mask():
    lines = [line.split() for line in core.table(made()).splitlines()]
    (row,) = [line for line in lines if line[0] == "embedding"]
    assert row[-2:] == ["no", "mask"]
    (total,) = [line for line in lines if line[0] == "all"]
    assert total[1] == "224"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": lambda path, leaf: False}, "`where` selects nothing of blocks/bias, blocks/kernel"),
        ({"kernels": "givn"}, "unknown kernels 'givn'; did you mean 'given'"),
        ({"masking": Masking(rule=None)}, "masking has no rule"),
        (
            {"where": lambda path, leaf: True, "stacked": 1},
            "the kernel blocks/bias is .8. per layer; it must be of two axes at least",
        ),
    ],
)
def test_what_cannot_be_masked_is_one_line(options, message):
    with pytest.raises(errors.InputError, match=message):
        core.init(KEY, PARAMS, **options)


def test_a_module_of_equinox_is_masked_and_trained():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(4, 3, 8, 2, key=KEY)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def where(path, leaf):
        return Blocks.of(leaf.shape, groups=(), outputs=(0,)) if path.endswith("weight") else False

    masks = core.init(KEY, params, Masking(rule=Signed(density=0.3)), where=where, steps=5)
    optimizer = score_optimizer(5)
    state, inputs = optimizer.init(masks.trained), jnp.ones((2, 4))

    @jax.jit
    def step(masks, state):
        def loss(trained):
            return jax.vmap(eqx.combine(core.apply(masks.replace(trained)), static))(inputs).sum()

        return core.update(masks, jax.grad(loss)(masks.trained), optimizer, state)

    for _ in range(5):
        masks, state = step(masks, state)
    assert remaining(masks) == pytest.approx(0.3, abs=0.5 / 120)
    np.testing.assert_allclose(
        np.abs(masks.layers["layers/0/weight"].random_kernel()), np.sqrt(3 / 4), rtol=1e-6
    )
    trained = eqx.combine(core.apply(masks), static)
    hidden = inputs[0]
    for layer in trained.layers:
        assert np.any(layer.bias != 0)
        hidden = layer.weight @ hidden + layer.bias
        hidden = jax.nn.relu(hidden) if layer is not trained.layers[-1] else hidden
    np.testing.assert_allclose(trained(inputs[0]), hidden, rtol=1e-5, atol=1e-6)
