"""CRC-32C against the one of another package and the published check value."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboardX.crc32c import crc32c as reference
from tensorboardX.record_writer import masked_crc32c

from ssm_jax.data import crc


def test_the_check_value() -> None:
    assert crc.crc32c(b"123456789") == 0xE3069283


# Around the four bytes that take up what came before, and around a block.
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 8, 300, 4095, 4096, 4097, 4099, 4100, 8192, 9000])
def test_every_size(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc.crc32c(data) == crc.crc32c(memoryview(data)) == reference(data)
    assert crc.masked(crc.crc32c(data)) == masked_crc32c(data)
