"""Arrays of .npz files: what is not asked for is not read, and nothing is read before its size is known."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ssm_jax import files

# What reading a damaged or foreign file as .npz raises.
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class Member:
    """What the header of an array in an .npz says.

    Attributes:
      shape: Its shape.
      dtype: Its type, never of Python objects.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def members(path: pathlib.Path) -> dict[str, Member]:
    """Read what an .npz holds, without its arrays: a small file may hold large ones.

    Args:
      path: The file.

    Returns:
      Its members by name.

    Raises:
      DAMAGE: It is damaged, or holds something else.
    """
    files.check_regular(path)
    by_name: dict[str, Member] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in by_name:
                raise ValueError(f"it holds {name} twice")
            if name == info.filename:
                raise ValueError(f"its member {name} is no array")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                if version not in _HEADERS:
                    raise ValueError(f"its member {name} is of a version of .npy that is not read")
                shape, _, dtype = _HEADERS[version](file)
                begin = file.tell()
            if dtype.hasobject:
                raise ValueError(f"its member {name} holds Python objects, which are not read")
            by_name[name] = member = Member(shape, dtype)
            if begin + member.size != info.file_size:
                raise ValueError(f"its member {name} has not the size that its header says")
    return by_name


_HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read arrays of an .npz.

    Args:
      path: The file.
      names: The names of the arrays, some of `members`.

    Raises:
      DAMAGE: It is damaged, or lacks one of them.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in names:
            with archive.open(f"{name}.npy") as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays
