"""A convolutional network with batch normalization on MNIST, masked in one call.

    python -m examples.convnet --workdir=runs/convnet

`train_and_evaluate` trains it with its masks and then without, for some seeds each; the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise

import jax
from flax import nnx
from ml_collections import ConfigDict

import ssm_jax
from examples import record
from ssm_jax.cli import status
from ssm_jax.core.initializers import he_uniform


class ConvNet(nnx.Module):
    """Three strided convolutions, each normalized over the batch, and a linear output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        channels = (1, 32, 64, 128)
        self.convs = nnx.List(
            [nnx.Conv(i, o, kernel_size=(3, 3), strides=2, rngs=rngs) for i, o in pairwise(channels)]
        )
        self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for o in channels[1:]])
        self.head = nnx.Linear(4 * 4 * channels[-1], 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images `[B, 28, 28, 1]` to logits `[B, 10]`."""
        hidden = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = nnx.relu(norm(conv(hidden)))
        return self.head(hidden.reshape(len(hidden), -1))


# 5 % of all weights remain; kernels grow as the mask empties.
MASKING = ssm_jax.Masking(rule=ssm_jax.Signed(density=0.05, rescale=0.25))
# No masks: kernels are drawn as usual, and trained.
DENSE = ssm_jax.Masking(rule=None, kernel_init=he_uniform())


def masked(rngs: nnx.Rngs) -> nnx.Module:
    """Build the network under masks."""
    return ssm_jax.supermask(ConvNet(rngs), MASKING, rngs=rngs)


def dense(rngs: nnx.Rngs) -> nnx.Module:
    """Build the network without masks, biases and all."""
    return ssm_jax.supermask(ConvNet(rngs), DENSE, rngs=rngs, biases="trained")


def settings(given: argparse.Namespace, learning_rate: float, weight_decay: float) -> ConfigDict:
    """Make the settings of a run; decay is not multiplied by the learning rate."""
    config = ssm_jax.default_config()
    config.data.name = given.data
    config.seeds = given.seeds
    config.training.epochs = given.epochs
    config.schedule.name = "cosine"
    config.optimizer.learning_rate = learning_rate
    config.optimizer.weight_decay = weight_decay
    config.optimizer.decay_normalization = False
    return config


def main(argv: Sequence[str] | None = None) -> None:
    """Train both and say what came of it."""
    given = record.arguments(__doc__, argv, epochs=8, seeds=3, data="mnist", workdir="runs/convnet")
    # Some were tried, on a tenth of the training set that was held out.
    with_masks = settings(given, learning_rate=0.5, weight_decay=1e-3)
    without = settings(given, learning_rate=0.05, weight_decay=2e-5)
    summaries = [
        ssm_jax.train_and_evaluate(with_masks, f"{given.workdir}/masked", model=masked),
        ssm_jax.train_and_evaluate(without, f"{given.workdir}/dense", model=dense),
    ]
    record.finish(record.of_runs("convnet", *summaries), given.json)


if __name__ == "__main__":
    sys.exit(status.run(main))
