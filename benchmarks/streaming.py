"""Images that stay on disk against images in memory: the rate of training, and the memory of the process.

    python -m benchmarks.streaming --json benchmarks/results/streaming/<device>.json

Every measurement is a process of its own, and those of a pair follow each other. The rate is that of the
last of two epochs, in seconds and in seconds of the processor, which other processes don't lengthen;
compilation, evaluation and the start are not counted. Two networks train on CIFAR-10, from array_record.
Memory is the largest resident set of the process, and what it is about is a folder of JPEGs made here, 192 by
192 pixels each, an epoch of them.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

import ssm_jax
from ssm_jax import config as base
from ssm_jax.training.programs import CompiledSteps

SIDE, PHOTOS, TESTED = 192, 10_000, 500
PAIRS = ("photos", "fcn", "conv2")


class Photos(nnx.Module):
    """Patches of 16 by 16 pixels, their mean, and a dense layer: little to compute for large images."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.patches = ssm_jax.Conv(3, 8, kernel_size=16, stride=16, rngs=rngs)
        self.dense = ssm_jax.Dense(8, 2, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(nnx.elu(self.patches(images)).mean((1, 2)))


def settings(what: str, folder: str, data_dir: str) -> dict[str, Any]:
    """The settings of a pair, by dotted name."""
    if what == "photos":
        return {"data.name": folder, "training.batch_size": 64, "training.epochs": 1}
    # A quarter of Conv2's channels, so that two epochs take minutes.
    network = {"model.name": what, "model.width": 0.25 if what == "conv2" else 1.0}
    return network | {"data.name": "cifar10", "data.dir": data_dir, "training.epochs": 2}


def draw_photos(folder: pathlib.Path) -> None:
    """Make the folder of JPEGs: smooth noise, one class brighter than the other."""
    random = np.random.default_rng(0)
    for split, count in (("train", PHOTOS), ("test", TESTED)):
        for label in range(2):
            (folder / split / str(label)).mkdir(parents=True)
        for i in range(count):
            small = random.integers(0, 200, (6, 6, 3), np.uint8) + np.uint8(50 * (i % 2))
            photo = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            photo.save(folder / split / str(i % 2) / f"{i:05d}.jpg")


def run(config: ConfigDict, model: Any) -> dict[str, Any]:
    """Train, and measure this process; the rate is that of the second epoch, if there is one."""
    calls: list[tuple[int, float, float, float, float]] = []
    train = CompiledSteps.train

    def timed(self: CompiledSteps, state: Any, frozen: Any, data: Any, steps: int) -> Any:
        begun = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(train(self, state, frozen, data, steps))
        calls.append((steps, *begun, time.perf_counter(), time.process_time()))
        return state

    CompiledSteps.train = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as workdir:
        summary = ssm_jax.train_and_evaluate(config, workdir, model=model)
        masks = ssm_jax.restore(workdir, model=model).masks
    result: dict[str, Any] = {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "test_accuracy": summary.test_accuracy.mean,
        "masks": hashlib.sha256(b"".join(masks[name].tobytes() for name in sorted(masks))).hexdigest()[:12],
    }
    if config.training.epochs > 1:
        done = np.cumsum([0, *(call[0] for call in calls)])
        last = calls[int(np.searchsorted(done, summary.steps // 2)) :]
        images = sum(call[0] for call in last) * config.training.batch_size
        result["images_per_second"] = round(images / (last[-1][3] - last[0][1]), 1)
        result["images_per_processor_second"] = round(images / (last[-1][4] - last[0][2]), 1)
    return result


def measure(what: str, stream: bool, folder: str, data_dir: str) -> dict[str, Any]:
    """Have a process of its own train."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--one", what, "--folder", folder]
    command += ["--data_dir", data_dir, *(["--stream"] if stream else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def one(options: argparse.Namespace) -> None:
    """Train as the command line says, and print what was measured."""
    config = base.override(base.default(), settings(options.one, options.folder, options.data_dir))
    config.data.stream = options.stream
    print(json.dumps(run(config, Photos if options.one == "photos" else None)))


def main() -> None:
    """Run as the command line says, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", help="where the report is written")
    parser.add_argument("--data_dir", default="", help="where prepared datasets lie")
    parser.add_argument("--only", choices=PAIRS, nargs="+", default=PAIRS)
    parser.add_argument("--one", choices=PAIRS, help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if "photos" in options.only:
            draw_photos(pathlib.Path(folder))
        for what in options.only:
            memory, disk = (measure(what, stream, f"{folder}/", options.data_dir) for stream in (False, True))
            rows.append({"network": what, "in_memory": memory, "streamed": disk, "load": os.getloadavg()[0]})
    report = {
        "date": datetime.date.today().isoformat(),
        "device": f"{len(os.sched_getaffinity(0))} CPU cores",
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "bytes_of_photos": PHOTOS * SIDE * SIDE * 3,
        "rows": rows,
    }
    pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
