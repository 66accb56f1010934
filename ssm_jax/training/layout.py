"""Which device trains which networks and how many, what they look like, and how arrays get there and back.

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
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssm_jax import core, errors
from ssm_jax.data import batches
from ssm_jax.data.batches import Data
from ssm_jax.data.stream import Images, Split
from ssm_jax.nn.layers import Conv, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.nn.variables import Score, split
from ssm_jax.training.from_config import RunSettings
from ssm_jax.training.step import TrainSpec, merged
from ssm_jax.types import PyTree

DEVICE_AXIS = "devices"

# Of a device's memory, the share that the seeds beside each other may fill; the data needs some too.
_MEMORY_SHARE = 0.5
# At most so many networks beside each other, by backend, from estimates of compiled programs
# (docs/speed.md); nothing of it has been timed by itself. On a TPU eight networks of dense layers
# fit on the chip, and convolutional ones are slower beside each other than one after another. On a GPU
# every convolutional one adds its convolutions to the program that has to be compiled, while less and less
# is left to be shared.
_MOST_DENSE = {"tpu": 8}
_MOST_CONVOLVING = {"gpu": 8, "tpu": 1}
# What is assumed where a device doesn't tell its memory.
_UNKNOWN_MEMORY = 8e9


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

    def own_parts(self, order: np.ndarray) -> np.ndarray:
        """Take the parts of batches that this host's devices have.

        Args:
          order: Which images are in them, int `[D, ..., B]`.

        Returns:
          int `[D, ..., B / shards]`.
        """
        if self.shards == 1:
            return order
        first = _devices().index(jax.local_devices()[0])
        parts = np.split(order, self.shards, axis=-1)
        return np.stack([parts[first + device][device] for device in range(len(order))])

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
    """Put `images` and `labels`, and statistics of the images, onto every device of this host, `[D, ...]`."""
    count = jax.local_device_count()
    arrays = jax.device_get(batches.with_statistics(split))
    return {name: put(np.broadcast_to(array, (count, *array.shape))) for name, array in arrays.items()}


def place_split(images: np.ndarray | Images, labels: np.ndarray, batch_size: int = 1) -> Data | Split:
    """Put a split onto every device of this host, if its images don't stay on disk.

    Args:
      images: The images, uint8 `[N, H, W, C]`.
      labels: The labels, int32 `[N]`.
      batch_size: B, over all devices, to whole ones of which the split is padded, see `pad_split`.
    """
    if isinstance(images, Images):
        return Split(images, labels)
    return replicate(pad_split(images, labels, batch_size))


def pad_split(images: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Pad a split to whole batches, labeled -1 so that an evaluation leaves the padding out."""
    missing = -len(labels) % batch_size
    if not missing:
        return {"images": images, "labels": labels}
    return {
        "images": np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
        "labels": np.pad(labels, (0, missing), constant_values=-1),
    }


def seeds_per_group(run: RunSettings, task: TrainSpec, image_shape: Sequence[int]) -> int:
    """Decide how many networks are trained at the same time, on all devices together.

    On an accelerator the dense layers of several seeds become one batched matrix product, and all seeds
    share the many small operations around their products and convolutions. A CPU is full with one seed:
    there each device trains one network after another (`benchmarks/results/` has the ratios); so does a TPU
    with convolutional networks.
    """
    per_device = run.seeds_per_device
    if not per_device and jax.default_backend() == "cpu":
        per_device = 1
    elif not per_device:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", _UNKNOWN_MEMORY)
        needed = training_bytes(task, image_shape)
        per_device = max(1, int(_MEMORY_SHARE * memory / needed))
        most = _MOST_CONVOLVING if convolves(task) else _MOST_DENSE
        per_device = min(per_device, most.get(jax.default_backend(), per_device))
    spread = per_device * (jax.device_count() if run.mode == "seeds" else 1)
    # Groups of like size: the last one of a remainder would leave devices idle.
    groups = -(-run.seeds // spread)
    return -(-run.seeds // groups)


def scans(task: TrainSpec) -> bool:
    """Tell whether one call of a program may take several steps: on a CPU not with convolutions."""
    return not convolves(task) or jax.default_backend() != "cpu"


def kernel_shapes(task: TrainSpec) -> dict[str, tuple[int, ...]]:
    """Find the kernel shapes of a network's masked layers by their path.

    Raises:
      InputError: The network has no masked layer, or can't be built for the images.
    """
    try:
        model = task.abstract()
    except errors.InputError:
        raise
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(f"the network can't be built: {errors.one_line(error)}") from error
    shapes = {path: layer.shape for path, layer in masked_layers(model)}
    if not shapes:
        raise errors.InputError(
            "the network holds no ssm_jax.Dense or ssm_jax.Conv: nothing can be masked (ssm_jax.supermask "
            "masks the layers of any NNX model)"
        )
    return shapes


def mask_rules(model: nnx.Module) -> str:
    """Name the mask rule of a model, or all of them."""
    return ", ".join(sorted({core.name_of(layer.rule) for _, layer in masked_layers(model)}))


def convolves(task: TrainSpec) -> bool:
    """Tell whether a task's network has a convolution."""
    kinds = (Conv, nnx.Conv, nnx.ConvTranspose)
    return any(isinstance(module, kinds) for _, module in nnx.iter_graph(task.abstract()))


def check_logits(task: TrainSpec, image_shape: Sequence[int], classes: int) -> None:
    """Check that a network of the caller's own fits the dataset.

    Raises:
      InputError: It can't take such images, or doesn't give as many logits as there are classes.
    """
    model = task.abstract()
    model.eval()
    images = jax.ShapeDtypeStruct((2, *image_shape), task.dtype)
    try:
        logits = nnx.eval_shape(lambda model, images: model(images), model, images)
    except Exception as error:  # Whatever a network of the caller's own raises.
        raise errors.InputError(
            f"the network can't take images [B, {', '.join(map(str, image_shape))}]: {errors.one_line(error)}"
        ) from error
    if logits.shape != (2, classes):
        shape = ", ".join(map(str, logits.shape[1:]))
        raise errors.InputError(f"the network gives [B, {shape}]; the dataset needs logits [B, {classes}]")


def seed_decides(task: TrainSpec, seed: int) -> bool:
    """Tell whether another seed begins with other scores."""
    first, second = (
        jax.tree.leaves(nnx.state(task.network(np.int32(each)), Score)) for each in (seed, seed ^ 1)
    )
    return any(not np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def training_bytes(task: TrainSpec, image_shape: Sequence[int]) -> int:
    """Estimate the memory that one network takes in training beside others, in bytes.

    A little more than what compiled programs take: in float32 the kernel, scores, momentum, gradient,
    update and effective kernel, and every array that the forward pass keeps for the backward one.
    """
    model = task.abstract()
    model.train()
    graph, params, *others = split(model)
    images = jax.ShapeDtypeStruct((task.batch_size, *image_shape), task.dtype)

    def kept(params: PyTree, others: PyTree, images: jax.Array) -> PyTree:
        return jax.vjp(lambda params: merged(graph, params, *others)(images), params)[1]

    # In an axis of one, for normalizations that average over devices.
    kept = jax.vmap(kept, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)
    residuals = jax.tree.leaves(jax.eval_shape(kept, params, others, images))
    weights = sum(array.size for array in jax.tree.leaves(params))
    return 6 * 4 * weights + sum(array.size * array.dtype.itemsize for array in residuals)
