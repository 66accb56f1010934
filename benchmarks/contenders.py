"""What is timed: the programs of a real training run, on images of noise.

Learning rate and decay are set next to nothing, so that the masks stay as they are drawn: with the
real ones, noise would prune them in a few epochs, and a network of zeros is a faster one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any, Protocol
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ssm_jax.nn import convolution as convolutions
from ssm_jax.nn import layers
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import Layout, kernel_shapes, replicate, scans
from ssm_jax.training.programs import CompiledSteps

LEARNING_RATE = 1e-6
WEIGHT_DECAY = 1e-9
CLASSES = 10


def image_shape(network: str) -> tuple[int, int, int]:
    """`(H, W, C)` of the dataset of the network's row in the paper."""
    return (28, 28, 1) if network == "fcn" else (32, 32, 3)


def examples(network: str) -> int:
    """Size of that dataset's training set."""
    return 60_000 if network == "fcn" else 50_000


def noise(network: str, count: int) -> dict[str, np.ndarray]:
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]` at random."""
    generator = np.random.default_rng(0)
    return {
        "images": generator.integers(0, 256, (count, *image_shape(network)), np.uint8),
        "labels": generator.integers(0, CLASSES, count).astype(np.int32),
    }


def config(network: str, batch_size: int, precision: str, dense: bool = False) -> ConfigDict:
    """The config of the network's row in the paper, with next to no learning rate and decay."""
    config = importlib.import_module(f"configs.{network}").get_config("dense" if dense else "")
    config.training.batch_size = batch_size
    config.training.precision = precision
    config.optimizer.learning_rate = LEARNING_RATE
    config.optimizer.weight_decay = WEIGHT_DECAY
    return config


class Contender(Protocol):
    """Something that trains.

    Attributes:
      steps: that a call takes.
    """

    steps: int

    @property
    def compile_seconds(self) -> float:
        """Seconds spent in compiling so far, 0 where that is not known."""

    def call(self) -> None:
        """Take the steps and wait for them."""


def _im2col(layer: layers.Conv, inputs: jax.Array) -> jax.Array:
    """`Conv.__call__` as one matrix product: the windows side by side, times the flattened kernel."""
    kernel = layer.effective_kernel()
    window, stride = kernel.shape[0], layer.stride
    sizes = [-(-length // stride) for length in inputs.shape[1:3]]
    missing = [max(0, (n - 1) * stride + window - length) for n, length in zip(sizes, inputs.shape[1:3])]
    margins = [(m // 2, m - m // 2) for m in missing]
    padded = jnp.pad(inputs.astype(layer.dtype), ((0, 0), *margins, (0, 0)))
    height, width = ((n - 1) * stride + 1 for n in sizes)
    columns = [
        padded[:, row : row + height : stride, column : column + width : stride]
        for row in range(window)
        for column in range(window)
    ]
    return jnp.concatenate(columns, -1) @ kernel.reshape(-1, kernel.shape[-1])


def convolution(form: str) -> contextlib.AbstractContextManager[Any]:
    """Within, programs are traced with that form of convolution.

    Args:
      form: `conv`, as the library has it: those of several networks run one after another; `grouped`,
        what `vmap` makes of them by itself; `im2col`, as matrix products.
    """
    if form == "grouped":
        return mock.patch.object(convolutions, "one_by_one", lambda function: function)
    if form == "im2col":
        return mock.patch.object(layers.Conv, "__call__", _im2col)
    return contextlib.nullcontext()


class JaxTraining:
    """A contender: `ssm_jax.training.programs.CompiledSteps`, called as training calls them.

    Args:
      config: of the run.
      data: `images` and `labels` of the training set.
      seeds: how many networks are trained side by side.
      form: of the convolutions, see `convolution`.
      mode: `data` or `seeds`, what several devices share.
    """

    def __init__(
        self,
        config: ConfigDict,
        data: dict[str, np.ndarray],
        seeds: int = 1,
        form: str = "conv",
        mode: str = "data",
    ) -> None:
        setup = from_config(config)
        build = setup.network(data["images"].shape[1:], CLASSES)
        self.task = setup.task(build, len(data["labels"]))
        self.steps = self.task.steps_per_epoch if scans(self.task) else 1
        self._programs = CompiledSteps(self.task, Layout(mode, seeds))
        self._state, self._frozen = self._programs.initialize(range(seeds))
        self._data = replicate(data)
        self._form = form
        self._taken = 0

    @functools.cached_property
    def weights(self) -> int:
        """The number of masked weights."""
        return sum(int(np.prod(shape)) for shape in kernel_shapes(self.task).values())

    @property
    def compile_seconds(self) -> float:
        """Spent in tracing and compiling so far."""
        return self._programs.compile_seconds

    def density(self) -> float:
        """The share of weights that remain, of all seeds."""
        counts = self._programs.mask_counts(self._state, self._frozen).values()
        inverted, hidden, kept = np.sum([count.sum(0) for count in counts], axis=0)
        return float(1 - hidden / (inverted + hidden + kept))

    def call(self) -> None:
        """Train one epoch, or one step, and wait for it."""
        with convolution(self._form):
            self._state = self._programs.train(self._state, self._frozen, self._data, self.steps)
        self._programs.layout.gather(self._state.failure)
        self._taken += self.steps

    def totals(self) -> dict[str, Any]:
        """Sums of `loss` and `accuracy` over this epoch's steps, and `failure`, of every seed."""
        totals = self._programs.layout.gather(self._state.totals)
        return totals | {"failure": self._programs.layout.gather(self._state.failure)[:, 0]}


class TorchTraining:
    """A contender: the same step in PyTorch.

    Args:
      network: its name.
      data: `images` and `labels` of the training set.
      batch_size: B.
      precision: `float32` or `bfloat16`.
      steps: that a call takes.
      device: `cpu` or `cuda`.

    Attributes:
      settings: how it runs: `graph`, `channels_last`, `threads` and, if it isn't compiled, why.
    """

    compile_seconds = 0.0

    def __init__(
        self,
        network: str,
        data: dict[str, np.ndarray],
        batch_size: int,
        precision: str,
        steps: int,
        device: str,
    ) -> None:
        import torch

        from benchmarks import pytorch

        threshold = config(network, batch_size, precision).mask.threshold

        def make(channels_last: bool, compiled: bool = True) -> pytorch.Training:
            return pytorch.Training(
                pytorch.build(network, image_shape(network), CLASSES, threshold=threshold),
                data["images"],
                data["labels"],
                batch_size=batch_size,
                device=device,
                precision=precision,
                channels_last=channels_last,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                compiled=compiled,
            )

        self.settings: dict[str, Any] = {"graph": device == "cuda"}
        if device == "cpu":
            self._training = pytorch.fastest(make, [True] if network == "fcn" else [True, False])
        else:
            try:
                self._training = make(True)
            except Exception as error:  # no compiler on this machine, for example
                self.settings["compile_error"] = f"{type(error).__name__}: {error}"[:300]
                self._training = make(True, compiled=False)
        self.settings["channels_last"] = self._training.memory_format is torch.channels_last
        self.settings["threads"] = self._training.threads
        self.steps = steps

    def call(self) -> None:
        """Take the steps and wait for them."""
        self._training.run(self.steps)
