"""Optimisers and schedules against recurrences written out in numpy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ssm_jax import errors
from ssm_jax.training import optimizer

GRADIENTS = np.array([[0.5, -1.0], [0.25, 2.0], [-1.5, 0.0], [1.0, -0.5], [0.75, 0.125]])
START = np.array([1.0, -2.0])


def constant():
    return optimizer.schedule("constant", steps_per_epoch=2, total_epochs=5)


def factors(schedule, steps, values=None) -> list[float]:
    """What multiplies the update in each step: that of plain SGD with learning rate and gradient 1."""
    transformation = optimizer.make(
        "sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule=schedule
    )
    return updates_of(transformation, np.ones(steps), values)


def updates_of(transformation, gradients, values=None, score=1.0) -> list[float]:
    """The updates of a constant score of 1 (by 1) with the sign turned."""
    params = jnp.full((1, 1), score, jnp.float32)
    gradients = jnp.asarray(gradients, jnp.float32)
    values = jnp.ones(len(gradients)) if values is None else jnp.asarray(values, jnp.float32)

    def step(state, inputs):
        gradient, value = inputs
        update, state = transformation.update(gradient[None, None], state, params, value=value)
        return state, -update[0, 0]

    return jax.lax.scan(step, transformation.init(params), (gradients, values))[1].tolist()


def trajectory(name, momentum=0.9):
    """Five steps under a schedule that halves everything in two steps, learning rate 0.1, decay 0.01."""
    schedule = optimizer.schedule("exponential", steps_per_epoch=2, total_epochs=5, factor=0.5, epochs=1.0)
    made = optimizer.make(name, learning_rate=0.1, weight_decay=0.01, momentum=momentum, schedule=schedule)
    params = {"scores": jnp.asarray(START[None], jnp.float32)}
    state = made.init(params)
    found = []
    for gradient in GRADIENTS:
        gradients = {"scores": jnp.asarray(gradient[None], jnp.float32)}
        updates, state = made.update(gradients, state, params, value=jnp.float32(1))
        params = optax.apply_updates(params, updates)
        found.append(params["scores"][0])
    return np.array(found)


def test_nesterov_decays_first_by_the_schedule_alone_and_then_steps():
    scores, velocity, expected = START.copy(), np.zeros(2), []
    for step, gradient in enumerate(GRADIENTS):
        factor = 0.5 ** (step / 2)
        velocity = 0.9 * velocity + gradient
        scores = scores - 0.01 * factor * scores
        scores = scores - 0.1 * factor * (gradient + 0.9 * velocity)
        expected.append(scores)
    np.testing.assert_allclose(trajectory("nesterov"), expected, rtol=1e-5)


def test_the_first_nesterov_step_to_the_digit():
    # 1 - 0.01 * 1 - 0.1 * (1 + 0.9) * 0.5 and -2 + 0.01 * 2 + 0.1 * (1 + 0.9) * 1
    np.testing.assert_allclose(trajectory("nesterov")[0], [0.895, -1.79], rtol=1e-6)


def test_sgd_has_plain_momentum():
    scores, velocity, expected = START.copy(), np.zeros(2), []
    for step, gradient in enumerate(GRADIENTS):
        factor = 0.5 ** (step / 2)
        velocity = 0.9 * velocity + gradient
        scores = scores - 0.01 * factor * scores - 0.1 * factor * velocity
        expected.append(scores)
    np.testing.assert_allclose(trajectory("sgd"), expected, rtol=1e-5)


def test_adam_with_the_same_decoupled_decay():
    scores, first, second, expected = START.copy(), np.zeros(2), np.zeros(2), []
    for step, gradient in enumerate(GRADIENTS):
        factor = 0.5 ** (step / 2)
        first = 0.8 * first + 0.2 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.8 ** (step + 1))) / (np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8)
        scores = scores - 0.01 * factor * scores - 0.1 * factor * direction
        expected.append(scores)
    np.testing.assert_allclose(trajectory("adam", momentum=0.8), expected, rtol=1e-4)


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_decay_is_not_multiplied_by_the_learning_rate(name):
    for learning_rate in (1e-6, 1.0):
        made = optimizer.make(
            name, learning_rate=learning_rate, weight_decay=0.25, momentum=0.9, schedule=constant()
        )
        np.testing.assert_allclose(updates_of(made, np.zeros(2), score=8.0), [2.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize(("steps_per_epoch", "exponent"), [(391, -12), (469, -14.5)])
def test_a_hundred_epochs_shrink_an_unsupported_score(steps_per_epoch, exponent):
    """The main rows: decay 5e-4 and 0.9 per 10 epochs, on CIFAR-10 (391 steps) and MNIST (469)."""
    steps = 100 * steps_per_epoch
    schedule = optimizer.schedule("exponential", steps_per_epoch=steps_per_epoch, total_epochs=100)
    made = optimizer.make("nesterov", learning_rate=0.05, weight_decay=5e-4, momentum=0.9, schedule=schedule)

    def step(_, carry):
        score, state = carry
        update, state = made.update(jnp.zeros_like(score), state, score, value=0.0)
        return score + update, state

    score = jnp.ones((1, 1))
    score, _ = jax.jit(lambda: jax.lax.fori_loop(0, steps, step, (score, made.init(score))))()
    product = np.prod(1 - 5e-4 * 0.9 ** (np.arange(steps) / (10 * steps_per_epoch)))
    np.testing.assert_allclose(score[0, 0], product, rtol=5e-3)
    assert abs(math.log(score[0, 0]) - exponent) < 0.15


def test_exponential_is_continuous():
    found = factors(optimizer.schedule("exponential", steps_per_epoch=4, total_epochs=9), 36)
    np.testing.assert_allclose(found, [0.9 ** (step / 40) for step in range(36)], rtol=1e-5)
    half_epochs = optimizer.schedule("exponential", steps_per_epoch=4, total_epochs=9, factor=0.2, epochs=0.5)
    np.testing.assert_allclose(factors(half_epochs, 6), [0.2 ** (step / 2) for step in range(6)], rtol=1e-5)


def test_cosine_goes_from_one_to_zero_over_the_run():
    found = factors(optimizer.schedule("cosine", steps_per_epoch=3, total_epochs=4), 14)
    expected = [(1 + math.cos(math.pi * min(step, 12) / 12)) / 2 for step in range(14)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0] == 1
    assert found[12] == found[13] == 0


def test_constant():
    assert factors(constant(), 30) == [1.0] * 30


STEPS = 3  # in an epoch of the plateau's tests


def plateau(factor=0.2, patience=2, times=2):
    return optimizer.schedule(
        "plateau", steps_per_epoch=STEPS, total_epochs=9, factor=factor, patience=patience, times=times
    )


def by_epoch(losses, **options) -> list[float]:
    """The factor in the first step of each epoch, whose three steps have losses of the given mean."""
    noisy = np.ravel([[loss - 0.5, loss, loss + 0.5] for loss in losses])
    return factors(plateau(**options), len(noisy), noisy)[::STEPS]


def test_plateau_multiplies_after_patience_epochs_without_improvement_and_only_so_often():
    # Epoch 0 improves on nothing; 1 and 2 do not improve: reduced. 3 and 4 neither: reduced a second
    # time, which is the last.
    found = by_epoch([2.0] * 12)
    np.testing.assert_allclose(found, [1, 1, 1, 0.2, 0.2, *[0.04] * 7], rtol=1e-5)


def test_plateau_starts_to_count_again_after_an_improvement():
    found = by_epoch([2.0, 2.0, 1.9, 1.9, 1.8, 1.8, 1.8, 1.8])
    np.testing.assert_allclose(found, [1, 1, 1, 1, 1, 1, 1, 0.2], rtol=1e-5)


def test_plateau_compares_with_the_best_epoch_not_with_the_one_before():
    np.testing.assert_allclose(by_epoch([1.0, 5.0, 4.0, 3.0]), [1, 1, 1, 0.2], rtol=1e-5)


@pytest.mark.parametrize(("share", "last"), [(0.5e-4, 0.2), (2e-4, 1.0)])
def test_plateau_wants_an_improvement_by_a_ten_thousandth(share, last):
    found = by_epoch([2.0 * (1 - share) ** epoch for epoch in range(4)], patience=3)
    # One improvement too small is none; so three of them end the patience.
    assert factors(plateau(patience=1), 7, np.repeat([2.0, 2.0 * (1 - share), 1.0], STEPS)[:7])[
        2 * STEPS
    ] == pytest.approx(last)
    assert found[:3] == [1, 1, 1]


def test_plateau_scales_the_decay_too():
    made = optimizer.make("nesterov", learning_rate=0.1, weight_decay=0.5, momentum=0.9, schedule=plateau())
    found = updates_of(made, np.zeros(15), np.full(15, 2.0))
    np.testing.assert_allclose(found[::STEPS], [0.5, 0.5, 0.5, 0.1, 0.1], rtol=1e-5)


def test_the_state_of_a_plateau_is_in_that_of_the_optimiser():
    """Interrupted after every single step and continued from a copy, nothing changes."""
    losses = np.repeat([2.0] * 6, STEPS)
    made = optimizer.make("sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule=plateau())
    params, gradient = jnp.ones((1, 1)), jnp.ones((1, 1))
    update_of = jax.jit(made.update)
    state, found = made.init(params), []
    for loss in losses:
        update, state = update_of(gradient, jax.tree.map(np.array, state), params, value=jnp.float32(loss))
        found.append(float(-update[0, 0]))
    assert found == factors(plateau(), len(losses), losses)
    assert found[-1] < 1


def test_a_plateau_does_not_branch():
    """At a branch a GPU waits for the host."""
    made = plateau()
    scores = jnp.ones((2, 2))
    program = jax.make_jaxpr(lambda state: made.update(scores, state, value=1.0))(made.init(scores))
    assert "cond[" not in str(program)
    assert "select_n" in str(program)


@pytest.mark.parametrize(("decay_normalization", "of_vectors"), [(True, -0.5), (False, 0.0)])
def test_scales_offsets_and_biases_decay_unless_told_otherwise(decay_normalization, of_vectors):
    made = optimizer.make(
        "nesterov",
        learning_rate=0.1,
        weight_decay=0.5,
        momentum=0.9,
        decay_normalization=decay_normalization,
        schedule=constant(),
    )
    params = {
        "scores": jnp.ones((3, 3, 2, 4)),
        "head": jnp.ones((2, 4)),
        "scale": jnp.ones(4),
        "scalar": jnp.ones(()),
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = made.update(zeros, made.init(params), params, value=1.0)
    assert {name: float(update.ravel()[0]) for name, update in updates.items()} == {
        "scores": -0.5,
        "head": -0.5,
        "scale": of_vectors,
        "scalar": of_vectors,
    }


def test_unknown_names():
    with pytest.raises(errors.InputError, match=r"optimizer 'nesterof'.*did you mean 'nesterov'\?"):
        optimizer.make("nesterof", learning_rate=1, weight_decay=0, momentum=0, schedule=constant())
    with pytest.raises(errors.InputError, match=r"schedule 'cosin'.*did you mean 'cosine'\?"):
        optimizer.schedule("cosin", steps_per_epoch=1, total_epochs=1)
