"""Optimizers and schedules against recurrences written out in numpy."""

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
    schedule = optimizer.schedule(
        "exponential", steps_per_epoch=2, total_epochs=5, factor=0.5, decay_epochs=1.0
    )
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


def test_a_hundred_epochs_shrink_an_unsupported_score():
    """The main rows: decay 5e-4 and 0.9 per 10 epochs, on CIFAR-10."""
    steps_per_epoch, exponent = 391, -12
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
    half_epochs = optimizer.schedule(
        "exponential", steps_per_epoch=4, total_epochs=9, factor=0.2, decay_epochs=0.5
    )
    np.testing.assert_allclose(factors(half_epochs, 6), [0.2 ** (step / 2) for step in range(6)], rtol=1e-5)


def test_cosine_goes_from_one_to_zero_over_the_run():
    found = factors(optimizer.schedule("cosine", steps_per_epoch=3, total_epochs=4), 14)
    expected = [(1 + math.cos(math.pi * min(step, 12) / 12)) / 2 for step in range(14)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0] == 1
    assert found[12] == found[13] == 0


def test_staircase_applies_the_factor_once_in_so_many_whole_epochs():
    schedule = optimizer.schedule(
        "staircase", steps_per_epoch=4, total_epochs=9, factor=0.96, decay_epochs=2.0
    )
    expected = [0.96 ** (step // 8) for step in range(36)]
    np.testing.assert_allclose(factors(schedule, 36), expected, rtol=1e-6)


STEPS = 4  # in an epoch of the plateau's tests


def plateau(factor=0.25, patience=4, times=2):
    return optimizer.schedule(
        "plateau",
        steps_per_epoch=STEPS,
        total_epochs=9,
        factor=factor,
        patience=patience,
        max_reductions=times,
    )


def by_epoch(losses, **options) -> list[float]:
    """The factor of each epoch, whose steps have losses of the given mean."""
    noisy = np.ravel([[loss - 0.5, loss, loss + 0.75, loss - 0.25] for loss in losses])
    found = np.reshape(factors(plateau(**options), len(noisy), noisy), (-1, STEPS))
    assert (found == found[:, :1]).all()  # it changes between epochs only
    return found[:, 0].tolist()


def by_the_authors_rule(losses, factor, patience, times) -> list[float]:
    """The factor of each epoch until training stops, word by word."""
    found, current, bad, reductions, cooldown = [], 1.0, 0, 0, 0
    for epoch, loss in enumerate(losses, start=1):
        found.append(current)
        if cooldown > 0:  # in which nothing counts
            cooldown -= 1
            continue
        if epoch < 11:
            continue
        before = losses[: epoch - 1]
        if loss + 1e-4 < min(before[-(patience - 2) :]):
            continue
        bad += 1
        if bad > patience:
            current *= factor
            reductions += 1
            cooldown = 10
            if reductions == times:
                break
    return found


def random_curves(count) -> np.ndarray:
    """Mean losses of 200 epochs, `[count, 200]`: falling ever more slowly, constant, or rising; with noise.

    In whole multiples of 2^-14 = 6.1e-5, so that sums are exact and one multiple is too little to be good.
    """
    rng = np.random.default_rng(0)
    epochs = np.arange(200)
    curves = []
    for i in range(count):
        noise = rng.choice([0.0, 1e-4, 1e-3, 1e-2, 0.1]) * rng.standard_normal(200)
        falling = rng.uniform(0.2, 2.0) * np.exp(-epochs / rng.uniform(5, 200))
        trend = (falling, np.zeros(200), epochs / rng.uniform(100, 10_000))[i % 4 % 3]
        curves.append(np.round((1.0 + trend + noise) * 2**14) / 2**14)
    return np.array(curves)


@pytest.mark.parametrize(
    ("factor", "patience", "times"), [(0.25, 15, 5), (0.5, 15, 7), (0.5, 10, 7), (0.25, 3, 2), (0.5, 40, 1)]
)
def test_plateau_is_the_authors_rule_for_every_network_of_its_own(factor, patience, times):
    curves = random_curves(80)
    schedule = plateau(factor, patience, times)
    noise = 2**-5 * np.array([1, -2, 3, -2])

    def steps(curve):
        losses = (curve[:, None] + noise).ravel()

        def step(state, loss):
            factor, state = schedule.update(jnp.ones(()), state, value=loss)
            return state, (factor, optimizer.stopped(state))

        return jax.lax.scan(step, schedule.init(jnp.ones(())), losses)[1]

    found, stops = jax.jit(jax.vmap(steps))(jnp.asarray(curves, jnp.float32))
    ends = set()
    for curve, factors, stopped in zip(curves.tolist(), found, stops, strict=True):
        expected = by_the_authors_rule(curve, factor, patience, times)
        ended = len(expected) < len(curve)
        ends.add(len(expected))
        expected += [0.0] * (len(curve) - len(expected))
        np.testing.assert_allclose(factors, np.repeat(expected, STEPS), rtol=1e-5)
        # It has stopped after the last step of the epoch of the last reduction.
        first = int(np.argmax(stopped)) if stopped.any() else len(stopped)
        assert first == (expected.index(0.0) * STEPS - 1 if ended else len(stopped))
    assert len(ends) > 5  # so they stop at different times


def test_plateau_by_hand():
    # With patience 4 the fifth bad epoch is one too many. Epochs 11 to 15 are bad and reduce; 16 to 25 do not
    # count; 26 reduces at once, which ends the training.
    assert by_epoch([2.0] * 30) == [1.0] * 15 + [0.25] * 11 + [0.0] * 4
    # Good epochs (12, 14 and the cooldown's) leave the count as it is.
    assert by_epoch([2.0] * 11 + [1.9, 1.9, 1.8] + [1.8] * 6) == [1.0] * 17 + [0.25] * 3
    # So does a reduction: the first bad epoch after the cooldown (epoch 28) reduces, the good ones do not.
    falling = [1.9, 1.8]
    assert by_epoch([2.0] * 25 + falling + [1.8] * 2, times=3) == [1.0] * 15 + [0.25] * 13 + [0.0625]


def test_plateau_compares_with_the_lowest_of_the_last_patience_less_two_epochs():
    # Patience 4: two epochs back. The low loss of epoch 8 is forgotten when epoch 11 comes.
    losses = [2.0] * 7 + [0.5] + [2.0] * 2 + [1.9 - 0.1 * epoch for epoch in range(10)]
    assert by_epoch(losses) == [1.0] * 20
    # Patience 6: four epochs back, so that 11 and 12 are bad; 13 to 15 and the last of four more are needed.
    losses = losses[:12] + [1.8] * 6
    assert by_epoch(losses, patience=6) == [1.0] * 17 + [0.25]


@pytest.mark.parametrize(("improvement", "last"), [(0.9e-4, 0.25), (1.1e-4, 1.0)])
def test_plateau_wants_an_improvement_by_a_ten_thousandth(improvement, last):
    found = by_epoch([2.0 - improvement * epoch for epoch in range(16)])
    assert found == [1.0] * 15 + [last]


def test_plateau_scales_the_decay_too_until_nothing_moves():
    made = optimizer.make("nesterov", learning_rate=0.1, weight_decay=0.5, momentum=0.9, schedule=plateau())
    found = updates_of(made, np.zeros(30 * STEPS), np.full(30 * STEPS, 2.0))
    assert found[::STEPS] == [0.5] * 15 + [0.125] * 11 + [0.0] * 4


def test_a_network_that_has_stopped_is_final_while_another_goes_on():
    made = optimizer.make("nesterov", learning_rate=0.1, weight_decay=0.01, momentum=0.9, schedule=plateau())
    params = jnp.ones((2, 3, 3))
    state = jax.vmap(made.init)(params)
    assert optimizer.stopped(state).tolist() == [False, False]

    def step(carry, gradient):
        params, state = carry
        epoch = state[-1].steps[0] // STEPS
        losses = jnp.stack([2.0, 2.0 - 0.01 * epoch])
        updates, state = jax.vmap(lambda g, s, p, v: made.update(g, s, p, value=v))(
            gradient, state, params, losses
        )
        params = optax.apply_updates(params, updates)
        return (params, state), params

    gradients = jax.random.normal(jax.random.key(0), (30 * STEPS, 2, 3, 3))
    (_, state), found = jax.lax.scan(step, (params, state), gradients)
    assert optimizer.stopped(state).tolist() == [True, False]
    end = 26 * STEPS
    assert (found[end - 1 :, 0] == found[-1, 0]).all()
    assert (found[end - 2, 0] != found[-1, 0]).any()
    assert (found[end:, 1] != found[end - 1 : -1, 1]).any((1, 2)).all()


@pytest.mark.parametrize("name", sorted(set(optimizer.SCHEDULES) - {"plateau"}))
def test_only_a_plateau_stops(name):
    schedule = optimizer.schedule(name, steps_per_epoch=1, total_epochs=1)
    made = optimizer.make("sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule=schedule)
    assert not optimizer.stopped(made.init(jnp.ones((1, 1))))


def test_the_state_of_a_plateau_is_in_that_of_the_optimizer():
    """Interrupted after every single step and continued from a copy, nothing changes."""
    losses = np.repeat([2.0] * 17, STEPS)
    made = optimizer.make("sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.0, schedule=plateau())
    params, gradient = jnp.ones((1, 1)), jnp.ones((1, 1))
    update_of = jax.jit(made.update)
    state, found = made.init(params), []
    for loss in losses:
        update, state = update_of(gradient, jax.tree.map(np.array, state), params, value=jnp.float32(loss))
        found.append(float(-update[0, 0]))
    assert found == factors(plateau(), len(losses), losses)
    assert found[-1] < 1


def test_clip_holds_the_gradient_of_every_variable_to_a_norm_of_its_own():
    made = optimizer.make(
        "sgd", learning_rate=2.0, weight_decay=0.0, momentum=0.0, schedule=constant(), clip=0.5
    )
    gradients = {
        "large": jnp.array([[3.0, 0.0], [0.0, 4.0]]),  # of norm 5
        "small": jnp.array([[0.3, -0.1]]),
        "zero": jnp.zeros((2, 1)),
    }
    updates, _ = made.update(gradients, made.init(gradients), gradients, value=1.0)
    np.testing.assert_allclose(updates["large"], [[-0.6, 0.0], [0.0, -0.8]], rtol=1e-6)
    np.testing.assert_array_equal(updates["small"], -2 * gradients["small"])
    np.testing.assert_array_equal(updates["zero"], gradients["zero"])


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
