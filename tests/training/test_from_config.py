"""From a config to the masking, the network and the task that it describes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import core, errors
from ssm_jax.nn import networks
from ssm_jax.training.from_config import from_config


def changed(**values):
    config = configuration.default()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in values.items()})
    return config


def task_of(config, image_shape=(4, 4, 1), classes=3, examples=20):
    setup = from_config(config)
    return setup.task(setup.network(image_shape, classes), examples)


def drawn(init):
    return init(jax.random.key(0), (50, 20), jnp.float32)


RESNETS = ("resnet20", "resnet56", "resnet110", "resnet110_plain")
NAMES = {
    "model__name": (
        ("fcn", "conv2", "conv4", "conv6", "conv8", *RESNETS),
        "resnet11",
    ),
    "model__normalization": (("none", "paper", "batch", "batch_affine"), "bacth"),
    "mask__rule": (("signed", "dense"), "signd"),
    "mask__budget": (("global", "layer"), "gobal"),
    "init__kernel": (
        ("elus", "he_constant", "xavier_constant", "he_uniform", "xavier_uniform", "elu"),
        "he_const",
    ),
    "init__score": (("xavier_uniform", "he_uniform", "elus_uniform", "elu"), "xavier"),
    "optimizer__name": (("nesterov", "sgd", "adam"), "adan"),
    "schedule__name": (("exponential", "staircase", "cosine", "constant", "plateau"), "cosin"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    allowed, wrong = NAMES[name]
    for value in allowed:
        options = {} if name != "model__normalization" else {"model__name": "resnet20"}
        from_config(changed(**options, **{name: value}))
    with pytest.raises(errors.InputError) as caught:
        from_config(changed(**{name: wrong}))
    message = str(caught.value)
    assert "\n" not in message
    for part in (repr(wrong), "did you mean", *allowed):
        assert part in message


def test_a_network_of_the_callers_own_needs_no_name():
    config = changed(model__name="mine")
    with pytest.raises(errors.InputError, match="unknown network 'mine'"):
        from_config(config)
    from_config(config, own_model=True)
    with pytest.raises(errors.InputError, match="schedule"):  # the rest is still checked
        from_config(changed(model__name="mine", schedule__name="none"), own_model=True)


def test_masking_takes_every_setting():
    changes = {"mask__threshold": 0.7, "init__elus_factor": 3.0, "init__score": "elus_uniform"}
    masking = from_config(changed(training__precision="bfloat16", **changes)).masking
    assert (masking.rule, masking.dtype) == (core.Signed(0.7), jnp.bfloat16)
    np.testing.assert_allclose(np.abs(drawn(masking.kernel_init)), (6 / 50) ** 0.5, rtol=1e-6)
    largest = np.abs(drawn(masking.score_init)).max()
    assert 0.99 * (18 / 50) ** 0.5 < largest <= (18 / 50) ** 0.5 * (1 + 1e-6)


def test_masking_of_the_dense_baseline():
    masking = from_config(changed(mask__rule="dense", init__kernel="elu", init__elu_factor=0.5)).masking
    assert masking.rule is None
    largest = np.abs(drawn(masking.kernel_init)).max()
    assert 0.99 * (3 / 50) ** 0.5 < largest <= (3 / 50) ** 0.5 * (1 + 1e-6)


def test_masking_refuses_unknown_names():
    for field in ("init__kernel", "init__score", "mask__rule"):
        with pytest.raises(errors.InputError, match=r"unknown .* 'nothing'"):
            from_config(changed(**{field: "nothing"}))


def test_network_takes_name_width_and_normalization():
    config = changed(model__name="resnet20", model__width=0.5, model__normalization="batch")
    network = nnx.eval_shape(lambda: from_config(config).network([8, 8, 2], 7)(nnx.Rngs(0)))
    assert isinstance(network, networks.ResNet)
    assert network.stem.shape == (3, 3, 2, 8)
    assert network.head.shape == (32, 7)
    assert jax.tree.leaves(nnx.state(network, nnx.BatchStat))


def test_task():
    task = task_of(changed(training__batch_size=8, data__augment="crop_flip", training__precision="bfloat16"))
    assert (task.examples, task.batch_size, task.augment, task.dtype) == (20, 8, "crop_flip", jnp.bfloat16)
    assert task.steps_per_epoch == 3
    default = task_of(changed())
    assert (default.augment, default.passes, default.shuffle) == ("none", 1, True)
    steep = task_of(changed(mask__density_ramp=0.5, training__epochs=4, training__batch_size=8))
    assert steep.ramp == 6  # half of twelve steps


def test_schedules_count_epochs_of_several_passes():
    """20 examples in batches of 8, twice: six steps an epoch, in which the factor applies once."""
    task = task_of(
        changed(
            training__batch_size=8,
            data__passes=2,
            data__shuffle=False,
            schedule__factor=0.5,
            schedule__decay_epochs=1.0,
            optimizer__weight_decay=0.5,
        )
    )
    assert (task.steps_per_epoch, task.passes, task.shuffle) == (6, 2, False)
    assert task.order(jnp.int32(0), jnp.int32(7)).shape == (6, 8)
    one, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    state = task.optimizer.init(one)
    for _ in range(7):
        update, state = task.optimizer.update(zero, state, one, value=jnp.float32(2))
    np.testing.assert_allclose(update, -0.5 * 0.5, rtol=1e-6)


def test_the_decay_of_normalizations_can_be_turned_off():
    for decayed in (True, False):
        config = changed(optimizer__weight_decay=0.5, optimizer__decay_normalization=decayed)
        optimizer, scale = task_of(config).optimizer, jnp.ones(4)
        update, _ = optimizer.update(jnp.zeros(4), optimizer.init(scale), scale, value=jnp.float32(2))
        np.testing.assert_allclose(update, -0.5 if decayed else 0.0)


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"schedule__factor": 0.5, "schedule__decay_epochs": 2.0}, [1, 0.5 ** (1 / 6), 0.5 ** (2 / 6)]),
        ({"schedule__name": "constant"}, [1, 1, 1]),
        (
            {"schedule__name": "cosine", "training__epochs": 2},
            [1, (1 + 0.75**0.5) / 2, 0.75],  # cos of 0, 30 and 60 degrees
        ),
        (
            {"schedule__name": "staircase", "schedule__factor": 0.5, "schedule__decay_epochs": 2.0},
            [1] * 6 + [0.5] * 6 + [0.25],
        ),
        (
            {
                "schedule__name": "plateau",
                "schedule__factor": 0.3,
                "schedule__patience": 4,
                "schedule__max_reductions": 2,
            },
            # Bad are epochs 11 to 15, which is one too many, and after the cooldown 26, the end.
            [1] * 3 * 15 + [0.3] * 3 * 11 + [0] * 3,
        ),
    ],
)
def test_the_tasks_optimizer_follows_the_config(settings, factors):
    """20 examples in batches of 8: three steps an epoch. A score of 1 without gradient loses its decay."""
    config = changed(training__batch_size=8, optimizer__weight_decay=0.5, **settings)
    optimizer = task_of(config).optimizer
    params, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    state, found = optimizer.init(params), []
    for _ in factors:
        update, state = optimizer.update(zero, state, params, value=jnp.float32(2))
        found.append(float(-update[0, 0]))
    np.testing.assert_allclose(found, 0.5 * np.array(factors), rtol=1e-5)


@pytest.mark.parametrize(("clip", "gradient"), [(0.0, 1.0), (0.25, 0.25)])
def test_the_tasks_learning_rate_momentum_and_clip(clip, gradient):
    config = changed(
        optimizer__learning_rate=0.3,
        optimizer__momentum=0.6,
        optimizer__weight_decay=0.0,
        optimizer__clip=clip,
    )
    optimizer = task_of(config).optimizer
    one = jnp.ones((1, 1))
    update, _ = optimizer.update(one, optimizer.init(one), one, value=1.0)
    np.testing.assert_allclose(update, -0.3 * 1.6 * gradient, rtol=1e-6)
