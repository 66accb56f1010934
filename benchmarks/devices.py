"""Training on several virtual CPU devices: that its losses agree, and how fast it trains seeds.

`python -m benchmarks.devices losses fcn` prints one JSON line, for as many devices as there are.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

COUNTS = (1, 2, 4, 8)
STEPS = 20
BATCH = 128
# Widths that keep a step short.
NETWORKS = {"fcn": 1.0, "conv2": 0.125}
REPEATS, TURNS = 7, 3


def losses(network: str) -> list[float]:
    """The mean loss of the batch in each of 20 steps, on all devices of this process."""
    from benchmarks import contenders

    config = contenders.config(network, BATCH, "float32")
    # The paper's own, so that the network learns something.
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.05, 5e-4
    config.model.width = NETWORKS[network]
    training = contenders.JaxTraining(config, contenders.noise(network, STEPS * BATCH))
    training.steps = 1
    sums = [0.0]
    for _ in range(STEPS):
        training.call()
        sums.append(float(training.totals()["loss"][0]))
    return [after - before for before, after in itertools.pairwise(sums)]


def seeds(network: str) -> float:
    """Milliseconds per step and seed where every device of this process trains a seed of its own."""
    import jax

    from benchmarks import contenders

    config = contenders.config(network, BATCH, "float32")
    data = contenders.noise(network, 100 * BATCH)
    training = contenders.JaxTraining(config, data, seeds=jax.device_count(), mode="seeds")
    taken = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        training.call()
        taken.append(1e3 * (time.perf_counter() - start) / training.steps / jax.device_count())
    return statistics.median(taken[1:])  # the first compiles


def _elsewhere(what: str, network: str, count: int) -> Any:
    """What a function of this module gives in a process of its own with so many devices."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.devices", what, network],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count), "XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def check() -> dict[str, dict[str, list[float]]]:
    """By network and number of devices, the losses.

    Raises:
      subprocess.CalledProcessError: a process failed.
    """
    return {
        network: {str(count): _elsewhere("losses", network, count) for count in COUNTS}
        for network in NETWORKS
    }


def seeds_at_once() -> dict[str, dict[str, list[float]]]:
    """By network and number of devices, one or as many as there are cores, milliseconds per step and seed.

    Three of each, in turns.

    Raises:
      subprocess.CalledProcessError: a process failed.
    """
    results: dict[str, dict[str, list[float]]] = {}
    for network in NETWORKS:
        results[network] = {"1": [], str(os.cpu_count() or 1): []}
        for _ in range(TURNS):
            for count, times in results[network].items():
                times.append(_elsewhere("seeds", network, int(count)))
    return results


if __name__ == "__main__":
    print(json.dumps({"losses": losses, "seeds": seeds}[sys.argv[1]](sys.argv[2])))
