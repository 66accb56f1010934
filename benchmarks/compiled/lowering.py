"""The training step's program, lowered for devices that need not be there."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import contenders
from ssm_jax.data import batches
from ssm_jax.training import setup
from ssm_jax.training.layout import Layout
from ssm_jax.training.programs import Programs


@dataclasses.dataclass(frozen=True)
class Program:
    """What is compiled.

    Attributes:
      target: A name of `targets.TARGETS`.
      network: A name in `configs/`.
      dense: Whether it is the dense baseline.
      precision: `float32` or `bfloat16`.
      seeds: How many networks train at the same time; more than one are spread over the devices.
      devices: How many devices; one network shares every batch between them.
      batch: The images of a step, over all devices that share it.
    """

    target: str
    network: str
    dense: bool
    precision: str
    seeds: int
    devices: int
    batch: int

    def __str__(self) -> str:
        parts = [self.target, self.network, "dense" if self.dense else "signed", self.precision]
        return ", ".join([*parts, f"{self.seeds} seeds", f"{self.devices} devices", f"batch {self.batch}"])


class _Lowered(Programs):
    """Programs that are lowered instead of called, and give shapes for values."""

    def _call(self, name: str, times: int, make: Any, *arguments: Any) -> Any:
        function = make()
        self.lowered = function.lower(*arguments)
        return jax.eval_shape(function, *arguments)

    def _order(self, state: Any) -> Any:
        # What it is can't be asked of a state of shapes.
        return self._call("order", 1, lambda: self._spread(self.task.order), state.seed, state.step)


def lower(program: Program, devices: list[Any]) -> tuple[Any, int]:
    """Lower the training of an epoch, as training calls it.

    Args:
      program: What to lower.
      devices: Devices of its target. As many of the host's must exist, which only lend their number.

    Returns:
      What `jax.jit(...).lower` returns, and the number of steps.
    """
    assert len(devices) == program.devices == jax.device_count()
    config = contenders.config(program.network, program.batch, program.precision, program.dense)
    shape, examples = contenders.image_shape(program.network), contenders.examples(program.network)
    task = setup.task(config, setup.network(config, shape, contenders.CLASSES), examples)
    layout = Layout("seeds" if program.seeds > 1 else "data", program.seeds)

    def rows(*leading: int) -> Any:
        return lambda array: jax.ShapeDtypeStruct((*leading, *array.shape), array.dtype)

    state, frozen = jax.tree.map(
        rows(program.devices, layout.per_device), jax.eval_shape(lambda: task.initialize(np.int32(0)))
    )
    split = {
        "images": jax.ShapeDtypeStruct((examples, *shape), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    data = jax.tree.map(rows(program.devices), jax.eval_shape(batches.with_statistics, split))
    with mock.patch.object(jax, "pmap", functools.partial(jax.pmap, devices=devices)):
        programs = _Lowered(task, layout)
        # The last of the calls that this makes is the one with the steps in it.
        programs.train(state, frozen, data, task.steps_per_epoch)
    return programs.lowered, task.steps_per_epoch
