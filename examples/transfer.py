"""Masks on a network that other data have trained, against a new head alone.

    python -m examples.transfer --workdir=runs/transfer --json=results/transfer/conv6.json

A Conv6 of half its width is trained on CIFAR-100, without masks. CIFAR-10 is the task: either its layers get
masks over the weights that they have, or they stay as they are; a new head is trained in both. The same
command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

import ssm_jax
from configs import conv6
from examples import record
from ssm_jax import Summary, config, files, graph
from ssm_jax.artifact import format
from ssm_jax.cli import status
from ssm_jax.training.results import versions

# Three tenths of the given weights remain.
MASKING = ssm_jax.Masking(rule=ssm_jax.Signed(density=0.3, rescale=0.25))
DENSE = ssm_jax.Masking(rule=None)
HEAD = ("method", "accuracy %", "remaining %", "bytes")


def settings(given: argparse.Namespace, name: str, epochs: int, **changes: Any) -> ConfigDict:
    """Make the settings of a run on one of the data sets."""
    made = conv6.get_config("dense")
    shared = {
        "data.name": name,
        "model.width": given.width,
        "training.epochs": epochs,
        "schedule.name": "cosine",
    }
    return config.override(made, shared | {key.replace("__", "."): value for key, value in changes.items()})


def with_head(base: Any, rngs: nnx.Rngs, classes: int = 10) -> Any:
    """Copy a network with a new head, which is trained."""
    model = nnx.clone(base)
    features = model.denses[-1].shape[0]
    model.denses[-1] = ssm_jax.Dense(features, classes, masking=DENSE, rngs=rngs)
    return model


def masked(base: Any, rngs: nnx.Rngs) -> nnx.Module:
    """Put masks over the weights of a network, but for a new head."""
    model = with_head(base, rngs)
    head = ("denses", len(model.denses) - 1)
    return ssm_jax.supermask(model, MASKING, rngs=rngs, kernels="given", only=lambda path, _: path != head)


def head_alone(base: Any, rngs: nnx.Rngs) -> nnx.Module:
    """Freeze a network, but for a new head."""
    model = with_head(base, rngs)
    for layer in (*model.convs, *model.denses[:-1]):
        layer.kernel = ssm_jax.Frozen(layer.kernel.get_value())
    return model


def task_bytes(model: Any) -> int:
    """Count what a task adds to the base: masks as a `.ssm` file has them, and the head in float32."""
    total = 4 * model.denses[-1].kernel.size
    for _, layer in ssm_jax.masked_layers(model):
        if layer.rule is not None:
            total += format.kernel_bytes(graph.Kernel(np.asarray(layer.stored_mask())))
    return total


def train(
    given: argparse.Namespace, method: str, base: Any, build: Callable[..., nnx.Module], **changes: Any
) -> dict[str, Any]:
    """Train a method on CIFAR-10; returns what it has found."""
    model, folder = functools.partial(build, base), f"{given.workdir}/{method}"
    made = settings(given, given.task, given.epochs, **changes)
    summary = ssm_jax.train_and_evaluate(made, folder, model=model)
    trained = ssm_jax.restore(folder, model=model).model
    told = {
        "method": method,
        "remaining_weights": ssm_jax.remaining_weights(trained),
        "bytes": task_bytes(trained),
    }
    return told | found(summary)


def found(summary: Summary) -> dict[str, Any]:
    """What a run has found."""
    return {
        "data": summary.dataset,
        "epochs": summary.epochs,
        "accuracy": summary.test_accuracy.mean,
        "train_seconds": summary.train_seconds,
    }


def table(report: dict[str, Any]) -> str:
    """Lay a report out as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in report["tasks"]:
        cells = f"{row['accuracy']:.2f}", f"{100 * row['remaining_weights']:.1f}", f"{row['bytes']:,}"
        lines.append((row["method"], *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the base, then both methods, and say what came of it."""
    given = record.arguments(
        __doc__,
        argv,
        width=0.5,
        base="cifar100",
        task="cifar10",
        base_epochs=3,
        epochs=3,
        workdir="runs/transfer",
    )
    summary = ssm_jax.train_and_evaluate(
        settings(given, given.base, given.base_epochs), f"{given.workdir}/base"
    )
    base = ssm_jax.restore(f"{given.workdir}/base").model
    rates = {"optimizer__learning_rate": 0.05, "optimizer__weight_decay": 1e-3, "mask__density_ramp": 0.6}
    report = {
        "network": f"conv6 of width {given.width:g}",
        "n": 1,
        "weights": sum(layer.random_kernel().size for _, layer in ssm_jax.masked_layers(base)),
        "base": found(summary),
        "tasks": [
            train(given, "masks", base, masked, **rates),
            train(given, "head", base, head_alone, optimizer__weight_decay=0.0),
        ],
        "device": f"{jax.device_count()} x {jax.devices()[0].platform}",
        "versions": versions(),
    }
    print(table(report))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=1) + "\n"
        files.write_whole(pathlib.Path(given.json), lambda file: file.write(text.encode()))


if __name__ == "__main__":
    sys.exit(status.run(main))
