"""Signed constants, stored as signs and one number: a byte a weight instead of four."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np


def pack(leaves: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Store signed constants as their signs, without loss.

    Args:
      leaves: Arrays `[S, ...]` by name.

    Returns:
      The arrays, where `name` of a signed constant has become `name/sign` (int8) and `name/constant`
      (`[S]`), and the names of the signed constants.
    """
    packed, names = {}, []
    for name, array in leaves.items():
        size = np.abs(array.reshape(len(array), -1))
        constant = size[:, :1]
        # A scalar per seed, such as a threshold, has nothing to gain.
        if array.ndim < 3 or not (constant > 0).all() or not (size == constant).all():
            packed[name] = array
            continue
        names.append(name)
        packed[f"{name}/sign"] = np.sign(array).astype(np.int8)
        packed[f"{name}/constant"] = constant[:, 0]
    return packed, names


def unpack(packed: Mapping[str, np.ndarray], names: Collection[str]) -> dict[str, np.ndarray]:
    """Invert `pack`.

    Args:
      packed: The arrays that `pack` returned.
      names: The names of the signed constants.

    Returns:
      Arrays `[S, ...]` by name.
    """
    leaves = dict(packed)
    for name in names:
        sign, constant = leaves.pop(f"{name}/sign"), leaves.pop(f"{name}/constant")
        leaves[name] = sign * constant.reshape(-1, *[1] * (sign.ndim - 1))
    return leaves


def packed_template(leaves: Mapping[str, Any], names: Collection[str]) -> dict[str, np.ndarray]:
    """Make arrays of the types that `pack` would give; they take no memory, whatever their shape.

    Args:
      leaves: Arrays or shapes `[S, ...]` by name.
      names: The names of the signed constants.

    Returns:
      Read-only arrays by name.
    """

    def blank(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), shape)

    template = {}
    for name, leaf in leaves.items():
        if name in names:
            template[f"{name}/sign"] = blank(leaf.shape, np.int8)
            template[f"{name}/constant"] = blank(leaf.shape[:1], leaf.dtype)
        else:
            template[name] = blank(leaf.shape, leaf.dtype)
    return template
