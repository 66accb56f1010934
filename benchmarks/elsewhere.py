"""PyTorch in a process of another Python, where it can't be installed beside this JAX.

Run as a program, it trains a network and takes so many steps for every line of its input, a number.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np


class Elsewhere:
    """A contender: `benchmarks.pytorch` in another process.

    Args:
      python: The other Python, which has torch and numpy.
      network: Name of the network.
      threshold: Share of the largest score, of its masks.
      batch_size: B.
      compiled: Whether `torch.compile` makes its forward and backward pass.
    """

    compile_seconds = 0.0
    steps = 1

    def __init__(self, python: str, network: str, threshold: float, batch_size: int, compiled: bool) -> None:
        command = [python, "-m", "benchmarks.elsewhere", network, str(threshold), str(batch_size)]
        self._process = subprocess.Popen(
            command + ["--compiled"] * compiled,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads that wait for work by turning would slow down the contenders of the other process.
            env=os.environ | {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"},
        )
        self.settings = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"PyTorch ended with status {self._process.returncode}")
        return line.strip()

    def call(self) -> None:
        """Take a step and wait for it."""
        assert self._process.stdin
        self._process.stdin.write("1\n")
        self._process.stdin.flush()
        self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate("")


def main(arguments: Sequence[str]) -> None:
    """Train as the lines of the standard input say."""
    from benchmarks import pytorch  # which the other process does not have

    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("threshold", type=float)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args(arguments)
    draw = np.random.default_rng(0)
    shape = (28, 28, 1) if options.network == "fcn" else (32, 32, 3)
    images = draw.integers(0, 256, (2560, *shape), np.uint8)
    labels = draw.integers(0, 10, 2560).astype(np.int32)

    def make(channels_last: bool) -> pytorch.Training:
        training = pytorch.Training(
            pytorch.build(options.network, shape, 10, threshold=options.threshold),
            images,
            labels,
            batch_size=options.batch_size,
            channels_last=channels_last,
            learning_rate=1e-6,
            weight_decay=1e-9,
        )
        if options.compiled:
            training.compile()
        return training

    # Compiling takes a minute a time: then only what is the faster by far where it is not compiled.
    only_last = options.network == "fcn" or options.compiled
    training = pytorch.fastest(make, [True] if only_last else [True, False])
    last = training.memory_format is pytorch.torch.channels_last
    print(f"channels {'last' if last else 'first'}, {training.threads} threads", flush=True)
    for line in sys.stdin:
        training.run(int(line))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
