"""Training that ends at a density: exact, with floors, side by side, shared and resumed."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import steps_on_devices
from steps_on_devices import examples, leaves

from ssm_jax.training.layout import Layout, replicate
from ssm_jax.training.programs import CompiledSteps

SHAPE, EPOCHS, BATCH = (4, 4, 1), 4, 8


@pytest.fixture(scope="module")
def data():
    return replicate(examples(SHAPE))


def made(mode="data", count=1, **settings):
    task = steps_on_devices.task(
        SHAPE, model__width=0.2, training__batch_size=BATCH, training__epochs=EPOCHS, **settings
    )
    return CompiledSteps(task, Layout(mode, count))


def trained(programs, seeds, data, steps=None, state=None):
    """The gathered state and counts after some steps, at most an epoch a call."""
    begun, frozen = programs.initialize(seeds)
    state = begun if state is None else programs.layout.place(state)
    epoch = programs.task.steps_per_epoch
    for count in steps or [epoch] * EPOCHS:
        state = programs.train(state, frozen, data, count)
    return programs.layout.gather(state), programs.mask_counts(state, frozen)


def shares(counts):
    """The remaining share of every layer and of all, `[S]` each."""
    remaining = {path: layer[:, 0] + layer[:, 2] for path, layer in counts.items()}
    sizes = {path: layer.sum(1) for path, layer in counts.items()}
    layers = {path: remaining[path] / sizes[path] for path in counts}
    return layers, sum(remaining.values()) / sum(sizes.values())


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "density"), [("signed", 0.05), ("binary", 0.25)])
def test_the_density_is_reached_by_all_weights_together(rule, density, data):
    _, counts = trained(made(mask__rule=rule, mask__density=density), [0], data)
    layers, total = shares(counts)
    np.testing.assert_allclose(total, density, rtol=0.02)
    assert np.ptp(list(layers.values())) > 0.01  # it is not that of every layer


@pytest.mark.slow
def test_the_density_is_reached_by_every_layer(data):
    _, counts = trained(made(mask__density=0.25, mask__budget="layer"), [0], data)
    for path, share in shares(counts)[0].items():
        size = counts[path].sum()
        assert abs(share[0] * size - 0.25 * size) <= 1


@pytest.mark.slow
def test_the_density_is_reached_after_the_ramps_share_of_the_training(data):
    """On the way it is geometric: a quarter into the training, halfway of a ramp over its half."""
    start = shares(trained(made(), [0], data, [0])[1])[1]  # of the fixed threshold, before the first step
    programs = made(mask__density=0.05, mask__density_ramp=0.5)
    epoch = programs.task.steps_per_epoch
    for epochs, expected in ((1, np.sqrt(start * 0.05)), (2, 0.05), (EPOCHS, 0.05)):
        _, counts = trained(programs, [0], data, [epoch] * epochs)
        np.testing.assert_allclose(shares(counts)[1], expected, rtol=0.02)


@pytest.mark.slow
def test_no_layer_falls_below_the_floor(data):
    free, _ = shares(trained(made(mask__density=0.05), [0], data)[1])
    layers, total = shares(trained(made(mask__density=0.05, mask__floor=0.05), [0], data)[1])
    assert min(free.values()) < 0.045  # so that the floor has something to do
    assert min(layers.values()) >= 0.045  # a share of a small layer is rounded to weights
    np.testing.assert_allclose(total, 0.05, rtol=0.02)


@pytest.mark.slow
def test_seeds_side_by_side_are_single_runs(data):
    together, _ = trained(made("seeds", 9, mask__density=0.1), range(9), data)
    for place in (0, 8):
        alone, _ = trained(made("seeds", 1, mask__density=0.1), [place], data)
        one = leaves(jax.tree.map(lambda leaf, place=place: leaf[place], together.rest))
        for path, array in leaves(jax.tree.map(lambda leaf: leaf[0], alone.rest)).items():
            np.testing.assert_allclose(one[path], array, rtol=1e-3, err_msg=path)


def test_a_resumed_training_ends_bit_identical(data):
    programs = made(mask__density=0.1)
    epoch = programs.task.steps_per_epoch
    whole, _ = trained(programs, [0], data, [1] * (2 * epoch))
    half, _ = trained(programs, [0], data, [1] * (epoch - 1))
    resumed, _ = trained(programs, [0], data, [1] * (epoch + 1), half)
    for path, array in leaves(whole).items():
        np.testing.assert_array_equal(leaves(resumed)[path], array, err_msg=path)
