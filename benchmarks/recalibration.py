"""What measuring the statistics of batch normalizations anew does to the accuracy of a network.

    python -m benchmarks.recalibration --json results/batch-normalization/digits.json
    python -m benchmarks.recalibration examples/models/resnet20.ssm \\
        --json results/batch-normalization/resnet20.json

The training program measures them before every evaluation, and training never reads them. So one training
gives both accuracies: a small network is trained on the digits, masked and dense, and evaluated twice. A
stored network has the running statistics of the training that made it; they are measured anew in it.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

import ssm_jax
from ssm_jax import config as base
from ssm_jax import graph
from ssm_jax.artifact import run
from ssm_jax.data import datasets
from ssm_jax.nn import statistics
from ssm_jax.training.evaluation import RECALIBRATION_BATCHES
from ssm_jax.training.loop import SeedGroup
from ssm_jax.training.reports import Evaluation

DENSITY = 0.05
BATCH = 125


class Digits(nnx.Module):
    """Two convolutions of 32 and 64 channels, each with batch normalization, and a dense layer."""

    def __init__(self, rngs: nnx.Rngs, masking: ssm_jax.Masking) -> None:
        self.convs = nnx.List(
            [
                ssm_jax.Conv(1, 32, masking=masking, rngs=rngs),
                ssm_jax.Conv(32, 64, stride=2, masking=masking, rngs=rngs),
            ]
        )
        self.norms = nnx.List([nnx.BatchNorm(channels, rngs=rngs) for channels in (32, 64)])
        self.dense = ssm_jax.Dense(64 * 16, 10, masking=masking, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return self.dense(x.reshape(len(x), -1))


@contextmanager
def both() -> Iterator[dict[int, dict[str, list[float]]]]:
    """Evaluate with the running statistics too, and collect what comes of it.

    Yields:
      By step the two lists of test accuracies in %, one number a seed.
    """
    accuracies: dict[int, dict[str, list[float]]] = {}
    measured = SeedGroup.evaluate

    def twice(self: SeedGroup, state: Any, frozen: nnx.State, step: int) -> tuple[Any, Evaluation]:
        running = self.measure(state, frozen, step)
        state, anew = measured(self, state, frozen, step)
        at_step = accuracies.setdefault(step, {"running_statistics": [], "measured_anew": []})
        at_step["running_statistics"] += _accuracy(running)
        at_step["measured_anew"] += _accuracy(anew)
        return state, anew

    SeedGroup.evaluate = twice  # type: ignore[method-assign]
    try:
        yield accuracies
    finally:
        SeedGroup.evaluate = measured  # type: ignore[method-assign]


def _accuracy(evaluation: Evaluation) -> list[float]:
    return [round(float(value), 2) for value in evaluation.values["test_accuracy"]]


def train(config: ConfigDict, model: Callable[[nnx.Rngs], nnx.Module]) -> dict[str, Any]:
    """Train the networks of a config; return both accuracies of the last step."""
    with both() as accuracies, tempfile.TemporaryDirectory() as folder:
        summary = ssm_jax.train_and_evaluate(config, folder, model=model)
    remaining = [round(100 * value, 2) for value in summary.remaining_weights.values]
    return accuracies[max(accuracies)] | {"remaining_weights": remaining}


def digits() -> list[dict[str, Any]]:
    """Train the small network, three seeds: masked with two schedules, and dense."""
    masked = ssm_jax.Masking(rule=ssm_jax.Signed(density=DENSITY, rescale=0.5))
    dense = ssm_jax.Masking(rule=None, kernel_init=jax.nn.initializers.he_normal())
    rows = []
    for name, masking, schedule in (
        ("masked", masked, "constant"),
        ("masked", masked, "cosine"),
        ("dense", dense, "constant"),
    ):
        config = base.default()
        config.data.name = "digits"
        config.seeds, config.training.epochs, config.training.batch_size = 3, 10, 64
        config.optimizer.name, config.optimizer.learning_rate, config.optimizer.weight_decay = (
            "adam",
            1e-2,
            0.0,
        )
        config.schedule.name, config.logging.eval_every_epochs = schedule, 10
        row = train(config, functools.partial(Digits, masking=masking))
        rows.append({"network": name, "schedule": schedule} | row)
    return rows


def stored(path: str, data_dir: str) -> dict[str, Any]:
    """Evaluate a stored network of CIFAR-10 with its own statistics, and with statistics measured anew."""
    network = ssm_jax.load(path).artifact.network
    data = datasets.load("cifar10", data_dir)
    arrays = run.parameters(network)
    logits = jax.jit(lambda arrays, images: run.apply(network, arrays, images))

    @jax.jit
    def moments(images: jax.Array) -> dict[int, statistics.Moments]:
        """What every normalization, by its number, sees of a batch that all of them normalize."""
        values, seen = [images.astype(np.float32)], {}
        for number, (node, own) in enumerate(zip(network.nodes, arrays, strict=True)):
            inputs = [values[i] for i in node.inputs]
            if isinstance(node, graph.Normalize):
                mean, variance = inputs[0].mean((0, 1, 2)), inputs[0].var((0, 1, 2))
                seen[number] = statistics.Moments(mean, variance)
                own = own | {"mean": mean, "variance": variance}
            values.append(run.COMPUTE[type(node)](node, own, np.dtype(network.dtype), *inputs))
        return seen

    def accuracy(arrays: list[run.Arrays]) -> float:
        parts = np.split(data.test_images, len(data.test_images) // BATCH)
        answers = np.concatenate([np.asarray(logits(arrays, part)).argmax(-1) for part in parts])
        return round(100 * float((answers == data.test_labels).mean()), 2)

    running = accuracy(arrays)
    order = np.random.default_rng(0).permutation(len(data.train_images))
    known: list[statistics.Moments] = []
    for count in range(RECALIBRATION_BATCHES):
        seen = moments(data.train_images[np.sort(order[count * BATCH : (count + 1) * BATCH])])
        new = list(seen.values())
        known = statistics.pool(known, new, 1 / (count + 1)) if known else new
    for number, (mean, variance) in zip(seen, known, strict=True):
        arrays[number] |= {"mean": mean, "variance": variance}
    return {"running_statistics": [running], "measured_anew": [accuracy(arrays)]}


def main() -> None:
    """Run as the command line says, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True, help="where the report is written")
    parser.add_argument("model", nargs="?", help="a stored network of CIFAR-10; default: train on the digits")
    parser.add_argument("--data_dir", default="", help="where prepared datasets lie")
    options = parser.parse_args()
    report = {
        "network": options.model or "two convolutions and a dense layer, digits, 10 epochs",
        "measure": "test accuracy %",
        "device": f"{jax.device_count()} x {jax.devices()[0].platform}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "rows": [stored(options.model, options.data_dir)] if options.model else digits(),
    }
    pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
