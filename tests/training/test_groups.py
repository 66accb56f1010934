"""How many networks are trained at the same time."""

import jax

from ssm_jax import config as configuration
from ssm_jax.training import groups, setup

SHAPE = (32, 32, 3)


def settings(name="fcn", **values):
    config = configuration.default()
    return configuration.override(config, {"model.name": name, "model.width": 0.1} | values)


def size(mode, name="fcn", **values):
    config = settings(name, **values)
    task = setup.task(config, setup.network(config, SHAPE, 10), 1000)
    return groups.seeds_per_group(config, task, SHAPE, mode)


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
    monkeypatch.setattr(groups, "_UNKNOWN_MEMORY", 1.0)
    assert size("data", seeds=3) == 1  # a device that is too small for one is given one
