"""From a config to the masking, the network and the task that it describes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax.training import setup as experiment
from ssm_jax.nn import networks
from ssm_jax import errors
from ssm_jax.nn.layers import Dense, Masking


def changed(**values):
    config = configuration.default()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in values.items()})
    return config


def task_of(config, image_shape=(4, 4, 1), classes=3, examples=20):
    return experiment.task(config, experiment.network(config, image_shape, classes), examples)


def drawn(init):
    return init(jax.random.key(0), (50, 20), jnp.float32)


NAMES = {
    "model__name": (
        ("fcn", "conv2", "conv4", "conv6", "conv8", "resnet20", "resnet56", "resnet110"),
        "resnet11",
    ),
    "model__normalization": (("none", "paper", "batch", "batch_affine"), "bacth"),
    "mask__rule": (("signed", "dense"), "signd"),
    "init__kernel": (("elus", "he_constant", "xavier_constant", "he_uniform", "elu"), "he_const"),
    "init__score": (("xavier_uniform", "he_uniform", "elus_uniform"), "xavier"),
    "optimizer__name": (("nesterov", "sgd", "adam"), "adan"),
    "schedule__name": (("exponential", "cosine", "constant", "plateau"), "cosin"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    allowed, wrong = NAMES[name]
    for value in allowed:
        options = {} if name != "model__normalization" else {"model__name": "resnet20"}
        experiment.check(changed(**options, **{name: value}))
    with pytest.raises(errors.InputError) as caught:
        experiment.check(changed(**{name: wrong}))
    message = str(caught.value)
    assert "\n" not in message
    for part in (repr(wrong), "did you mean", *allowed):
        assert part in message


def test_a_network_of_the_callers_own_needs_no_name():
    config = changed(model__name="mine")
    with pytest.raises(errors.InputError, match="unknown network 'mine'"):
        experiment.check(config)
    experiment.check(config, own_model=True)
    with pytest.raises(errors.InputError, match="schedule"):  # the rest is still checked
        experiment.check(changed(model__name="mine", schedule__name="none"), own_model=True)


def test_masking_takes_every_setting():
    masking = experiment.masking(
        changed(
            mask__threshold=0.7,
            init__elus_factor=3.0,
            init__score="elus_uniform",
            training__precision="bfloat16",
        )
    )
    assert (masking.rule, masking.threshold, masking.dtype) == ("signed", 0.7, jnp.bfloat16)
    np.testing.assert_allclose(np.abs(drawn(masking.kernel_init)), (6 / 50) ** 0.5, rtol=1e-6)
    largest = np.abs(drawn(masking.score_init)).max()
    assert 0.99 * (18 / 50) ** 0.5 < largest <= (18 / 50) ** 0.5 * (1 + 1e-6)


def test_masking_of_the_dense_baseline():
    masking = experiment.masking(changed(mask__rule="dense", init__kernel="elu", init__elu_factor=0.5))
    assert masking.rule is None
    largest = np.abs(drawn(masking.kernel_init)).max()
    assert 0.99 * (3 / 50) ** 0.5 < largest <= (3 / 50) ** 0.5 * (1 + 1e-6)


def test_masking_refuses_unknown_names():
    for field in ("init__kernel", "init__score", "mask__rule"):
        with pytest.raises(errors.InputError, match=r"unknown .* 'nothing'"):
            experiment.masking(changed(**{field: "nothing"}))


def test_network_takes_name_width_and_normalization():
    config = changed(model__name="resnet20", model__width=0.5, model__normalization="batch")
    network = nnx.eval_shape(lambda: experiment.network(config, [8, 8, 2], 7)(nnx.Rngs(0)))
    assert isinstance(network, networks.ResNet)
    assert network.stem.kernel.shape == (3, 3, 2, 8)
    assert network.head.kernel.shape == (32, 7)
    assert jax.tree.leaves(nnx.state(network, nnx.BatchStat))


def test_task():
    task = task_of(changed(training__batch_size=8, data__augment="crop_flip", training__precision="bfloat16"))
    assert (task.examples, task.batch_size, task.augment, task.dtype) == (20, 8, True, jnp.bfloat16)
    assert task.steps_per_epoch == 3
    assert not task_of(changed()).augment


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({"schedule__factor": 0.5, "schedule__epochs": 2.0}, [1, 0.5 ** (1 / 6), 0.5 ** (2 / 6)]),
        ({"schedule__name": "constant"}, [1, 1, 1]),
        (
            {"schedule__name": "cosine", "training__epochs": 2},
            [1, (1 + 0.75**0.5) / 2, 0.75],  # cos of 0, 30 and 60 degrees
        ),
        (
            {
                "schedule__name": "plateau",
                "schedule__factor": 0.3,
                "schedule__patience": 1,
                "schedule__times": 1,
            },
            [1, 1, 1, 1, 1, 0.3, 0.3, 0.3, 0.3],
        ),
    ],
)
def test_the_tasks_optimiser_follows_the_config(settings, factors):
    """20 examples in batches of 8: three steps an epoch. A score of 1 without gradient loses its decay."""
    config = changed(training__batch_size=8, optimizer__weight_decay=0.5, **settings)
    optimizer = task_of(config).optimizer
    params, zero = jnp.ones((1, 1)), jnp.zeros((1, 1))
    state, found = optimizer.init(params), []
    for _ in factors:
        update, state = optimizer.update(zero, state, params, value=jnp.float32(2))
        found.append(float(-update[0, 0]))
    np.testing.assert_allclose(found, 0.5 * np.array(factors), rtol=1e-5)


def test_the_tasks_learning_rate_and_momentum():
    config = changed(optimizer__learning_rate=0.3, optimizer__momentum=0.6, optimizer__weight_decay=0.0)
    optimizer = task_of(config).optimizer
    one = jnp.ones((1, 1))
    update, _ = optimizer.update(one, optimizer.init(one), one, value=1.0)
    np.testing.assert_allclose(update, -0.3 * 1.6, rtol=1e-6)


def test_kernel_shapes():
    shapes = experiment.kernel_shapes(task_of(changed(model__width=0.1)))
    assert shapes == {"denses/0": (16, 30), "denses/1": (30, 10), "denses/2": (10, 3)}


def test_kernel_shapes_of_ones_own_network():
    def build(rngs):
        return nnx.Sequential(Dense(16, 5, masking=Masking(), rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    assert experiment.kernel_shapes(experiment.task(changed(), build, 20)) == {"layers/0": (16, 5)}


def test_a_network_without_a_layer_of_ours_is_refused():
    task = experiment.task(changed(), lambda rngs: nnx.Linear(4, 2, rngs=rngs), 20)
    with pytest.raises(errors.InputError, match=r"no ssm_jax\.Dense or ssm_jax\.Conv"):
        experiment.kernel_shapes(task)


def test_images_too_small_are_an_input_error():
    with pytest.raises(errors.InputError, match="8x8 are too small for conv8"):
        experiment.kernel_shapes(task_of(changed(model__name="conv8"), image_shape=(8, 8, 1)))


def test_a_network_with_a_random_stream_of_its_own_is_refused():
    class Dropping(nnx.Module):
        def __init__(self, rngs):
            self.dense = Dense(4, 2, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    task = experiment.task(configuration.default(), Dropping, 10)
    with pytest.raises(errors.InputError, match="dropout"):
        experiment.kernel_shapes(task)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["fcn", "conv2", "resnet20"])
def test_training_takes_no_more_memory_than_expected_and_not_much_less(name, precision):
    """Against what the compiler plans for a step."""
    shape, batch, examples = (8, 8, 1), 16, 32
    task = task_of(
        changed(
            model__name=name, model__width=0.25, training__precision=precision, training__batch_size=batch
        ),
        image_shape=shape,
        examples=examples,
    )
    state, frozen = jax.eval_shape(task.initialize, jnp.int32(0))
    graph = task.graph(training=True)
    data = {
        "images": jax.ShapeDtypeStruct((examples, *shape), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    order = jax.ShapeDtypeStruct((2, batch), jnp.int32)
    step = jax.vmap(
        functools.partial(task.train_step, graph),
        in_axes=None,
        out_axes=None,
        axis_name=networks.BATCH_AXIS,
        axis_size=1,
    )
    plan = jax.jit(step, donate_argnums=0).lower(state, frozen, data, order).compile().memory_analysis()
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    assert needed < experiment.training_bytes(task, shape) < 5 * needed
