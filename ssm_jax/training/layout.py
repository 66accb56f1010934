"""Which device trains which networks, and how arrays get there and back.

Arrays carry two leading axes, `[D, G, ...]`: the devices of all hosts and the seeds that each trains
side by side. In mode `data` every device holds the same G networks and its own part of every batch; in
mode `seeds` every device holds G networks of its own and all of every batch. Saved states have one
leading axis instead, `[S, ...]` in the order of the seeds, so that they fit any number of devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssm_jax import errors
from ssm_jax.data import batches
from ssm_jax.data.batches import Data
from ssm_jax.types import PyTree

DEVICE_AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which device trains what.

    Attributes:
      mode: `data` or `seeds`.
      count: S, how many networks are trained at the same time.

    Raises:
      InputError: The mode is unknown.
    """

    mode: str
    count: int

    def __post_init__(self) -> None:
        if self.mode not in ("data", "seeds"):
            raise errors.unknown("parallel mode", self.mode, ("data", "seeds"))

    @property
    def shards(self) -> int:
        """Into how many parts a batch is divided."""
        return jax.device_count() if self.mode == "data" else 1

    @property
    def per_device(self) -> int:
        """G, the seeds that a device trains side by side."""
        return self.count if self.mode == "data" else -(-self.count // jax.device_count())

    def slots(self) -> np.ndarray:
        """int `[all devices, G]`: which of the S networks each slot trains.

        Slots that are left over repeat the last network; their results are dropped.
        """
        devices = jax.device_count()
        if self.mode == "data":
            return np.tile(np.arange(self.per_device), (devices, 1))
        flat = np.minimum(np.arange(devices * self.per_device), self.count - 1)
        return flat.reshape(devices, self.per_device)

    def local_slots(self) -> np.ndarray:
        """The rows of `slots` for this host's devices, `[D, G]`."""
        first = _devices().index(jax.local_devices()[0])
        return self.slots()[first : first + jax.local_device_count()]

    def place(self, tree: PyTree) -> PyTree:
        """Put a tree of `[S, ...]` numpy arrays onto this host's devices as `[D, G, ...]`."""
        slots = self.local_slots()
        return jax.tree.map(lambda array: put(np.asarray(array)[slots]), tree)

    def template(self, tree: PyTree) -> PyTree:
        """The shapes `[S, ...]` that `gather` would return for a tree of `[D, G, ...]` arrays."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((self.count, *a.shape[2:]), a.dtype), tree)

    def gather(self, tree: PyTree) -> PyTree:
        """The inverse of `place`: numpy arrays `[S, ...]`, the same on every host."""
        if self.mode == "data":
            first = jax.device_get(jax.tree.map(lambda array: array.addressable_shards[0].data, tree))
            return jax.tree.map(lambda array: array[0], first)
        if jax.process_count() > 1:
            rows = multihost_utils.process_allgather(tree, tiled=True)
        else:
            rows = jax.device_get(tree)
        # The first slot of every network; later ones only fill the last device.
        _, first = np.unique(self.slots(), return_index=True)
        return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:])[first], rows)


def _devices() -> list[jax.Device]:
    """All devices, host after host, which is the order in which pmap numbers them."""
    return [device for process in range(jax.process_count()) for device in jax.local_devices(process)]


def _rows_on(devices: Sequence[jax.Device]) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(devices), (DEVICE_AXIS,)), PartitionSpec(DEVICE_AXIS))


def put(array: np.ndarray) -> jax.Array:
    """Put `[D, ...]` onto this host's D devices, one row each, as its part of an array over all hosts."""
    if jax.process_count() == 1:
        return jax.device_put(array, _rows_on(_devices()))
    return jax.make_array_from_process_local_data(_rows_on(_devices()), array)


def own_rows(array: jax.Array) -> jax.Array:
    """This host's rows of an array over all hosts, without a copy."""
    shards = [shard.data for shard in array.addressable_shards]
    shape = (len(shards), *array.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, _rows_on(jax.local_devices()), shards)


def replicate(split: Mapping[str, np.ndarray]) -> Data:
    """Put a split onto every device of this host as a data set, `[D, ...]`.

    Args:
      split: `images` and `labels`; the statistics of the images are added.
    """
    count = jax.local_device_count()
    arrays = jax.device_get(batches.with_statistics(split))
    return {name: put(np.broadcast_to(array, (count, *array.shape))) for name, array in arrays.items()}


def pad_split(images: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Pad a split to whole batches, labeled -1 so that an evaluation leaves the padding out.

    Args:
      images: The images, uint8 `[N, H, W, C]`.
      labels: The labels, int32 `[N]`.
      batch_size: B, over all devices.
    """
    missing = -len(labels) % batch_size
    return {
        "images": np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
        "labels": np.pad(labels, (0, missing), constant_values=-1),
    }
