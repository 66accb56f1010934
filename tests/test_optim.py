"""The optimizer of masked models against its definition; a density that needs no more than the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import ssm_jax
from ssm_jax import core, errors
from ssm_jax.core import Masking, Signed

PARAMS = {"scores": {"kernel": jnp.array([[1.0, -2.0]])}, "others": {"bias": jnp.array([3.0])}}


def test_scores_decay_apart_from_the_rate_and_the_rest_has_an_optimizer_of_its_own():
    optimizer = ssm_jax.score_optimizer(
        100, learning_rate=0.5, weight_decay=0.1, scores=optax.identity(), others=optax.sgd(2.0)
    )
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    state, params = optimizer.init(PARAMS), PARAMS
    for step in range(3):
        factor = step / 5  # the rise of the first twentieth
        updates, state = optimizer.update(gradient, state, params)
        expected = -factor * (0.1 * params["scores"]["kernel"] + 0.5)
        np.testing.assert_allclose(updates["scores"]["kernel"], expected, rtol=1e-6)
        np.testing.assert_allclose(updates["others"]["bias"], [-2.0])
        params = optax.apply_updates(params, updates)


def model_of(rule):
    net = nnx.Sequential(nnx.Linear(8, 16, rngs=nnx.Rngs(0)), nnx.LayerNorm(16, rngs=nnx.Rngs(0)))
    return ssm_jax.supermask(net, Masking(rule=rule))


@nnx.jit
def step(model, optimizer):
    optimizer.update(model, nnx.grad(lambda model: jnp.sum(jnp.sin(model(jnp.eye(8)))))(model))


def test_a_model_reaches_its_density_and_everything_is_trained():
    model = model_of(Signed(density=0.1))
    optimizer = ssm_jax.Optimizer(model, steps=25)
    before = {path: np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(nnx.state(model, nnx.Param))}
    for number in range(25):
        step(model, optimizer)
        if number in (19, 24):  # a step after the ramp, and the last one
            assert ssm_jax.remaining_weights(model) == pytest.approx(0.1, abs=0.5 / 128)
    for path, leaf in jax.tree.leaves_with_path(nnx.state(model, nnx.Param)):
        assert (np.asarray(leaf) != before[path]).any(), path


def test_without_the_number_of_steps_a_density_holds_after_each():
    model = model_of(Signed(density=0.2))
    optimizer = ssm_jax.Optimizer(model, optax.adam(0.1))
    for _ in range(2):
        step(model, optimizer)
        assert ssm_jax.remaining_weights(model) == pytest.approx(0.2, abs=0.5 / 128)


def test_trees_and_models_take_the_same_steps():
    model = model_of(Signed(density=0.1))
    optimizer = ssm_jax.Optimizer(model, steps=12)
    masks = core.init(jax.random.key(1), {"kernel": jnp.ones((8, 16)), "norm": jnp.ones(16)}, steps=12)
    layer = model.layers[0].kernel.layer()
    masks = core.Masks(
        {"kernel": layer}, {"kernel": None, "norm": jnp.ones(16), "bias": jnp.zeros(16)}, masks.step, 12
    )
    tx = ssm_jax.score_optimizer(12)

    def network(params):
        hidden = jnp.eye(8) @ params["kernel"]
        centered = hidden - hidden.mean(-1, keepdims=True)
        normal = centered / jnp.sqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-6)
        return jnp.sum(jnp.sin(normal * params["norm"] + params["bias"]))

    @jax.jit
    def tree_step(masks, state):
        gradient = jax.grad(lambda trained: network(core.apply(masks.replace(trained))))(masks.trained)
        return core.update(masks, gradient, tx, state)

    state = tx.init(masks.trained)
    for _ in range(12):
        step(model, optimizer)
        masks, state = tree_step(masks, state)
    np.testing.assert_allclose(masks.layers["kernel"].scores, model.layers[0].kernel.scores[...], atol=2e-3)
    assert core.table(masks).splitlines()[-1].split()[1] == "128"
    found = core.counts(masks)["kernel"]
    assert int(found.hidden) == 128 - 13 and ssm_jax.remaining_weights(model) == pytest.approx(13 / 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps is 0; allowed is at least 1"),
        ({"steps": 3, "weight_decay": 1.0}, "weight_decay is 1.0; allowed is at least 0 and below 1"),
    ],
)
def test_a_bad_setting_is_one_line(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        ssm_jax.score_optimizer(**arguments)
    with pytest.raises(errors.InputError, match="steps is missing"):
        ssm_jax.Optimizer(model_of("signed"))
