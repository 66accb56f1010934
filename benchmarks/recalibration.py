"""What measuring the statistics of batch normalizations anew does to the accuracy of a network.

    python -m benchmarks.recalibration --json results/batch-normalization/digits.json
    python -m benchmarks.recalibration configs/resnet20.py:best --config.training.epochs=16 \\
        --workdir runs/resnet20 --json results/batch-normalization/resnet20.json

The training program measures them before every evaluation, and training never reads them. So one training
gives both accuracies: here every evaluation is made twice, first with the running statistics. Without a
config a small network is trained on the digits, masked and dense.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

import ssm_jax
from ssm_jax import config as base
from ssm_jax.cli import train as command
from ssm_jax.training.loop import Group
from ssm_jax.training.reports import Evaluation, evaluate

DENSITY = 0.05


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
    found: dict[int, dict[str, list[float]]] = {}
    measured = Group.evaluate

    def twice(self: Group, state: Any, frozen: nnx.State, step: int) -> tuple[Any, Evaluation]:
        splits, batches = {"test": self.data["test"]}, 0 if self.scan else 1
        running = evaluate(self.programs, state, frozen, splits, self.sizes, step, batches)
        state, anew = measured(self, state, frozen, step)
        at_step = found.setdefault(step, {"running_statistics": [], "measured_anew": []})
        at_step["running_statistics"] += _accuracy(running)
        at_step["measured_anew"] += _accuracy(anew)
        return state, anew

    Group.evaluate = twice  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Group.evaluate = measured  # type: ignore[method-assign]


def _accuracy(evaluation: Evaluation) -> list[float]:
    return [round(float(value), 2) for value in evaluation.values["test_accuracy"]]


def train(
    config: ConfigDict, workdir: str | None, model: Callable[[nnx.Rngs], nnx.Module] | None = None
) -> dict[str, Any]:
    """Train the networks of a config; return both accuracies of the last step and of those before."""
    with both() as found, tempfile.TemporaryDirectory() as folder:
        summary = ssm_jax.train_and_evaluate(config, workdir or folder, model=model)
    if not found:
        sys.exit(f"{workdir} holds a finished run: nothing was evaluated")
    remaining = [round(100 * value, 2) for value in summary.remaining_weights.values]
    last = found.pop(max(found))
    return last | {"remaining_weights": remaining} | ({"before": found} if found else {})


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
        config.schedule.name, config.logging.epochs = schedule, 10
        row = train(config, None, lambda rngs, masking=masking: Digits(rngs, masking))
        rows.append({"network": name, "schedule": schedule} | row)
    return rows


def main() -> None:
    """Run as the command line says, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", required=True, help="where the report is written")
    options, rest = parser.parse_known_args()
    if rest:
        values = command.parse(command.expand(rest))
        rows = [train(values.config, values.workdir)]
    else:
        rows = digits()
    report = {
        "config": rest[0] if rest else "digits, two convolutions and a dense layer",
        "settings": [flag for flag in rest[1:] if flag.startswith("--config.") and ".data.dir" not in flag],
        "measure": "test accuracy %, last step",
        "device": f"{jax.device_count()} x {jax.devices()[0].platform}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "rows": rows,
    }
    pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
