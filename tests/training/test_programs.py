"""Networks and batches over devices: every way of spreading them gives what one device gives."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import steps_on_devices
from flax import nnx
from steps_on_devices import CLASSES, EXAMPLES, SEEDS, STEPS, examples, leaves, train

from ssm_jax import errors
from ssm_jax.data.batches import standardize
from ssm_jax.nn.convert import supermask
from ssm_jax.nn.statistics import recalibrate
from ssm_jax.training.evaluation import RECALIBRATION_BATCHES, recalibration_order
from ssm_jax.training.layout import Layout, pad_split, replicate
from ssm_jax.training.programs import CompiledSteps
from ssm_jax.training.step import TrainSpec

SHAPE = (4, 4, 1)
DEVICES = 8


@pytest.fixture(scope="module", autouse=True)
def eight_devices():
    assert jax.device_count() == DEVICES
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What `steps_on_devices` gives on other numbers of devices, by (what, number); all run at once."""
    folder = tmp_path_factory.mktemp("devices")
    tests = pathlib.Path(__file__).parent
    processes = {}
    for what, count in (("resnet", 2), ("seeds", 4), ("seeds", 1)):
        output = folder / f"{what}{count}.npz"
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(count),
            "PYTHONPATH": os.pathsep.join([str(tests.parent), *sys.path]),
        }
        command = [sys.executable, "-W", "error", str(tests / "steps_on_devices.py"), what, str(output)]
        processes[what, count] = output, subprocess.Popen(command, env=environment)

    def result(what, count):
        output, process = processes[what, count]
        assert process.wait() == 0
        return dict(np.load(output))

    yield result
    for _, process in processes.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def task():
    return steps_on_devices.task(SHAPE, model__width=0.1, training__batch_size=16)


@pytest.fixture(scope="module")
def programs(task):
    """By mode and number of networks; each is compiled once."""
    made = {}

    def get(mode, count) -> CompiledSteps:
        if (mode, count) not in made:
            made[mode, count] = CompiledSteps(task, Layout(mode, count))
        return made[mode, count]

    return get


@pytest.fixture(scope="module")
def data():
    return replicate(examples(SHAPE))


def close(one, other, **tolerance):
    one, other = leaves(one), leaves(other)
    assert set(one) == set(other)
    for path, array in one.items():
        np.testing.assert_allclose(array, other[path], err_msg=path, **tolerance)


def trained(programs, seeds, data, steps=STEPS):
    """The gathered state after some steps."""
    state, frozen = programs.initialize(seeds)
    return programs.layout.gather(train(programs, state, frozen, data, steps))


def test_a_batch_that_does_not_divide_by_the_devices():
    odd = steps_on_devices.task(SHAPE, training__batch_size=12)
    with pytest.raises(errors.InputError, match=r"batch of 12 does not divide by 8 devices.*multiple of 8"):
        CompiledSteps(odd, Layout("data", 1))
    CompiledSteps(odd, Layout("seeds", 1))  # nobody shares a batch


@pytest.mark.slow
def test_seven_networks_on_four_devices_are_those_on_eight_and_on_one(elsewhere):
    """One network a device, two (and a slot left over), or seven."""
    on_eight = steps_on_devices.seeds()
    for count in (4, 1):
        other = elsewhere("seeds", count)
        assert set(other) == set(on_eight)
        assert sum(path.startswith("['begun']") for path in other) > 6
        for path, array in on_eight.items():
            assert array.shape[0] == len(SEEDS)
            if path.startswith("['begun']"):
                np.testing.assert_array_equal(array, other[path], path)
            else:
                np.testing.assert_allclose(array, other[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_networks_side_by_side_equal_single_runs(programs, data):
    """Twelve of them, two on a device; from the same state, bit for bit, to the same scores."""
    together = programs("seeds", 12)
    assert together.layout.per_device == 2
    begun = together.layout.gather(together.initialize(range(12)))
    ended = trained(together, range(12), data)
    single = programs("seeds", 1)
    for seed in (0, 11):
        alone = single.layout.gather(single.initialize([seed]))
        close(jax.tree.map(lambda array, seed=seed: array[seed : seed + 1], begun), alone, rtol=0)
        one = jax.tree.map(lambda array, seed=seed: array[seed : seed + 1], ended)
        expected = trained(single, [seed], data)
        close(one, expected, rtol=1e-5, atol=1e-6)
        close(one.params, expected.params, rtol=0, atol=1e-6)  # the scores
    assert len(np.unique(ended.totals["loss"])) == 12


@pytest.mark.slow
def test_convolutional_networks_side_by_side_equal_single_runs():
    task = steps_on_devices.task((8, 8, 1), model__name="conv2", model__width=0.05, training__batch_size=8)
    data = replicate(examples((8, 8, 1)))
    together, single = (CompiledSteps(task, Layout("seeds", count)) for count in (DEVICES + 1, 1))
    ended = trained(together, range(DEVICES + 1), data)
    for seed in (0, DEVICES):
        one = jax.tree.map(lambda array, seed=seed: array[seed : seed + 1], ended)
        close(one.params, trained(single, [seed], data).params, rtol=0, atol=1e-6)  # the scores


def test_networks_that_share_devices_and_batches_equal_single_runs(programs, data):
    """Mode `data` with two networks: both on every device, which has an eighth of both batches."""
    both = trained(programs("data", 2), [4, 5], data, steps=4)
    for i, seed in enumerate([4, 5]):
        alone = trained(programs("seeds", 1), [seed], data, steps=4)
        close(jax.tree.map(lambda array, i=i: array[i : i + 1], both), alone, rtol=1e-4, atol=1e-5)


def test_one_networks_failure_leaves_its_neighbors_alone(programs, data):
    together = programs("seeds", 12)
    state, frozen = together.initialize(range(12))

    def poison(array):  # the signed constants
        return array if array.ndim > 1 else np.where(np.arange(12) == 3, np.nan, array).astype("f")

    frozen = together.layout.place(jax.tree.map(poison, together.layout.gather(frozen)))
    ended = together.layout.gather(train(together, state, frozen, data, 4))
    healthy = trained(together, range(12), data, steps=4)
    assert ended.failure[:, 0].tolist() == [0 if i == 3 else -1 for i in range(12)]
    others = np.arange(12) != 3
    for one, other in zip(jax.tree.leaves(ended), jax.tree.leaves(healthy), strict=True):
        np.testing.assert_array_equal(one[others], other[others])


@pytest.mark.slow
def test_twenty_steps_do_not_depend_on_the_number_of_devices(elsewhere):
    """ResNet20 with batch norm and augmentation, on 2 and 8 devices."""
    on_eight = steps_on_devices.resnet()
    assert on_eight[".step"] == STEPS
    assert on_eight[".failure"][0, 0] == -1
    assert any("mean" in path for path in on_eight)
    other = elsewhere("resnet", 2)
    assert set(other) == set(on_eight)
    for path, array in on_eight.items():
        np.testing.assert_allclose(array, other[path], rtol=1e-5, atol=1e-5, err_msg=path)


def test_all_devices_hold_the_same_network(programs, data):
    sharing = programs("data", 1)
    state, frozen = sharing.initialize([0])
    state = sharing.train(state, frozen, data, 1)
    for leaf in jax.tree.leaves(state):
        rows = np.asarray(leaf)
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1], rows.shape))


def test_both_modes_train_the_same_network(programs, data):
    seeds, sharing = (trained(programs(mode, 1), [2], data) for mode in ("seeds", "data"))
    close(seeds, sharing, rtol=1e-4, atol=1e-5)


def test_a_scan_of_some_steps_equals_single_steps(programs, data, task):
    sharing = programs("data", 1)
    one_by_one = trained(sharing, [0], data, steps=task.steps_per_epoch)
    state, frozen = sharing.initialize([0])
    state = sharing.train(state, frozen, data, task.steps_per_epoch)
    close(sharing.layout.gather(state), one_by_one, rtol=1e-5, atol=1e-6)


def test_train_is_traced_and_compiled_once(monkeypatch, data, task):
    # A second trace is an error.
    monkeypatch.setattr(TrainSpec, "train_step", chex.assert_max_traces(TrainSpec.train_step, n=1))
    programs = CompiledSteps(task, Layout("seeds", 1))
    state, frozen = programs.initialize([0])
    state = programs.train(state, frozen, data, 1)
    seconds = programs.compile_seconds
    for _ in range(2 * task.steps_per_epoch):
        state = programs.train(state, frozen, data, 1)
    assert programs.compile_seconds == seconds > 0
    state, frozen = programs.initialize([1])
    seconds = programs.compile_seconds
    programs.train(state, frozen, data, 1)
    assert programs.compile_seconds == seconds  # nor do other networks need another program


def test_nothing_moves_between_host_and_devices_in_a_step(programs, data):
    sharing = programs("data", 1)
    state, frozen = sharing.initialize([0])
    state = sharing.train(state, frozen, data, 1)
    with jax.transfer_guard("disallow"):  # but for the seed and the step, which are asked for explicitly
        for _ in range(2):
            state = sharing.train(state, frozen, data, 1)
        jax.block_until_ready(state)
        with pytest.raises(Exception, match=r"[Dd]isallowed"):  # the guard does stand
            sharing.train(state, frozen, jax.tree.map(np.asarray, data), 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data", "seeds"])
@pytest.mark.parametrize("size", [37, 32, 5])
def test_evaluation_covers_a_split_exactly(programs, task, mode, size):
    """Against the logits of all its examples at once, whatever the padding and the calls."""
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (size, *SHAPE), np.uint8)
    labels = rng.integers(0, CLASSES, size).astype(np.int32)
    made = programs(mode, 2)
    state, frozen = made.initialize([4, 5])
    split = replicate(pad_split(images, labels, task.batch_size))
    pixels = images.reshape(size, -1).astype(np.float64)
    pixels = (pixels - pixels.mean(1, keepdims=True)) / np.maximum(pixels.std(1, keepdims=True), 1 / 4)
    for calls in (0, 1, 2):
        losses, correct = made.evaluate(state, frozen, split, calls)
        assert losses.shape == correct.shape == (2,)
        assert losses.dtype == correct.dtype == np.float64
        for i, (scores, kernels) in enumerate(networks_of(made, state, frozen)):
            hidden = pixels
            for layer, (score, (kernel, threshold)) in enumerate(zip(scores, kernels, strict=True)):
                hidden = hidden @ (kernel * (np.sign(score) * (np.abs(score) > threshold)))
                if layer < 2:
                    hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
            normalizer = np.log(np.exp(hidden).sum(-1))
            np.testing.assert_allclose(
                losses[i], np.sum(normalizer - hidden[np.arange(size), labels]), rtol=1e-4
            )
            assert correct[i] == np.sum(hidden.argmax(-1) == labels)


def networks_of(programs, state, frozen):
    """Of each network, its layers' scores, and their kernels and thresholds."""
    params, frozen, rest = programs.layout.gather((state.params, frozen, state.rest))
    for i in range(programs.layout.count):
        layers = [frozen["denses"][layer] for layer in range(3)]
        kernels = [layer["signs"][...][i] * layer["constant"][...][i] for layer in layers]
        scores = [params["denses"][layer]["scores"][...][i] for layer in range(3)]
        thresholds = [rest["denses"][layer]["rule_state"]["threshold"][...][i] for layer in range(3)]
        yield scores, list(zip(kernels, thresholds, strict=True))


def test_mask_counts(programs):
    made = programs("seeds", 12)
    state, frozen = made.initialize(range(12))
    counts = made.mask_counts(state, frozen)
    assert list(counts) == ["denses/0", "denses/1", "denses/2"]
    for i, (scores, kernels) in enumerate(networks_of(made, state, frozen)):
        for layer, (score, (_, threshold)) in enumerate(zip(scores, kernels, strict=True)):
            found = counts[f"denses/{layer}"]
            assert found.shape == (12, 3)
            signs = np.sign(score) * (np.abs(score) > threshold)
            assert found[i].tolist() == [np.sum(signs == sign) for sign in (-1, 0, 1)]


def test_an_epoch_visits_every_example_in_an_order_of_the_networks_own(programs, task, data, monkeypatch):
    """Also the first epoch of the networks that come after others in the same program."""
    made = CompiledSteps(task, Layout("seeds", 12))
    seen = []
    call = made._call
    monkeypatch.setattr(made, "_call", lambda *arguments: seen.append(arguments) or call(*arguments))
    for seeds in (range(12), range(12, 24)):
        state, frozen = made.initialize(seeds)
        made.train(made.train(state, frozen, data, 1), frozen, data, 1)
    orders = [made.layout.gather(arguments[5]) for arguments in seen if arguments[0] == "train"]
    np.testing.assert_array_equal(orders[0], orders[1])
    orders = np.concatenate([orders[0], orders[2]])
    assert orders.shape == (24, task.steps_per_epoch, task.batch_size)
    for order in orders.reshape(24, -1):
        np.testing.assert_array_equal(np.sort(order[:EXAMPLES]), np.arange(EXAMPLES))
    assert len({order.tobytes() for order in orders}) == 24


def test_dense_baselines_are_spread_alike(data):
    task = steps_on_devices.task(
        SHAPE, model__width=0.1, mask__rule="dense", init__kernel="elu", training__batch_size=16
    )
    made = CompiledSteps(task, Layout("seeds", 3))
    state, frozen = made.initialize([0, 1, 2])
    assert not jax.tree.leaves(frozen)
    assert set(nnx.to_flat_state(made.layout.gather(state).params).paths) == {
        ("denses", i, "kernel") for i in range(3)
    }
    state = made.layout.gather(train(made, state, frozen, data, 2))
    assert (state.failure[:, 0] == -1).all()
    assert jnp.isfinite(state.totals["loss"]).all()


def test_devices_that_share_a_batch_move_gradients_and_metrics_in_one_all_reduce(programs, data):
    sharing = programs("data", 1)
    state, frozen = sharing.initialize([0])
    sharing.train(state, frozen, data, 1)
    program = sharing._compiled["train", 1].as_text()
    (shapes,) = re.findall(r"= (.*) all-reduce(?:-start)?\(", program)
    for score in jax.tree.leaves(state.params):
        assert str(list(score.shape[2:])).replace(" ", "") in shapes


class Plain(nnx.Module):
    """A user's network, which knows nothing of devices; keeps what its dropout lets through of ones."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(16, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, CLASSES, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.kept = nnx.BatchStat(jnp.zeros(32))

    def __call__(self, images):
        self.kept[...] = self.dropout(jnp.ones(32))
        return self.head(nnx.relu(self.norm(self.hidden(images.reshape(len(images), -1)))))


@pytest.mark.slow
def test_a_users_batch_norm_sees_the_whole_batch_and_every_shard_drops_by_itself(task, data):
    plain = dataclasses.replace(task, build=lambda rngs: supermask(Plain(rngs), rngs=rngs))
    ended = {}
    for mode in ("data", "seeds"):
        programs = CompiledSteps(plain, Layout(mode, 1))
        state, frozen = programs.initialize([0])
        ended[mode] = jax.device_get(train(programs, state, frozen, data, 4))
    shared, alone = ended["data"], ended["seeds"]
    for name in ("mean", "var"):
        rows = shared.rest["norm"][name][...]
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1], rows.shape))
    np.testing.assert_allclose(
        shared.rest["norm"]["mean"][...][0], alone.rest["norm"]["mean"][...][0], rtol=1e-4, atol=1e-5
    )
    close(shared.params["head"], jax.tree.map(lambda a: a[:1].repeat(8, 0), alone.params["head"]), atol=1e-4)
    drawn = {row.tobytes() for row in np.asarray(shared.rest["kept"][...])}
    assert len(drawn) == DEVICES


def test_statistics_of_networks_side_by_side_on_all_devices_are_those_of_recalibrate(task, data):
    plain = dataclasses.replace(task, build=lambda rngs: supermask(Plain(rngs), rngs=rngs))
    programs = CompiledSteps(plain, Layout("data", 2))
    state, frozen = programs.initialize([3, 0])
    before = jax.device_get(state)
    once = programs.recalibrate(state, frozen, data, 0)
    close(once, programs.recalibrate(once, frozen, data, 0), rtol=0)  # of the network alone
    before.rest["norm"] = once.rest["norm"]
    close(once, before, rtol=0)  # nothing else has changed
    model = plain.network(0)
    images = {name: jax.device_get(array)[0] for name, array in data.items()}
    standard = standardize(images["images"], (images["mean"], images["deviation"]))
    recalibrate(model, [standard[row] for row in recalibration_order(plain, jnp.int32(0))])
    for name in ("mean", "var"):
        found = programs.layout.gather(once.rest["norm"])[name][...][1]
        np.testing.assert_allclose(found, getattr(model.norm, name)[...], rtol=1e-4, atol=1e-5)


def test_the_batches_of_a_recalibration_are_drawn_from_all_examples(task):
    order = np.asarray(recalibration_order(dataclasses.replace(task, shuffle=False), jnp.int32(1)))
    assert set(order.ravel()) == set(range(EXAMPLES)) and (np.diff(order[0]) != 1).any()
    large = dataclasses.replace(task, examples=100 * task.batch_size)
    assert recalibration_order(large, jnp.int32(1)).shape == (RECALIBRATION_BATCHES, task.batch_size)
