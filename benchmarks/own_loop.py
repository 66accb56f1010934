"""A ViT, a CNN and a ResNet in a loop of one's own on the digits: which optimizer, which rate, which density.

    python -m benchmarks.own_loop --json results/own-loop/digits.json

Every setting is trained with three seeds. What the file holds already is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ssm_jax
from ssm_jax import files
from ssm_jax.core.initializers import elus
from ssm_jax.data import datasets

EPOCHS, BATCH, SEEDS = 20, 64, 3
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
OURS, ADAMW = "ssm_jax.Optimizer", "optax.adamw"
HEAD = ("model", "optimizer", "density %", "remaining %", *(f"rate {rate:g}" for rate in RATES))


class Block(nnx.Module):
    """Attention and a perceptron, each added to what it is given."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """Map `[B, T, width]` to the same shape."""
        hidden = hidden + self.attention(self.norms[0](hidden))
        return hidden + self.down(nnx.gelu(self.up(self.norms[1](hidden))))


class ViT(nnx.Module):
    """Patches of 2x2 pixels with learned places, two blocks, their mean, and a linear output."""

    def __init__(self, rngs: nnx.Rngs, width: int = 64) -> None:
        self.patches = nnx.Conv(1, width, kernel_size=(2, 2), strides=2, rngs=rngs)
        self.places = nnx.Embed(16, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images `[B, 8, 8, 1]` to logits `[B, 10]`."""
        hidden = self.patches(images).reshape(len(images), 16, -1) + self.places(jnp.arange(16))
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden).mean(1))


class CNN(nnx.Module):
    """Three convolutions, each with batch normalization, and a linear output."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        sizes = ((1, 32, 1), (32, 64, 2), (64, 64, 2))
        self.convs = nnx.List(
            [nnx.Conv(i, o, kernel_size=(3, 3), strides=stride, rngs=rngs) for i, o, stride in sizes]
        )
        self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for _, o, _ in sizes])
        self.head = nnx.Linear(64 * 4, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images `[B, 8, 8, 1]` to logits `[B, 10]`."""
        hidden = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = nnx.relu(norm(conv(hidden)))
        return self.head(hidden.reshape(len(hidden), -1))


class ResNet(nnx.Module):
    """A stem, two blocks of two convolutions that add to their input, and a linear output of the mean."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        def conv(inputs: int, outputs: int, stride: int = 1) -> nnx.Conv:
            return nnx.Conv(inputs, outputs, kernel_size=(3, 3), strides=stride, rngs=rngs)

        self.stem, self.down = conv(1, 16), conv(16, 32, 2)
        self.convs = nnx.List([conv(16, 16), conv(16, 16), conv(32, 32), conv(32, 32)])
        self.norms = nnx.List([nnx.BatchNorm(width, rngs=rngs) for width in (16, 16, 32, 32)])
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images `[B, 8, 8, 1]` to logits `[B, 10]`."""
        hidden = nnx.relu(self.stem(images))
        for first in (0, 2):
            inner = nnx.relu(self.norms[first](self.convs[first](hidden)))
            hidden = nnx.relu(hidden + self.norms[first + 1](self.convs[first + 1](inner)))
            hidden = self.down(hidden) if first == 0 else hidden
        return self.head(hidden.mean((1, 2)))


MODELS: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {"ViT": ViT, "CNN": CNN, "ResNet": ResNet}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained.

    Attributes:
      model: A key of `MODELS`.
      optimizer: `OURS` or `ADAMW`; a dense model has Adam with the curve of ours.
      density: The share of weights that the rule asks for; None is the dense model.
      rate: The learning rate.
    """

    model: str
    optimizer: str
    density: float | None
    rate: float


def settings(models: Sequence[str] = tuple(MODELS), rates: Sequence[float] = RATES) -> list[Setting]:
    """List what is trained; rows of the table are in this order."""
    kinds = [(OURS, None), (OURS, 1.0), (OURS, 0.2), (OURS, 0.05), (ADAMW, 0.05)]
    return [
        Setting(model, optimizer, density, rate)
        for model, (optimizer, density), rate in itertools.product(models, kinds, rates)
    ]


def masking(setting: Setting) -> ssm_jax.Masking:
    """Say how a model is masked; a ViT has small kernels, as its blocks add to what they are given."""
    assert setting.density is not None
    vit = setting.model == "ViT"
    rule = ssm_jax.Signed(density=setting.density, rescale=0.5 if vit else 0.25)
    return ssm_jax.Masking(rule=rule, kernel_init=elus(0.1 if vit else 1.5))


@nnx.jit
def step(model: nnx.Module, optimizer: nnx.Optimizer[Any], images: jax.Array, labels: jax.Array) -> None:
    """Take one step of training."""

    def loss(model: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    optimizer.update(model, nnx.grad(loss)(model))


@nnx.jit
def accuracy(model: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of images that a model gets right, in %."""
    return 100 * jnp.mean(model(images).argmax(-1) == labels)


@functools.cache
def transformation(optimizer: str, steps: int) -> optax.GradientTransformation:
    """Make the optimizer of a learning rate that its state holds, so that a step is compiled once for all."""
    factory, static = (
        (optax.adamw, ()) if optimizer == ADAMW else (ssm_jax.score_optimizer, ("steps", "weight_decay"))
    )
    arguments = {"learning_rate": RATES[0]} | ({} if optimizer == ADAMW else {"steps": steps})
    return optax.inject_hyperparams(factory, static_args=static)(**arguments)


def train(setting: Setting, data: datasets.Dataset, seeds: int, epochs: int) -> list[tuple[float, float]]:
    """Train a setting; returns of every seed the test accuracy in % and the share of weights that remain."""
    images, test = (ssm_jax.standardize(jnp.asarray(part)) for part in (data.train_images, data.test_images))
    labels, count = jnp.asarray(data.train_labels), len(images) // BATCH
    steps, results = epochs * count, []
    tx = transformation(setting.optimizer, steps)
    for seed in range(seeds):
        model: Any = MODELS[setting.model](nnx.Rngs(seed))
        if setting.density is not None:
            model = ssm_jax.supermask(model, masking(setting), rngs=seed)
        optimizer: Any = (
            ssm_jax.Optimizer(model, tx, steps=steps)
            if setting.optimizer == OURS
            else nnx.Optimizer(model, tx, wrt=nnx.Param)
        )
        optimizer.opt_state.hyperparams["learning_rate"][...] = jnp.float32(setting.rate)
        random = np.random.default_rng(seed)
        for _ in range(epochs):
            for chosen in random.permutation(len(images))[: count * BATCH].reshape(count, BATCH):
                step(model, optimizer, images[chosen], labels[chosen])
        if setting.model != "ViT":  # running averages lag behind masks that flip
            ssm_jax.recalibrate(model, np.split(np.asarray(images)[: count * BATCH], count))
        model.eval()
        remaining = ssm_jax.remaining_weights(model) if setting.density is not None else 1.0
        results.append((float(accuracy(model, test, jnp.asarray(data.test_labels))), remaining))
    return results


def table(report: dict[str, Any]) -> str:
    """Lay a report out as Markdown: the mean accuracy at every rate, and the shares at the best of them."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for _, group in itertools.groupby(
        report["rows"], lambda row: (row["model"], row["optimizer"], row["density"])
    ):
        rows = list(group)
        means = [statistics.mean(row["accuracy"]) for row in rows]
        best = max(range(len(rows)), key=means.__getitem__)
        first, dense = rows[0], rows[0]["density"] is None
        cells = [f"**{mean:.1f}**" if place == best else f"{mean:.1f}" for place, mean in enumerate(means)]
        remaining = f"{100 * statistics.mean(rows[best]['remaining_weights']):.1f}"
        density = "dense" if dense else f"{100 * first['density']:g}"
        lines.append((first["model"], f"`{first['optimizer']}`", density, remaining, *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not in the file yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True, type=pathlib.Path, help="the report")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    options = parser.parse_args(argv)
    report: dict[str, Any] = {
        "data": "digits",
        "measure": "test accuracy %, last step",
        "training": {"epochs": options.epochs, "batch": BATCH, "seeds": options.seeds},
        "device": f"{jax.device_count()} x {jax.devices()[0].platform}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "rows": [],
    }
    stored = json.loads(options.json.read_text()) if options.json.exists() else report
    if any(stored[name] != report[name] for name in ("training", "device", "versions")):
        parser.error(f"{options.json} is of another training: choose another --json")
    known = {
        tuple(row[name] for name in ("model", "optimizer", "density", "rate")): row for row in stored["rows"]
    }
    data = datasets.load("digits")
    for setting in settings(options.models, options.rates):
        row = known.get(dataclasses.astuple(setting))
        if row is None:
            began = time.perf_counter()
            accuracies, remaining = zip(*train(setting, data, options.seeds, options.epochs), strict=True)
            row = dataclasses.asdict(setting) | {"accuracy": accuracies, "remaining_weights": remaining}
            row["seconds"] = round(time.perf_counter() - began, 1)
            print(row, flush=True)
        known[dataclasses.astuple(setting)] = row
        # Rows that were stored and come later in the table stay.
        order = dict.fromkeys(map(dataclasses.astuple, [*settings(), *settings(rates=options.rates)]))
        report["rows"] = [known[at] for at in order if at in known]
        files.write_whole(
            options.json, lambda file: file.write((json.dumps(report, indent=1) + "\n").encode())
        )
    print(table(report))


if __name__ == "__main__":
    main()
