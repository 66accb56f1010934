"""How many bytes weights take."""

import numpy as np
import pytest

from ssm_jax import graph
from ssm_jax.artifact.sizes import Sizes


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        # 16 weights of two values, half and half: a bit each.
        (np.int8([[1, 0] * 8]), Sizes(weights=16, float32=64, two_bits=4, entropy=2)),
        # 3 is no value of two bits.
        (np.int8([[3, 0] * 8]), Sizes(weights=16, float32=64, two_bits=None, entropy=2)),
        # Where the zeros are, and 8 numbers of 4 bytes.
        (np.float32([[0.5, 0] * 8]), Sizes(weights=16, float32=64, two_bits=None, entropy=2 + 32)),
        (np.zeros((4, 4), np.int8), Sizes(weights=16, float32=64, two_bits=4, entropy=0)),
    ],
)
def test_sizes_of_a_kernel(values, sizes):
    assert Sizes.of([graph.Kernel(values)]) == sizes


def test_sizes_of_kernels_add_up():
    kernels = [graph.Kernel(np.int8([[1, 0] * 8])), graph.Kernel(np.zeros((1, 16), np.int8))]
    assert Sizes.of(kernels) == Sizes(weights=32, float32=128, two_bits=8, entropy=2)
