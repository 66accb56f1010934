"""How many networks are trained at the same time."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from ssm_jax.training.shapes import convolves, training_bytes
from ssm_jax.training.step import Task

# Of a device's memory, the share that the seeds beside each other may fill; the data needs some too.
_MEMORY_SHARE = 0.5
# At most so many networks beside each other, by backend, from estimates of compiled programs
# (docs/speed.md); nothing of it has been timed by itself. On a TPU eight networks of dense layers
# fit on the chip, and convolutional ones are slower beside each other than one after another. On a GPU
# every convolutional one adds its convolutions to the program that has to be compiled, while less and less
# is left to be shared.
_MOST_DENSE = {"tpu": 8}
_MOST_CONVOLVING = {"gpu": 8, "tpu": 1}
# What is assumed where a device doesn't tell its memory.
_UNKNOWN_MEMORY = 8e9


def parallel_mode(config: ConfigDict) -> str:
    """Decide what the devices share: `data` or `seeds`, see `config.parallel`.

    Args:
      config: A whole config.
    """
    if config.parallel != "auto":
        return config.parallel
    return "seeds" if config.seeds > 1 else "data"


def seeds_per_group(config: ConfigDict, task: Task, image_shape: Sequence[int], mode: str) -> int:
    """Decide how many networks are trained at the same time, on all devices together.

    On an accelerator the dense layers of several seeds become one batched matrix product, and all seeds
    share the many small operations around their products and convolutions. A CPU is full with one seed:
    there each device trains one network after another (`benchmarks/results/` has the ratios); so does a TPU
    with convolutional networks.

    Args:
      config: A whole config; `config.training.seeds_per_device` overrules.
      task: The config's task.
      image_shape: Shape (H, W, C) of one image.
      mode: The layout, `data` or `seeds`.
    """
    per_device = config.training.seeds_per_device
    if not per_device and jax.default_backend() == "cpu":
        per_device = 1
    elif not per_device:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", _UNKNOWN_MEMORY)
        needed = training_bytes(task, image_shape)
        per_device = max(1, int(_MEMORY_SHARE * memory / needed))
        most = _MOST_CONVOLVING if convolves(task) else _MOST_DENSE
        per_device = min(per_device, most.get(jax.default_backend(), per_device))
    spread = per_device * (jax.device_count() if mode == "seeds" else 1)
    # Groups of like size: the last one of a remainder would leave devices idle.
    groups = -(-config.seeds // spread)
    return -(-config.seeds // groups)


def scans(task: Task) -> bool:
    """Tell whether one call of a program may take several steps: on a CPU not with convolutions."""
    return not convolves(task) or jax.default_backend() != "cpu"
