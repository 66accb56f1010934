"""One step of one network against the definition in plain JAX; what stays on a non-finite number."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ssm_jax import core
from ssm_jax.core import selection
from ssm_jax.data import batches
from ssm_jax.nn import networks
from ssm_jax.nn.layers import Conv, Dense, Masking, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.nn.variables import Frozen
from ssm_jax.training import optimizer
from ssm_jax.training.evaluation import evaluate_batch, mask_counts, no_sums
from ssm_jax.training.programs import take_steps
from ssm_jax.training.step import FAILURES, TrainSpec

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

EXAMPLES, BATCH, SHAPE, CLASSES = 20, 8, (4, 4, 1), 3
LEARNING_RATE, DECAY, HALF_LIFE = 0.5, 0.01, 2  # steps in which the schedule halves


def alone(function):
    """Compiled, with the axis of the batch bound, as one device that shares with nobody."""
    return jax.jit(jax.vmap(function, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1))


def make_task(build, **options):
    steps = batches.steps_per_epoch(EXAMPLES, BATCH)
    schedule = optimizer.schedule(
        "exponential", steps_per_epoch=steps, total_epochs=9, factor=0.5, decay_epochs=HALF_LIFE / steps
    )
    made = optimizer.make(
        "nesterov", learning_rate=LEARNING_RATE, weight_decay=DECAY, momentum=0.9, schedule=schedule
    )
    return TrainSpec(build=build, optimizer=made, examples=EXAMPLES, batch_size=BATCH, **options)


def fcn(rngs, masking=Masking()):
    return networks.build("fcn", SHAPE, CLASSES, width=0.05, masking=masking, rngs=rngs)


class Own(nnx.Module):
    """Our layers beside Flax's, statistics among them."""

    def __init__(self, rngs):
        self.conv = Conv(1, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, axis_name=BATCH_AXIS, use_scale=False, use_bias=False, rngs=rngs)
        self.hidden = nnx.Linear(4, 6, use_bias=False, rngs=rngs)
        self.head = Dense(6, CLASSES, rngs=rngs)

    def __call__(self, images):
        return self.head(nnx.elu(self.hidden(nnx.elu(self.norm(self.conv(images))).mean((1, 2)))))


class Spike(nnx.Module):
    """Its loss is finite, its gradient is not: the derivative of a root at 0 is infinite."""

    def __init__(self, rngs):
        self.head = Dense(16, CLASSES, rngs=rngs)

    def __call__(self, images):
        return self.head(images.reshape(len(images), -1)) + jnp.sqrt(
            jnp.sum(0 * self.head.effective_kernel())
        )


class Dropping(nnx.Module):
    """Two dropouts; keeps what they let through of ones."""

    def __init__(self, rngs):
        self.head = Dense(16, CLASSES, rngs=rngs)
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.kept = nnx.List([nnx.BatchStat(jnp.zeros(16)) for _ in range(2)])

    def __call__(self, images):
        for dropout, kept in zip(self.dropouts, self.kept, strict=True):
            kept[...] = dropout(jnp.ones(16))
        return self.head(self.dropouts[0](images.reshape(len(images), -1)))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *SHAPE), np.uint8)
    labels = jnp.arange(EXAMPLES, dtype=jnp.int32) % CLASSES
    return batches.with_statistics({"images": jnp.asarray(images), "labels": labels})


class Trainer:
    """A task with its functions compiled for one device."""

    def __init__(self, task, data):
        self.task, self.data = task, data
        graph = task.graph(training=True)

        def step(state, frozen, images, labels):
            kernels = task.apply_masks(graph, state, frozen, training=True).params
            return task.train_step(graph, state, frozen, images, labels, kernels)

        self.step = alone(step)
        self.initialize = jax.jit(task.initialize)
        self.order = jax.jit(task.order)
        self.batch = jax.jit(task.batch)

    def run(self, state, frozen, steps):
        states = [state]
        for _ in range(steps):
            order = self.order(states[-1].seed, states[-1].step)
            images, labels = self.batch(states[-1], self.data, order)
            states.append(self.step(states[-1], frozen, images, labels))
        return states


@pytest.fixture(scope="module")
def trainer(strict_arithmetic, data):
    return Trainer(make_task(fcn), data)


@pytest.fixture(scope="module")
def begun(trainer):
    return trainer.initialize(jnp.int32(5))


@pytest.fixture(scope="module")
def trained(trainer, begun):
    return trainer.run(*begun, steps=5)


def drawn(layer):
    """The random kernel in the frozen part of a layer."""
    return np.asarray(np.asarray(layer["signs"][...]) * np.asarray(layer["constant"][...]), np.float32)


def evaluated(task, state, frozen):
    """The parts of the network that an evaluation sees."""
    return task.apply_masks(task.graph(training=False), state, frozen, training=False)


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def elu(x):
    return jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))


def by_hand(begun, data, order, steps):
    """The scores, mean losses and accuracies of some steps, from the definitions."""
    state, frozen = begun
    layers = range(3)
    kernels = [drawn(frozen["denses"][i]) for i in layers]
    thresholds = [float(state.rest["denses"][i]["rule_state"]["threshold"][...]) for i in layers]
    scores = [np.asarray(state.params["denses"][i]["scores"][...], np.float64) for i in layers]
    velocity = [np.zeros_like(s) for s in scores]
    images = np.asarray(data["images"], np.float32).reshape(EXAMPLES, -1)
    images = (images - images.mean(1, keepdims=True)) / np.maximum(images.std(1, keepdims=True), 1 / 4)
    history = []

    def loss_of(effective, inputs, labels):
        hidden = elu(elu(inputs @ effective[0]) @ effective[1]) @ effective[2]
        likelihood = hidden - jax.nn.logsumexp(hidden, -1, keepdims=True)
        loss = -jnp.mean(jnp.take_along_axis(likelihood, labels[:, None], 1))
        return loss, jnp.mean((jnp.argmax(hidden, -1) == labels).astype(jnp.float32))

    gradient_of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
    for step in range(steps):
        epoch, place = divmod(step, 3)
        chosen = np.asarray(order(epoch))[place]
        masks = [(s > t) * 1.0 - (s < -t) * 1.0 for s, t in zip(scores, thresholds, strict=True)]
        effective = [jnp.asarray(w * m, jnp.float32) for w, m in zip(kernels, masks, strict=True)]
        (loss, accuracy), by_effective = gradient_of(
            effective, jnp.asarray(images[chosen]), jnp.asarray(np.asarray(data["labels"])[chosen])
        )
        factor = 0.5 ** (step / HALF_LIFE)
        for i in layers:
            gradient = kernels[i] * np.asarray(by_effective[i])
            velocity[i] = 0.9 * velocity[i] + gradient
            scores[i] = scores[i] - DECAY * factor * scores[i]
            scores[i] = scores[i] - LEARNING_RATE * factor * (gradient + 0.9 * velocity[i])
        history.append((list(scores), float(loss), float(accuracy)))
    return history


def test_steps_are_those_of_the_definition(trainer, begun, trained, data):
    expected = by_hand(begun, data, lambda epoch: trainer.order(begun[0].seed, jnp.int32(3 * epoch)), 5)
    total = {"loss": 0.0, "accuracy": 0.0}
    for step, (scores, loss, accuracy) in enumerate(expected):
        state = trained[step + 1]
        for i in range(3):
            found = state.params["denses"][i]["scores"][...]
            np.testing.assert_allclose(found, scores[i], rtol=1e-4, atol=1e-5)
        if step == 3:  # the second epoch begins; its sums start again
            total = {"loss": 0.0, "accuracy": 0.0}
        total["loss"] += loss
        total["accuracy"] += accuracy
        np.testing.assert_allclose(state.totals["loss"], total["loss"], rtol=1e-4)
        np.testing.assert_allclose(state.totals["accuracy"], total["accuracy"], rtol=1e-5)
        assert state.step == step + 1
        assert state.failure.tolist() == [-1, 0]
    # It was more than nothing: the first layer's mask has changed.
    before = (
        np.abs(begun[0].params["denses"][0]["scores"][...])
        > begun[0].rest["denses"][0]["rule_state"]["threshold"][...]
    )
    after = (
        np.abs(trained[-1].params["denses"][0]["scores"][...])
        > begun[0].rest["denses"][0]["rule_state"]["threshold"][...]
    )
    assert (before != after).any()


def test_the_initial_state(trainer, begun):
    state, frozen = begun
    assert (state.seed, state.step) == (5, 0)
    assert state.failure.tolist() == [-1, 0]
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    network = trainer.task.network(5)
    for path, layer in masked_layers(network):
        _, i = path.split("/")
        # Compiled and not, a uniform number may differ in its last bit; a sign may not.
        np.testing.assert_array_equal(drawn(frozen["denses"][int(i)]), layer.random_kernel())
        found = state.params["denses"][int(i)]["scores"][...]
        np.testing.assert_allclose(found, layer.scores[...], rtol=1e-6)


def test_the_seed_decides_everything(trainer, begun, trained):
    equal(trainer.run(*trainer.initialize(jnp.int32(5)), steps=5)[-1], trained[-1])
    other, frozen = trainer.initialize(jnp.int32(6))
    assert (trainer.order(other.seed, other.step) != trainer.order(begun[0].seed, begun[0].step)).any()
    for one, two in [(other.params, begun[0].params), (frozen, begun[1])]:
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert (a != b).any() or not a.ndim  # a signed constant is that of every seed


def test_masked_network_and_dense_baseline_of_a_seed_share_their_kernels(trainer, begun):
    dense = make_task(functools.partial(fcn, masking=Masking(rule=None))).network(5)
    for i, layer in enumerate(dense.denses):
        np.testing.assert_array_equal(layer.random_kernel(), drawn(begun[1]["denses"][i]))


def test_the_order_is_that_of_the_epoch(trainer):
    orders = [trainer.order(jnp.int32(5), jnp.int32(step)) for step in range(7)]
    for step in (1, 2):
        np.testing.assert_array_equal(orders[0], orders[step])
    assert (orders[3] != orders[0]).any()
    np.testing.assert_array_equal(orders[3], orders[5])
    assert (orders[6] != orders[3]).any()
    assert orders[0].shape == (3, BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "crop_flip"])
def test_the_shards_of_a_batch_are_its_parts(data, begun, augment):
    task = make_task(fcn, augment=augment)
    state = begun[0]
    order = jax.jit(task.order)(state.seed, state.step)
    whole_images, whole_labels = task.batch(state, data, order, 0, 1)
    parts = [task.batch(state, data, order, shard, 4) for shard in range(4)]
    np.testing.assert_array_equal(jnp.concatenate([labels for _, labels in parts]), whole_labels)
    images = jnp.concatenate([images for images, _ in parts])
    np.testing.assert_allclose(images, whole_images, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole_labels, data["labels"][order[0]])
    plain = batches.standardize(data["images"][order[0]])
    assert np.allclose(whole_images, plain, atol=1e-5) == (augment == "none")
    # What is cropped and flipped is the standardized image with zeros around it.
    for image, original in zip(whole_images, plain, strict=True):
        assert np.abs(np.ravel(image)[:, None] - np.append(original, 0)).min(1).max() < 1e-5


def test_augmentation_changes_with_the_step_and_the_seed(data, begun):
    task = make_task(fcn, augment="affine")
    order = jnp.zeros((3, BATCH), jnp.int32)
    state = begun[0]

    def images_of(**changes):
        values = {name: getattr(state, name) for name in vars(state)} | changes
        return task.batch(type(state)(**values), data, order, 0, 1)[0]

    first = images_of()
    np.testing.assert_array_equal(first, images_of())
    assert (first != images_of(step=jnp.int32(1))).any()
    assert (first != images_of(step=jnp.int32(3))).any()  # the same place in the next epoch
    assert (first != images_of(seed=jnp.int32(6))).any()


def poisoned(frozen):
    """Signed constants of NaN."""
    return jax.tree.map(lambda leaf: leaf if leaf.ndim else jnp.full_like(leaf, jnp.nan), frozen)


def changed_by_training(state):
    return state.params, state.rest, state.optimizer, state.totals


def test_a_loss_that_is_not_finite_freezes_the_network_and_is_recorded(trainer, begun, trained):
    healthy, (_, frozen) = trained[2], begun
    (_, failed, later) = trainer.run(healthy, poisoned(frozen), steps=2)
    assert failed.failure.tolist() == [2, 0]
    assert FAILURES[0] == "loss"
    assert failed.step == 3
    equal(changed_by_training(failed), changed_by_training(healthy))
    # The first failure is kept, and a network that failed does not go on, whatever comes.
    (_, again) = trainer.run(later, frozen, steps=1)
    assert later.failure.tolist() == again.failure.tolist() == [2, 0]
    equal(changed_by_training(again), changed_by_training(healthy))
    assert again.step == 5


def test_of_a_gradient_that_is_not_finite_the_rest_is_applied_and_the_network_freezes(data):
    spike = Trainer(make_task(Spike), data)
    state, frozen = spike.initialize(jnp.int32(0))
    (_, failed, later) = spike.run(state, frozen, steps=2)
    assert failed.failure.tolist() == later.failure.tolist() == [0, 1]
    assert FAILURES[1] == "gradient norm"
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(changed_by_training(failed)))
    # Every entry is infinite or NaN: nothing but the decay is left of the update.
    for before, after in zip(jax.tree.leaves(state.params), jax.tree.leaves(failed.params), strict=True):
        np.testing.assert_allclose(after, (1 - DECAY) * before, rtol=1e-6)
    equal(changed_by_training(later), changed_by_training(failed))
    assert later.step == 2


def test_statistics_and_other_parameters_of_ones_own_network_are_trained(data):
    own = Trainer(make_task(Own), data)
    state, frozen = own.initialize(jnp.int32(0))
    assert set(state.params) == {"conv", "hidden", "head"}
    assert "kernel" not in state.params["conv"]
    assert set(state.rest) == {"conv", "norm", "head"}  # statistics and thresholds
    states = own.run(state, frozen, steps=3)
    assert states[-1].failure[0] == -1
    for part in (lambda state: state.params, lambda state: state.rest["norm"]):
        for old, new in zip(jax.tree.leaves(part(state)), jax.tree.leaves(part(states[-1])), strict=True):
            assert (old != new).any()
    equal(state.rest["conv"], states[-1].rest["conv"])  # a fixed threshold
    # One step: 0.9 of the initial mean 0 and 0.1 of that of the batch, for layers as initialized.
    order = own.order(state.seed, state.step)
    images, _ = own.task.batch(state, data, order, 0, 1)
    outputs = own.task.network(0).conv(images)
    expected = 0.01 * outputs.mean((0, 1, 2))  # Flax's default momentum is 0.99
    np.testing.assert_allclose(states[1].rest["norm"]["mean"][...], expected, rtol=1e-3, atol=1e-6)


def test_evaluation_leaves_statistics_alone_and_uses_them(data):
    """Two images alone give the same logits as among others."""
    task = make_task(Own)
    state, frozen = jax.jit(task.initialize)(jnp.int32(0))
    network = evaluated(task, state, frozen)
    evaluate = alone(functools.partial(evaluate_batch, task, network))
    split = {name: array[:BATCH] for name, array in data.items()}
    alone_labels = jnp.where(jnp.arange(BATCH) < 2, split["labels"], -1)
    both = [
        evaluate(batches.with_statistics({"images": images, "labels": alone_labels}), no_sums())
        for images in (split["images"], split["images"].at[2:].set(0))
    ]
    np.testing.assert_allclose(both[0]["loss"], both[1]["loss"], rtol=1e-6)


def test_evaluate_batch_adds_up_real_examples_only(trainer, begun, data):
    state, frozen = begun
    task = trainer.task
    evaluate = alone(functools.partial(evaluate_batch, task, evaluated(task, state, frozen)))
    split = batches.with_statistics(
        {
            "images": jnp.pad(data["images"][:13], ((0, 3), (0, 0), (0, 0), (0, 0))),
            "labels": jnp.pad(data["labels"][:13], (0, 3), constant_values=-1),
        }
    )
    sums = no_sums()
    for _ in range(2):
        sums = evaluate(split, sums)
    graph = task.graph(training=False)
    logits = nnx.merge(graph, state.params, frozen, state.rest)(batches.standardize(data["images"][:13]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"][:13])
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
    assert sums["correct"] == np.sum(np.argmax(logits, -1) == np.asarray(data["labels"][:13]))
    assert sums["batch"] == 2


def test_mask_counts(trainer, begun):
    state, frozen = begun
    counts = jax.jit(functools.partial(mask_counts, trainer.task, trainer.task.graph(training=False)))(
        state, frozen
    )
    assert list(counts) == ["denses/0", "denses/1", "denses/2"]
    for i in range(3):
        scores = np.asarray(state.params["denses"][i]["scores"][...])
        threshold = np.asarray(state.rest["denses"][i]["rule_state"]["threshold"][...])
        inverted, kept = np.sum(scores < -threshold), np.sum(scores > threshold)
        assert tuple(counts[f"denses/{i}"]) == (inverted, scores.size - inverted - kept, kept)
        assert inverted + kept > 0


def test_bfloat16_computes_and_float32_is_kept(data):
    task = make_task(functools.partial(fcn, masking=Masking(dtype=jnp.bfloat16)), dtype=jnp.bfloat16)
    low = Trainer(task, data)
    state, frozen = low.initialize(jnp.int32(5))
    assert task.batch(state, data, low.order(state.seed, state.step), 0, 1)[0].dtype == jnp.bfloat16
    (_, after) = low.run(state, frozen, steps=1)
    assert after.failure[0] == -1
    kinds = {leaf.dtype for leaf in jax.tree.leaves((after.params, after.rest, after.totals))}
    assert kinds == {jnp.dtype("float32")}


def test_the_graph_is_in_the_mode_asked_for():
    task = make_task(Own)
    for training in (True, False):
        graph = task.graph(training=training)
        model = nnx.merge(graph, *nnx.split(task.abstract(), nnx.Param, Frozen, ...)[1:])
        assert model.norm.use_running_average is not training


def test_a_network_whose_schedule_has_stopped_is_final(data):
    """Parameters, statistics, optimizer and totals stay bit for bit; the steps are counted."""
    steps = batches.steps_per_epoch(EXAMPLES, BATCH)
    schedule = optimizer.schedule(
        "plateau", steps_per_epoch=steps, total_epochs=20, factor=0.5, patience=3, max_reductions=1
    )
    made = optimizer.make("nesterov", learning_rate=1e-9, weight_decay=0.0, momentum=0.9, schedule=schedule)
    trainer = Trainer(TrainSpec(build=Own, optimizer=made, examples=EXAMPLES, batch_size=BATCH), data)
    states = trainer.run(*trainer.initialize(jnp.int32(0)), steps=40 * steps)
    active = [bool(trainer.task.is_active(state)) for state in states]
    assert True in active and not active[-1] and active == sorted(active, reverse=True)
    stopped = active.index(False)
    equal(changed_by_training(states[-1]), changed_by_training(states[stopped]))
    assert int(states[-1].step) == 40 * steps


class Twins(nnx.Module):
    """Two layers of the same shape under random masks."""

    def __init__(self, rngs):
        masking = Masking(rule=core.Stochastic())
        self.first = Dense(16, 16, masking=masking, rngs=rngs)
        self.second = Dense(16, 16, masking=masking, rngs=rngs)

    def __call__(self, images):
        return self.second(self.first(images.reshape(len(images), -1)))[:, :CLASSES]


def test_a_random_mask_follows_from_seed_step_and_layer_and_the_step_trains_with_it(data):
    task = make_task(Twins)
    graph = task.graph(training=True)
    state, frozen = jax.jit(task.initialize)(jnp.int32(0))
    state = dataclasses.replace(state, params=jax.tree.map(jnp.zeros_like, state.params))

    def drawn_masks(**changes):
        made = task.apply_masks(graph, dataclasses.replace(state, **changes), frozen, training=True).params
        return [np.asarray(made[name]["kernel"][...]) != 0 for name in ("first", "second")]

    first, second = drawn_masks()
    np.testing.assert_array_equal([first, second], drawn_masks())
    halves = [first, second, *drawn_masks(step=jnp.int32(1)), *drawn_masks(seed=jnp.int32(1))]
    for i, one in enumerate(halves):
        assert 0.3 < one.mean() < 0.7
        assert all((one != other).any() for other in halves[:i])
    # The gradient is that of the drawn network: dL/ds = w * dL/dw^ * sigmoid'(0).
    trainer = Trainer(task, data)
    images, labels = trainer.batch(state, data, trainer.order(state.seed, state.step))
    kernels = [drawn(frozen[name]) for name in ("first", "second")]
    effective = [jnp.asarray(w * m) for w, m in zip(kernels, (first, second), strict=True)]

    def loss_of(effective):
        logits = (images.reshape(len(images), -1) @ effective[0] @ effective[1])[:, :CLASSES]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    after = trainer.step(state, frozen, images, labels)
    for name, w, g in zip(("first", "second"), kernels, jax.grad(loss_of)(effective), strict=True):
        expected = -LEARNING_RATE * 1.9 * w * np.asarray(g) / 4
        np.testing.assert_allclose(after.params[name]["scores"][...], expected, rtol=1e-4, atol=1e-6)


def kept(state):
    return [np.asarray(kept[...]) for kept in jax.tree.leaves(state.rest["kept"])]


@pytest.fixture(scope="module")
def dropping(strict_arithmetic, data):
    return Trainer(make_task(Dropping), data)


def test_dropout_differs_between_layers_steps_and_seeds(dropping):
    state, frozen = dropping.initialize(jnp.int32(0))
    other, other_frozen = dropping.initialize(jnp.int32(1))
    drawn = [mask for after in dropping.run(state, frozen, 3)[1:] for mask in kept(after)]
    drawn += kept(dropping.run(other, other_frozen, 1)[-1])
    assert all(set(np.unique(mask)) == {0.0, 2.0} for mask in drawn)
    assert len({mask.tobytes() for mask in drawn}) == len(drawn) == 8


def test_dropout_is_that_of_the_step_wherever_training_goes_on(dropping):
    """Nothing of it is in the state, so that a resumed run draws what it would have drawn."""
    state, frozen = dropping.initialize(jnp.int32(0))
    states = dropping.run(state, frozen, 3)
    assert all(not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(states[0]))
    stored = jax.device_get(states[1])
    assert "dropouts" not in stored.rest
    equal(dropping.run(jax.device_put(stored), frozen, 2)[-1], states[-1])


def test_an_evaluation_drops_nothing(dropping, data):
    state, frozen = dropping.initialize(jnp.int32(0))
    task = dropping.task
    evaluate = alone(functools.partial(evaluate_batch, task, evaluated(task, state, frozen)))
    split = batches.with_statistics({name: data[name][:BATCH] for name in ("images", "labels")})
    images = batches.standardize(split["images"]).reshape(BATCH, -1)
    logits = images @ task.network(0).head.effective_kernel()
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, split["labels"])
    np.testing.assert_allclose(evaluate(split, no_sums())["loss"], losses.sum(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_a_step_of_a_rule_that_searches_makes_its_masks_once(data, monkeypatch):
    monkeypatch.setattr(selection, "_handler", None)  # JAX's own search, a loop each
    rule = core.EdgePopup(density=0.3, rescale=0.5)
    searching = make_task(functools.partial(fcn, masking=Masking(rule=rule)))
    assert searching.searches and not make_task(fcn).searches
    carrying = make_task(searching.build)
    vars(carrying)["searches"] = False  # its kernels go from step to step, as those of other rules
    graph, order = searching.graph(training=True), jnp.arange(2 * BATCH, dtype=jnp.int32).reshape(2, BATCH)

    def program(task):
        def take(state, frozen):
            return take_steps(task, graph, state, frozen, order, data, 2)

        return alone(take).lower(state, frozen).compile()

    state, frozen = jax.jit(searching.initialize)(jnp.int32(5))
    once, twice = program(searching), program(carrying)
    jax.tree.map(np.testing.assert_array_equal, once(state, frozen), twice(state, frozen))
    # The loop over steps, and a search of each of three layers; those of the gradient beside it otherwise.
    assert once.as_text().count(" while(") == 1 + 3 < twice.as_text().count(" while(")
