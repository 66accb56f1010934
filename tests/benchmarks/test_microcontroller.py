"""The benchmark of the C for microcontrollers: how many bytes weights take."""

import numpy as np

from benchmarks import microcontroller
from ssm_jax import graph


def test_encodings_are_counted():
    values = np.zeros((300, 1), np.int8)
    values[[3, 260], 0] = 1, -1
    nodes = (graph.Flatten(inputs=(0,)), graph.Dense(inputs=(1,), name="d", kernel=graph.Kernel(values)))
    network = graph.Network(image_shape=(1, 300, 1), classes=1, nodes=nodes)
    # Gaps of 3 and 256: a byte for the first, three for the second. And 3, 256 and 39 with 6 or 7 low bits.
    assert microcontroller.encodings(network) == {
        "gap_bytes": 4,
        "two_bits": 75,
        "five_in_a_byte": 60,
        "stream": 4,
    }
