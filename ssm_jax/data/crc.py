"""CRC-32C, the checksum of tfrecord files, with numpy: Python has none and is slow at it byte by byte."""

from __future__ import annotations

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_BLOCK = 4096


def _table() -> np.ndarray:
    """Compute, for each byte value and each number of bytes behind it, what it adds to the checksum.

    Returns:
      uint32 `[_BLOCK, 256]`; row k is for a byte with k bytes behind it.
    """
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(_POLYNOMIAL), row >> 1)
    rows = [row]
    for _ in range(_BLOCK - 1):
        rows.append(rows[0][rows[-1] & 0xFF] ^ (rows[-1] >> 8))
    return np.stack(rows)


_TABLE = _table()
# Where the row of a block's last byte begins in the flat table, of the one before it, and so on, reversed.
_ROWS = np.arange(_BLOCK - 1, -1, -1, dtype=np.intp) * 256


def crc32c(data: bytes | memoryview) -> int:
    """Compute the CRC-32C of some bytes.

    The checksum is linear: what was computed of the bytes before is added to the next four, then every byte
    adds what the table says of its place.

    Args:
      data: Any number of bytes.

    Examples:
      >>> hex(crc32c(b"123456789"))
      '0xe3069283'
    """
    crc = 0xFFFFFFFF
    array = np.frombuffer(data, np.uint8)
    # All blocks but the first are whole.
    first = len(array) % _BLOCK
    if 0 < first < 4:
        for byte in array[:first].tolist():
            crc = int(_TABLE[0, (crc ^ byte) & 0xFF]) ^ (crc >> 8)
    elif first:
        crc = _add(crc, array[:first])
    for start in range(first, len(array), _BLOCK):
        crc = _add(crc, array[start : start + _BLOCK])
    return crc ^ 0xFFFFFFFF


def _add(crc: int, block: np.ndarray) -> int:
    places = _ROWS[-len(block) :] + block
    places[:4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
    return int(np.bitwise_xor.reduce(_TABLE.ravel()[places]))


def masked(crc: int) -> int:
    """Mask a checksum as tfrecord files store it: rotated by 15 bits, plus a constant.

    Args:
      crc: A CRC-32C.
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
