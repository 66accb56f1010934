"""How long runs take."""

import dataclasses

import pytest

from ssm_jax import config as configuration
from ssm_jax.experiments import estimate
from ssm_jax.experiments.estimate import Sizes, Speeds
from ssm_jax.runs.summary import Failure


def changed(**values):
    names = {name.replace("_", ".", 1): value for name, value in values.items()}
    return configuration.override(configuration.default(), names)


def test_a_finished_run_tells_the_time_of_a_step_of_one_network(summarized):
    speeds = Speeds()
    # 10 seconds for 1000 steps of each of two networks.
    speeds.add(summarized([90.0, 91.0], [0.1, 0.1]))
    assert speeds.of(changed()) == 0.005
    assert speeds.of(changed(optimizer_learning_rate=0.5)) == 0.005
    # A network that failed on the way took its time as well.
    failed = (Failure(seed=2, step=7, metric="loss"),)
    speeds.add(dataclasses.replace(summarized([90.0], [0.1]), failed_seeds=failed))
    assert speeds.of(changed()) == 0.005


def test_another_rule_tells_of_the_same_network_only(summarized):
    speeds = Speeds()
    speeds.add(summarized([90.0], [0.1]))
    assert speeds.of(changed(mask_rule="binary")) == 0.01
    assert speeds.of(changed(model_width=2.0)) is None
    assert speeds.of(changed(training_batch_size=64)) is None


def test_a_run_takes_its_steps_and_evaluations():
    config = changed(training_epochs=3, training_batch_size=10)
    configuration.override(config, {"seeds": 2})
    # 5 steps an epoch, 3 epochs, 2 networks; an evaluation of 30 images is 3 batches, a step's time in all.
    assert estimate.seconds(config, Sizes(50, 30), 1.0) == pytest.approx(30 * 1.2)
    assert estimate.seconds(config, Sizes(50, 30), 1.0, done=20) == pytest.approx(10 * 1.2)
    assert estimate.seconds(config, Sizes(50, 30), 1.0, done=30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn", "conv2"])
def test_steps_are_timed_without_compilation(name):
    config = changed(data_name="digits", model_width=0.1, training_batch_size=64)
    configuration.override(config, {"model.name": name, "compilation_cache": ""})
    speeds = Speeds()
    speeds.time(config)
    # A step of these networks takes milliseconds, compiling one a second.
    assert 0 < speeds.of(config) < 0.25
