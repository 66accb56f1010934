"""A small MLP-Mixer on MNIST, masked in one call.

    python -m examples.mixer --workdir=runs/mixer

As in `examples.convnet`, `train_and_evaluate` trains it with its masks and then without; what differs is the
model and a few settings. The model is that of Tolstikhin et al., "MLP-Mixer" (NeurIPS 2021).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax
from flax import nnx

import ssm_jax
from examples import record
from examples.convnet import DENSE, settings
from ssm_jax.cli import status

PATCH, WIDTH, BLOCKS = 7, 64, 4


def perceptron(features: int, hidden: int, rngs: nnx.Rngs) -> nnx.Sequential:
    """Two linear layers, back to as many features."""
    first, second = nnx.Linear(features, hidden, rngs=rngs), nnx.Linear(hidden, features, rngs=rngs)
    return nnx.Sequential(first, nnx.gelu, second)


class Block(nnx.Module):
    """A perceptron over the patches and one over the channels, each added to what it is given."""

    def __init__(self, patches: int, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.patches = perceptron(patches, 2 * patches, rngs)
        self.channels = perceptron(WIDTH, 2 * WIDTH, rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Map `[B, patches, WIDTH]` to the same shape."""
        hidden = hidden + self.patches(self.norms[0](hidden).swapaxes(1, 2)).swapaxes(1, 2)
        return hidden + self.channels(self.norms[1](hidden))


class Mixer(nnx.Module):
    """Patches of 7x7 pixels, blocks that mix them, their mean, and a linear output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(1, WIDTH, kernel_size=(PATCH, PATCH), strides=PATCH, rngs=rngs)
        self.blocks = nnx.List([Block((28 // PATCH) ** 2, rngs) for _ in range(BLOCKS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images `[B, 28, 28, 1]` to logits `[B, 10]`."""
        hidden = self.stem(images).reshape(len(images), -1, WIDTH)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden).mean(1))


# A tenth of the weights remains: the network is small, and has few to spare.
MASKING = ssm_jax.Masking(rule=ssm_jax.Signed(density=0.1, rescale=0.25))


def masked(rngs: nnx.Rngs) -> nnx.Module:
    """Build the network under masks."""
    return ssm_jax.supermask(Mixer(rngs), MASKING, rngs=rngs)


def dense(rngs: nnx.Rngs) -> nnx.Module:
    """Build the network without masks, biases and all."""
    return ssm_jax.supermask(Mixer(rngs), DENSE, rngs=rngs, biases="trained")


def main(argv: Sequence[str] | None = None) -> None:
    """Train both and say what came of it."""
    given = record.arguments(__doc__, argv, epochs=8, seeds=3, data="mnist", workdir="runs/mixer")
    # Some were tried, on a tenth of the training set that was held out.
    with_masks = settings(given, learning_rate=0.5, weight_decay=1e-3)
    without = settings(given, learning_rate=0.003, weight_decay=1e-5)
    without.optimizer.name = "adam"
    summaries = [
        ssm_jax.train_and_evaluate(with_masks, f"{given.workdir}/masked", model=masked),
        ssm_jax.train_and_evaluate(without, f"{given.workdir}/dense", model=dense),
    ]
    record.finish(record.of_runs("mixer", *summaries), given.json)


if __name__ == "__main__":
    sys.exit(status.run(main))
