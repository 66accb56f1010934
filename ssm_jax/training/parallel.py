"""Spreading networks and batches over seeds, devices and hosts.

Arrays carry two leading axes, `[D, G, ...]`: the devices of all hosts and the seeds that each trains
side by side. In mode `data` every device holds the same G networks and its own part of every batch; in
mode `seeds` every device holds G networks of its own and all of every batch. Saved states have one
leading axis instead, `[S, ...]` in the order of the seeds, so that they fit any number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ssm_jax import errors
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.training.step import Data, State, Task, no_sums

DEVICE_AXIS = "devices"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which device trains what.

    Attributes:
      mode: `data` or `seeds`.
      count: S, how many networks are trained at the same time.

    Raises:
      InputError: an unknown mode.
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

    def place(self, tree: Any) -> Any:
        """Put a tree of `[S, ...]` numpy arrays onto this host's devices as `[D, G, ...]`."""
        slots = self.local_slots()
        return jax.tree.map(lambda array: put(np.asarray(array)[slots]), tree)

    def template(self, tree: Any) -> Any:
        """The shapes `[S, ...]` that `gather` would return for a tree of `[D, G, ...]` arrays."""
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct((self.count, *a.shape[2:]), a.dtype), tree)

    def gather(self, tree: Any) -> Any:
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


def _own_rows(array: jax.Array) -> jax.Array:
    """This host's rows of an array over all hosts, without a copy."""
    shards = [shard.data for shard in array.addressable_shards]
    shape = (len(shards), *array.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, _rows_on(jax.local_devices()), shards)


def replicate(tree: Any) -> Any:
    """Put a tree of numpy arrays onto every device of this host: `[D, ...]`."""
    count = jax.local_device_count()
    return jax.tree.map(lambda array: put(np.broadcast_to(array, (count, *array.shape))), tree)


def pad_split(images: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """A split padded to whole batches, the padding labelled -1 so that an evaluation leaves it out.

    Args:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      batch_size: B.
    """
    missing = -len(labels) % batch_size
    return {
        "images": np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
        "labels": np.pad(labels, (0, missing), constant_values=-1),
    }


def _repeated(body: Callable[[Any], Any], carry: Any, times: int) -> Any:
    # A single step stays outside any loop: convolutions inside a loop are slow on the CPU (jax #12868).
    if times == 1:
        return body(carry)
    return lax.scan(lambda carry, _: (body(carry), None), carry, length=times)[0]


class Programs:
    """The compiled programs of a run, each for all of this host's devices and their seeds.

    Args:
      task: what is trained.
      layout: which device trains what.

    Attributes:
      compile_seconds: time spent in initialising, tracing and compiling so far.

    Raises:
      InputError: the batch does not divide by the devices that share it.
    """

    def __init__(self, task: Task, layout: Layout) -> None:
        if task.batch_size % layout.shards:
            raise errors.InputError(
                f"a batch of {task.batch_size} does not divide by {layout.shards} devices: choose a "
                f"config.training.batch_size that is a multiple of {layout.shards}"
            )
        self.task = task
        self.layout = layout
        self.compile_seconds = 0.0
        self._training = task.graph(training=True)
        self._evaluation = task.graph(training=False)
        self._compiled: dict[tuple[str, int], Callable[..., Any]] = {}

    def _shard(self) -> jax.Array | int:
        return lax.axis_index(BATCH_AXIS) if self.layout.shards > 1 else 0

    def _spread(self, function: Callable[..., Any], shared: int = 0, donate: int = 0) -> Callable[..., Any]:
        """Map a one-network function over seeds and devices.

        Args:
          function: of one network, as one device sees it.
          shared: how many of the last arguments have no seeds axis.
          donate: how many of the first arguments may be overwritten.
        """
        if self.layout.mode == "seeds":
            # Nobody shares this batch: an axis of size one makes the averages over it do nothing.
            function = jax.vmap(function, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)

        def seeds(*arguments: Any) -> Any:
            own, common = arguments[: len(arguments) - shared], arguments[len(arguments) - shared :]
            if self.layout.per_device > 1:
                return jax.vmap(lambda *own: function(*own, *common))(*own)
            # vmap over one seed would make every convolution a grouped one.
            result = function(*jax.tree.map(lambda array: array[0], own), *common)
            return jax.tree.map(lambda array: array[None], result)

        axis = BATCH_AXIS if self.layout.mode == "data" else DEVICE_AXIS
        return jax.pmap(seeds, axis_name=axis, donate_argnums=tuple(range(donate)))

    def _call(self, name: str, times: int, make: Callable[[], Callable[..., Any]], *arguments: Any) -> Any:
        if (name, times) not in self._compiled:
            start = time.perf_counter()
            # pmap itself takes this host's rows. Its compiled program takes the arrays over all hosts, and
            # so spares the conversion from one to the other that every call of pmap would make.
            self._compiled[name, times] = make().lower(*jax.tree.map(_own_rows, arguments)).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._compiled[name, times](*arguments)

    def initialize(self, seeds: Sequence[int]) -> tuple[State, nnx.State]:
        """The states before the first step and the frozen kernels and thresholds, `[D, G, ...]`.

        Args:
          seeds: S of them.
        """
        # Not one program: XLA takes minutes to compile the random draws of a hundred layers at once, and
        # a moment for each of the few shapes among them.
        start = time.perf_counter()
        trees = [jax.device_get(self.task.initialize(np.int32(seed))) for seed in seeds]
        self.compile_seconds += time.perf_counter() - start
        state, frozen = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        return self.layout.place(state), self.layout.place(frozen)

    def order(self, state: State) -> jax.Array:
        """The order of every network's current epoch: int32 `[D, G, steps, B]`."""
        return self._call("order", 1, lambda: self._spread(self.task.order), state.seed, state.step)

    def train(self, state: State, frozen: nnx.State, order: jax.Array, data: Data, steps: int) -> State:
        """Take some steps of the current epoch.

        Args:
          state: `[D, G, ...]`; its buffers are reused.
          frozen: `[D, G, ...]`.
          order: of the current epoch.
          data: the training set, `images` and `labels`, replicated `[D, ...]`.
          steps: how many steps, not past the end of the epoch.
        """

        def run(state: State, frozen: nnx.State, order: jax.Array, data: Data) -> State:
            def body(state: State) -> State:
                return self.task.train_step(
                    self._training, state, frozen, data, order, self._shard(), self.layout.shards
                )

            return _repeated(body, state, steps)

        def make() -> Callable[..., Any]:
            return self._spread(run, shared=1, donate=1)

        return self._call("train", steps, make, state, frozen, order, data)

    def evaluate(
        self, state: State, frozen: nnx.State, data: Data, batches_per_call: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loss and accuracy of every network on a whole split.

        Args:
          state: `[D, G, ...]`.
          frozen: `[D, G, ...]`.
          data: the split, padded by `pad_split` and replicated.
          batches_per_call: how many batches a call takes; 0: all of them.

        Returns:
          Summed loss and number of correct answers, float64 `[S]` each.
        """

        def run(state: State, frozen: nnx.State, sums: Any, data: Data, times: int) -> Any:
            def body(sums: Any) -> Any:
                return self.task.evaluate_batch(
                    self._evaluation, state, frozen, data, sums, self._shard(), self.layout.shards
                )

            return _repeated(body, sums, times)

        total = data["labels"].shape[1] // self.task.batch_size
        times = batches_per_call or total
        sums = self._call("sums", 1, lambda: self._spread(lambda _: no_sums()), state.step)
        for first in range(0, total, times):
            count = min(times, total - first)

            def make(count: int = count) -> Callable[..., Any]:
                return self._spread(functools.partial(run, times=count), shared=1)

            # A split of another size is another program.
            sums = self._call(f"evaluate {total}", count, make, state, frozen, sums, data)
            jax.block_until_ready(sums)
        gathered = self.layout.gather(sums)
        return gathered["loss"].astype(np.float64), gathered["correct"].astype(np.float64)

    def mask_counts(self, state: State, frozen: nnx.State) -> dict[str, np.ndarray]:
        """By the path of every masked layer, the numbers of -1, 0 and +1: int `[S, 3]`."""

        def make() -> Callable[..., Any]:
            return self._spread(functools.partial(self.task.mask_counts, self._evaluation))

        counts = self.layout.gather(self._call("mask_counts", 1, make, state, frozen))
        return {path: np.stack(shares, -1) for path, shares in counts.items()}
