"""The losses of the same training on 1, 2, 4 and 8 virtual CPU devices: that they agree, not how fast.

`python -m benchmarks.devices fcn` prints one JSON line, for as many devices as there are.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

COUNTS = (1, 2, 4, 8)
STEPS = 20
BATCH = 128
# Widths that keep a step short.
NETWORKS = {"fcn": 1.0, "conv2": 0.125}


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


def check() -> dict[str, dict[str, list[float]]]:
    """By network and number of devices, the losses; each from a process of its own.

    Raises:
      subprocess.CalledProcessError: one of them failed.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for network in NETWORKS:
        found[network] = {}
        for count in COUNTS:
            process = subprocess.run(
                [sys.executable, "-m", "benchmarks.devices", network],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(count), "XLA_FLAGS": ""},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found[network][str(count)] = json.loads(process.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(losses(sys.argv[1])))
