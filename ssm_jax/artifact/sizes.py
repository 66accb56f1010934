"""How many bytes the weights of a network take, by several ways to write them down."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from ssm_jax import graph


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
            entropy=math.ceil(sum(map(entropy, kernels)) / 8),
        )


def entropy(kernel: graph.Kernel) -> float:
    """Compute the entropy of a kernel in bits, see `Sizes`.

    Args:
      kernel: The kernel.

    Examples:
      >>> entropy(graph.Kernel(np.int8([[0, 1], [0, 1]])))
      4.0
    """
    values, whole = kernel.values, kernel.whole
    counts = np.bincount((values if whole else (values != 0)).astype(np.uint8).ravel())
    counts = counts[counts > 0]
    bits = float((counts * np.log2(values.size / counts)).sum())
    return bits if whole else bits + 32 * kernel.remaining
