"""What a network looks like, found without computing anything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import core, errors
from ssm_jax.nn import networks
from ssm_jax.nn.convert import supermask
from ssm_jax.nn.layers import Dense, Masking
from ssm_jax.training import setup
from ssm_jax.training.shapes import convolves, kernel_shapes, mask_rules, training_bytes


def changed(**values):
    config = configuration.default()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in values.items()})
    return config


def task_of(config, image_shape=(4, 4, 1), classes=3, examples=20):
    return setup.task(config, setup.network(config, image_shape, classes), examples)


def test_kernel_shapes():
    shapes = kernel_shapes(task_of(changed(model__width=0.1)))
    assert shapes == {"denses/0": (16, 30), "denses/1": (30, 10), "denses/2": (10, 3)}


def test_kernel_shapes_of_ones_own_network():
    def build(rngs):
        return nnx.Sequential(Dense(16, 5, masking=Masking(), rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    assert kernel_shapes(setup.task(changed(), build, 20)) == {"layers/0": (16, 5)}


class Doubled(core.Signed):
    """A rule of one's own."""


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        (["signed", "signed"], "signed"),
        ([None], "dense"),
        ([core.EdgePopup(0.1), None], "dense, edge_popup"),
        ([Doubled()], "Doubled"),
    ],
)
def test_the_mask_rules_of_ones_own_network_have_their_names(rules, name):
    def build(rngs):
        return nnx.Sequential(*(Dense(4, 4, masking=Masking(rule=rule), rngs=rngs) for rule in rules))

    assert mask_rules(setup.task(changed(), build, 20)) == name


def test_a_network_without_a_layer_of_ours_is_refused():
    task = setup.task(changed(), lambda rngs: nnx.Linear(4, 2, rngs=rngs), 20)
    with pytest.raises(errors.InputError, match=r"no ssm_jax\.Dense or ssm_jax\.Conv"):
        kernel_shapes(task)


def test_images_too_small_are_an_input_error():
    with pytest.raises(errors.InputError, match="8x8 are too small for conv8"):
        kernel_shapes(task_of(changed(model__name="conv8"), image_shape=(8, 8, 1)))


class Projections(nnx.Module):
    """Attention: kernels of three axes without space, and a stream of random numbers."""

    def __init__(self, rngs):
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=4, dropout_rate=0.5, decode=False, rngs=rngs
        )

    def __call__(self, images):
        return self.attention(images[..., 0])


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (setup.network(changed(model__width=0.1), (4, 4, 1), 3), False),
        (setup.network(changed(model__name="conv2", model__width=0.1), (4, 4, 1), 3), True),
        (lambda rngs: supermask(Projections(rngs), rngs=rngs), False),
        (lambda rngs: supermask(nnx.Conv(1, 2, (3, 3), rngs=rngs), rngs=rngs), True),
    ],
    ids=["fcn", "conv2", "attention", "converted"],
)
def test_a_network_convolves_if_a_layer_does(build, expected):
    assert convolves(setup.task(changed(), build, 20)) == expected


def test_layers_that_draw_random_numbers_are_no_obstacle():
    task = setup.task(changed(), lambda rngs: supermask(Projections(rngs), rngs=rngs), 20)
    assert set(kernel_shapes(task)) == {f"attention/{name}" for name in ("query", "key", "value", "out")}
    assert training_bytes(task, (4, 4, 1)) > 0


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
    images = jax.ShapeDtypeStruct((batch, *shape), task.dtype)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

    def one(state, frozen, images, labels):
        kernels = task.apply_masks(graph, state, frozen, training=True).params
        return task.train_step(graph, state, frozen, images, labels, kernels)

    step = jax.vmap(
        one,
        in_axes=None,
        out_axes=None,
        axis_name=networks.BATCH_AXIS,
        axis_size=1,
    )
    plan = jax.jit(step, donate_argnums=0).lower(state, frozen, images, labels).compile().memory_analysis()
    needed = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    assert needed < training_bytes(task, shape) < 5 * needed
