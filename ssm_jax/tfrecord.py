"""Records of tfrecord files, as which TensorBoard's files are stored too.

A record is its length (8 bytes), a checksum of that (4), its content, and a checksum of that (4).
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterator

import google_crc32c

from ssm_jax import files


def record(content: bytes) -> bytes:
    """Frame content as a record."""
    size = struct.pack("<Q", len(content))
    return size + _checksum(size) + content + _checksum(content)


def read(path: pathlib.Path) -> Iterator[bytes]:
    """Yield the contents of a file's records, verified.

    Raises:
      OSError: The file cannot be read.
      ValueError: It is damaged; names the record.
    """
    data = memoryview(files.read_whole(path))
    number = 0
    while data:
        number += 1
        length = struct.unpack_from("<Q", data)[0] if len(data) >= 12 else len(data)
        if len(data) >= 12 and _checksum(bytes(data[:8])) != data[8:12]:
            raise ValueError(f"{path}, the length of record {number} does not fit its checksum")
        if len(data) < 16 + length:
            raise ValueError(f"{path} ends within a record")
        content = bytes(data[12 : 12 + length])
        if _checksum(content) != data[12 + length : 16 + length]:
            raise ValueError(f"{path}, record {number} does not fit its checksum")
        yield content
        data = data[16 + length :]


def _checksum(data: bytes) -> bytes:
    """Compute the CRC-32C, rotated by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
