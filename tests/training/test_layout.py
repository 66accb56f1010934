"""Which device trains which networks and how many, what they look like, and how arrays get there and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import core, errors
from ssm_jax.data import batches
from ssm_jax.nn import networks
from ssm_jax.nn.convert import supermask
from ssm_jax.nn.layers import Dense, Masking
from ssm_jax.training import layout
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import (
    Layout,
    convolves,
    kernel_shapes,
    mask_rules,
    pad_split,
    put,
    replicate,
    seeds_per_group,
    training_bytes,
)

DEVICES = 8


def test_every_device_has_a_part_of_the_batch_or_networks_of_its_own():
    data, seeds = Layout("data", 3), Layout("seeds", 11)
    assert (data.shards, data.per_device) == (DEVICES, 3)
    np.testing.assert_array_equal(data.slots(), [[0, 1, 2]] * DEVICES)
    assert (seeds.shards, seeds.per_device) == (1, 2)
    # 16 slots for 11 networks: those left over repeat the last.
    slots = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 10], [10, 10], [10, 10]]
    np.testing.assert_array_equal(seeds.slots(), slots)
    np.testing.assert_array_equal(seeds.local_slots(), slots)


def test_unknown_mode():
    with pytest.raises(errors.InputError, match=r"parallel mode 'seed'; did you mean 'seeds'\?"):
        Layout("seed", 1)


@pytest.mark.parametrize("mode", ["data", "seeds"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 16, 17])
def test_gather_is_the_inverse_of_place(mode, count):
    layout = Layout(mode, count)
    rng = np.random.default_rng(count)
    tree = {
        "scores": rng.normal(size=(count, 3, 2)).astype("f"),
        "step": np.arange(count, dtype=np.int32),
        "flags": [rng.integers(0, 2, (count, 5)).astype(bool)],
    }
    placed = layout.place(tree)
    assert placed["scores"].shape == (DEVICES, layout.per_device, 3, 2)
    for device, shard in enumerate(placed["step"].addressable_shards):
        assert shard.device == jax.devices()[device]
        np.testing.assert_array_equal(shard.data[0], layout.slots()[device])
    gathered = layout.gather(placed)
    assert jax.tree.structure(gathered) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, gathered, tree)
    template = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), layout.template(placed))
    assert template == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), gathered)


def test_put_and_replicate_give_each_device_a_row():
    rows = np.arange(DEVICES * 3).reshape(DEVICES, 3)
    for device, shard in enumerate(put(rows).addressable_shards):
        np.testing.assert_array_equal(shard.data, rows[device : device + 1])
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    everywhere = replicate({"images": images, "labels": np.arange(5)})
    mean, deviation = batches.statistics(images)
    expected = {"images": images, "labels": np.arange(5), "mean": mean, "deviation": deviation}
    assert set(everywhere) == set(expected)
    for name, array in everywhere.items():
        assert len(array.addressable_shards) == DEVICES
        for shard in array.addressable_shards:
            np.testing.assert_allclose(shard.data, expected[name][None], rtol=1e-6)


def test_pad_split():
    images, labels = np.ones((13, 2, 2, 1), np.uint8), np.arange(13, dtype=np.int32)
    padded = pad_split(images, labels, 8)
    assert padded["images"].shape == (16, 2, 2, 1)
    assert padded["images"][:13].all() and not padded["images"][13:].any()
    assert padded["labels"].tolist() == [*range(13), -1, -1, -1]
    assert padded["images"].dtype == np.uint8
    assert padded["labels"].dtype == np.int32
    assert len(pad_split(images[:8], labels[:8], 8)["labels"]) == 8


def changed(**values):
    config = configuration.default()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in values.items()})
    return config


def task_of(config, image_shape=(4, 4, 1), classes=3, examples=20):
    setup = from_config(config)
    return setup.task(setup.network(image_shape, classes), examples)


def test_kernel_shapes():
    shapes = kernel_shapes(task_of(changed(model__width=0.1)))
    assert shapes == {"denses/0": (16, 30), "denses/1": (30, 10), "denses/2": (10, 3)}


def test_kernel_shapes_of_ones_own_network():
    def build(rngs):
        return nnx.Sequential(Dense(16, 5, masking=Masking(), rngs=rngs), nnx.Linear(5, 3, rngs=rngs))

    assert kernel_shapes(from_config(changed()).task(build, 20)) == {"layers/0": (16, 5)}


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

    assert mask_rules(from_config(changed()).task(build, 20).abstract()) == name


def test_a_network_without_a_layer_of_ours_is_refused():
    task = from_config(changed()).task(lambda rngs: nnx.Linear(4, 2, rngs=rngs), 20)
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
        (from_config(changed(model__width=0.1)).network((4, 4, 1), 3), False),
        (from_config(changed(model__name="conv2", model__width=0.1)).network((4, 4, 1), 3), True),
        (lambda rngs: supermask(Projections(rngs), rngs=rngs), False),
        (lambda rngs: supermask(nnx.Conv(1, 2, (3, 3), rngs=rngs), rngs=rngs), True),
    ],
    ids=["fcn", "conv2", "attention", "converted"],
)
def test_a_network_convolves_if_a_layer_does(build, expected):
    assert convolves(from_config(changed()).task(build, 20)) == expected


def test_layers_that_draw_random_numbers_are_no_obstacle():
    task = from_config(changed()).task(lambda rngs: supermask(Projections(rngs), rngs=rngs), 20)
    assert set(kernel_shapes(task)) == {f"attention/{name}" for name in ("query", "key", "value", "out")}
    assert training_bytes(task, (4, 4, 1)) > 0


@pytest.mark.parametrize(
    ("name", "precision"), [("fcn", "float32"), ("conv2", "bfloat16"), ("resnet20", "float32")]
)
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


def size(mode, name="fcn", **values):
    fields = {"model.name": name, "model.width": 0.1, "parallel": mode} | values
    setup = from_config(configuration.override(configuration.default(), fields))
    task = setup.task(setup.network((32, 32, 3), 10), 1000)
    return seeds_per_group(setup.run, task, (32, 32, 3))


def test_group_sizes_are_even_and_fit_the_devices(monkeypatch):
    devices = jax.device_count()
    assert size("data", seeds=3) == 1  # a CPU is full with one
    assert size("seeds", seeds=3 * devices) == devices
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert size("seeds", seeds=50) == 50
    assert size("data", "conv2", seeds=10) == 5  # two groups of at most 8
    assert size("seeds", "conv2", seeds=10 * devices) == 5 * devices
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert size("data", seeds=50) == 8  # seven groups of at most 8
    assert size("data", "conv2", seeds=10) == 1  # one after another
    four = {"training.seeds_per_device": 4}
    assert size("data", "conv2", seeds=8, **four) == 4
    monkeypatch.setattr(layout, "_UNKNOWN_MEMORY", 1.0)
    assert size("data", seeds=3) == 1  # a device that is too small for one is given one
