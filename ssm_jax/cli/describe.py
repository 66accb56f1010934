"""What the verbs say of a network: its record in one line, and the sizes of its weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ssm_jax.artifact import coder, graph

_LONGEST = 200


def plain(value: object) -> str:
    """Write a value of a record in one line of bearable length; a file may hold any.

    Args:
      value: What JSON can hold.

    Examples:
      >>> plain("fcn"), plain(0.5), plain(["a", "b"]), plain({"jax": "0.12", "numpy": "2.4"})
      ('fcn', '0.5', 'a, b', 'jax 0.12, numpy 2.4')
    """
    if isinstance(value, dict):
        text = ", ".join(f"{name} {each}" for name, each in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def headline(record: Mapping[str, Any]) -> str:
    """Say in one line what was trained and how well, as far as a record holds it.

    Args:
      record: The record of an artifact.

    Examples:
      >>> headline({"network": "fcn", "dataset": "mnist", "seed": 0, "remaining_weights": 0.0377})
      'fcn on mnist, seed 0: remaining weights 3.77 %'
    """
    given = {name: plain(value) for name, value in record.items() if value is not None}
    what = [
        " on ".join(given[name] for name in ("network", "dataset") if name in given),
        given.get("rule", ""),
        f"seed {given['seed']}" if "seed" in given else "",
        f"{given['epochs']} epochs" if "epochs" in given else "",
    ]
    results = (("test_accuracy", "test accuracy", 1), ("remaining_weights", "remaining weights", 100))
    how = [
        f"{text} {factor * record[name]:.2f} %"
        for name, text, factor in results
        if isinstance(record.get(name), (int, float))
    ]
    return ": ".join(filter(None, (", ".join(filter(None, what)), ", ".join(how))))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Bytes of kernels, without normalizations and the like.

    Attributes:
      weights: Number of weights.
      float32: Bytes as float32.
      two_bits: Bytes at two bits a weight, in which -1, 0 and 1 fit; None where there are other values.
      entropy: Bytes below which no coder gets that codes every weight by itself, by the shares of its kernel;
        of one that is not whole numbers it is the places of the zeros, and 32 bits for every other weight.
    """

    weights: int
    float32: int
    two_bits: int | None
    entropy: int

    @classmethod
    def of(cls, kernels: Iterable[graph.Kernel]) -> Sizes:
        """Compute the sizes of kernels together.

        Args:
          kernels: One or more.

        Examples:
          >>> Sizes.of([graph.Kernel(np.int8([[1, -1, 0, 0], [1, 0, 0, -1]]))])
          Sizes(weights=8, float32=32, two_bits=2, entropy=2)
        """
        kernels = list(kernels)
        weights = sum(kernel.values.size for kernel in kernels)
        return cls(
            weights=weights,
            float32=4 * weights,
            two_bits=math.ceil(weights / 4) if all(kernel.ternary for kernel in kernels) else None,
            entropy=math.ceil(sum(map(_entropy, kernels)) / 8),
        )

    def lines(self, size: int) -> list[str]:
        """Lay the sizes out beside that of a file, a line each.

        Args:
          size: Bytes of the file.
        """
        ways = {
            "the weights as float32": self.float32,
            "at 2 bits a weight": self.two_bits,
            "the weights' entropy": self.entropy,
        }
        return [
            f"  {what:22}  {number:>13,} bytes  {number / size:9,.2f} times the file"
            for what, number in ways.items()
            if number is not None
        ]


def _entropy(kernel: graph.Kernel) -> float:
    if kernel.values.dtype == np.int8:
        return coder.entropy(kernel.values)
    return coder.entropy((kernel.values != 0).astype(np.int8)) + 32 * kernel.remaining
