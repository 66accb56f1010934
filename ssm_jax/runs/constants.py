"""Signed constants, stored as signs and one number: a byte a weight instead of four."""

from __future__ import annotations

from typing import Any

import numpy as np


def pack(leaves: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Store signed constants as their signs, without loss.

    Args:
      leaves: arrays `[S, ...]` by name.

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


def unpack(packed: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """The inverse of `pack`."""
    leaves = dict(packed)
    for name in names:
        sign, constant = leaves.pop(f"{name}/sign"), leaves.pop(f"{name}/constant")
        leaves[name] = sign * constant.reshape(-1, *[1] * (sign.ndim - 1))
    return leaves


def packed_template(leaves: dict[str, Any], names: list[str]) -> dict[str, np.ndarray]:
    template = {}
    for name, leaf in leaves.items():
        if name in names:
            template[f"{name}/sign"] = np.zeros(leaf.shape, np.int8)
            template[f"{name}/constant"] = np.zeros(leaf.shape[:1], leaf.dtype)
        else:
            template[name] = np.zeros(leaf.shape, leaf.dtype)
    return template
