"""Batches of a split whose images stay on disk, on the devices that train or evaluate on them."""

from __future__ import annotations

import jax
import numpy as np

from ssm_jax.data.batches import FEWEST, Data
from ssm_jax.data.stream import Split
from ssm_jax.training.layout import Layout, put


def own_batches(layout: Layout, order: jax.Array) -> np.ndarray:
    """Take this host's part of an order, of each batch what a device trains on.

    Args:
      layout: Which device trains which networks.
      order: Which images are in every network's batches, int32 `[all devices, G, batches, B]`.

    Returns:
      int32 `[D, G, batches, B / shards]`.
    """
    return layout.own_parts(np.concatenate([shard.data for shard in order.addressable_shards]))


def whole_split(layout: Layout, examples: int, batch_size: int) -> np.ndarray:
    """Put all examples into batches in their own order, of each what a device evaluates.

    Args:
      layout: Which device trains which networks.
      examples: N, the size of the split.
      batch_size: B, over all devices.

    Returns:
      int `[D, batches, B / shards]`, or `[1, batches, B]` for devices that all have the same; -1 completes
      the last batch.
    """
    missing = -examples % batch_size
    padded = np.pad(np.arange(examples), (0, missing), constant_values=-1).reshape(1, -1, batch_size)
    if layout.shards == 1:
        return padded
    return layout.own_parts(np.broadcast_to(padded, (jax.local_device_count(), *padded.shape[1:])))


def put_batches(split: Split, order: np.ndarray, first: int, count: int) -> Data:
    """Read some batches and put them onto this host's devices.

    Args:
      split: The split.
      order: Which of its images are in the batches, int `[D, ..., batches, B]`, or `[1, ...]` for devices
        that all have the same.
      first: The number of the first batch.
      count: How many there are.

    Returns:
      `images`, `labels` and `first`, see `batches.Data`, each `[D, ...]`; if there are few images, some of
      zeros follow.
    """
    devices = jax.local_device_count()
    arrays = split.read(order, first, count)
    images = arrays["images"]
    missing = max(0, FEWEST - images.shape[-4])
    if missing:
        margins = [(0, missing if axis == images.ndim - 4 else 0) for axis in range(images.ndim)]
        arrays["images"] = np.pad(images, margins)
    return {name: put(np.broadcast_to(array, (devices, *array.shape[1:]))) for name, array in arrays.items()}
