"""Twenty steps on as many devices as JAX_NUM_CPU_DEVICES says, for `test_parallel`.

python tests/steps_on_devices.py resnet|seeds OUTPUT.npz
"""

from __future__ import annotations

import sys

import jax
import numpy as np

from ssm_jax import config as configuration
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import Layout, replicate
from ssm_jax.training.programs import CompiledSteps
from ssm_jax.training.step import TrainSpec

EXAMPLES, STEPS, CLASSES = 40, 20, 5
SEEDS = range(3, 10)


def task(image_shape: tuple[int, int, int], **settings: object) -> TrainSpec:
    """A task of a config with these dotted fields, `__` for the dot."""
    config = configuration.default()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in settings.items()})
    setup = from_config(config)
    return setup.task(setup.network(image_shape, CLASSES), EXAMPLES)


def examples(image_shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """A training set: every class has a pattern of its own under noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(EXAMPLES, dtype=np.int32) % CLASSES
    patterns = rng.integers(0, 256, (CLASSES, *image_shape))
    images = (patterns[labels] + rng.integers(0, 256, (EXAMPLES, *image_shape))) // 2
    return {"images": images.astype(np.uint8), "labels": labels}


def train(programs: CompiledSteps, state, frozen, data, steps: int = STEPS):
    """Some steps, one a call; returns the state."""
    for _ in range(steps):
        state = programs.train(state, frozen, data, 1)
    return state


def leaves(tree) -> dict[str, np.ndarray]:
    """The arrays of a gathered tree by their path."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def drawn(task: TrainSpec):
    """A state and frozen kernels `[1, ...]`, drawn without JAX, which would compile every draw.

    Normal kernels: sums of signed constants are often equal but for rounding where a crop has its border
    of zeros, and the max-pool hands its gradient to another of them on another number of devices.
    """
    rng = np.random.default_rng(0)

    def value(path, leaf):
        name, shape = jax.tree_util.keystr(path), (1, *leaf.shape)
        if "'scores'" in name and ".optimizer" not in name:
            return rng.uniform(-0.2, 0.2, shape).astype("f")
        if "'kernel'" in name:
            return rng.normal(scale=(3 / np.prod(shape[:-1])) ** 0.5, size=shape).astype("f")
        if "'threshold'" in name or "'var'" in name:
            return np.full(shape, 0.04 if "'threshold'" in name else 1.0, "f")
        return np.full(shape, [-1, 0], "i") if name.endswith(".failure") else np.zeros(shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, jax.eval_shape(task.initialize, np.int32(0)))


def resnet() -> dict[str, np.ndarray]:
    """ResNet20 with batch norm and augmentation; every device takes a part of the batch."""
    shape = (8, 8, 3)
    made = task(
        shape,
        model__name="resnet20",
        model__width=0.25,
        model__normalization="batch",
        data__augment="crop_flip",
        training__batch_size=16,
    )
    programs = CompiledSteps(made, Layout("data", 1))
    state, frozen = programs.layout.place(drawn(made))
    return leaves(programs.layout.gather(train(programs, state, frozen, replicate(examples(shape)))))


def seeds() -> dict[str, np.ndarray]:
    """Seven FCNs at the same time, each on one device; before (`begun`) and after."""
    shape = (4, 4, 1)
    programs = CompiledSteps(
        task(shape, model__width=0.1, training__batch_size=16), Layout("seeds", len(SEEDS))
    )
    state, frozen = programs.initialize(SEEDS)
    gather = programs.layout.gather
    begun = leaves({"begun": gather((state, frozen))})
    return begun | leaves(gather(train(programs, state, frozen, replicate(examples(shape)))))


if __name__ == "__main__":
    with jax.default_matmul_precision("highest"):
        np.savez(sys.argv[2], **{"resnet": resnet, "seeds": seeds}[sys.argv[1]]())
