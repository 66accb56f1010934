"""The compiled programs of a run: the pure functions of `step`, spread over seeds and devices."""

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

from ssm_jax import errors
from ssm_jax.data import batches
from ssm_jax.data.stream import Split
from ssm_jax.nn import statistics
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.nn.variables import split
from ssm_jax.training import evaluation, streaming
from ssm_jax.training.layout import DEVICE_AXIS, Layout, own_rows
from ssm_jax.training.step import Data, State, TrainSpec, merged
from ssm_jax.types import PyTree


def _repeated(body: Callable[[PyTree], PyTree], carry: PyTree, times: int) -> PyTree:
    # A single step stays outside any loop: convolutions inside a loop are slow on the CPU (jax #12868).
    if times == 1:
        return body(carry)
    return lax.scan(lambda carry, _: (body(carry), None), carry, length=times)[0]


def take_steps(
    task: TrainSpec,
    graph: nnx.GraphDef[Any],
    state: State,
    frozen: nnx.State,
    order: jax.Array | None,
    data: Data,
    steps: int,
    shard: jax.Array | int = 0,
    shards: int = 1,
) -> State:
    """Take some steps of one epoch of one network, on batches from a data set that lies on the device.

    Args:
      graph: The network's definition in training mode.
      order: The epoch's order, int32 `[steps of the epoch, B]`; of some batches None.
      data: The training set or some batches of it, see `batches.Data`.
    """

    def kernels_of(state: State) -> nnx.State:
        return task.apply_masks(graph, state, frozen, training=True).params

    def step(state: State, kernels: nnx.State | None) -> State:
        images, labels = task.batch(state, data, order, shard, shards)
        return task.train_step(graph, state, frozen, images, labels, kernels, shard)

    def body(carry: tuple[State, nnx.State]) -> tuple[State, nnx.State]:
        # Effective kernels go from step to step: the update of the scores makes the next ones.
        state = step(*carry)
        return state, kernels_of(state)

    if task.searches:  # a search serves the kernels and their gradient: both are made in one step
        return _repeated(lambda state: step(state, None), state, steps)
    return _repeated(body, (state, kernels_of(state)), steps)[0]


class CompiledSteps:
    """The compiled programs of a run, each for all of this host's devices and their seeds.

    Attributes:
      compile_seconds: Time spent in initializing, tracing and compiling so far.

    Raises:
      InputError: The batch does not divide by the devices that share it.
    """

    def __init__(self, task: TrainSpec, layout: Layout) -> None:
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
        self._epoch: tuple[tuple[bytes, int], Any] | None = None  # whose order is at hand

    def _shard(self) -> jax.Array | int:
        return lax.axis_index(BATCH_AXIS) if self.layout.shards > 1 else 0

    def _spread(self, function: Callable[..., Any], shared: int = 0, donate: int = 0) -> Any:
        """Map a function of one network over seeds, which the `shared` last arguments lack, and devices."""
        if self.layout.mode == "seeds":
            # Nobody shares this batch: an axis of size one makes the averages over it do nothing.
            function = jax.vmap(function, in_axes=None, out_axes=None, axis_name=BATCH_AXIS, axis_size=1)

        def seeds(*arguments: PyTree) -> PyTree:
            own, common = arguments[: len(arguments) - shared], arguments[len(arguments) - shared :]
            if self.layout.per_device > 1:
                return jax.vmap(lambda *own: function(*own, *common))(*own)
            # vmap over one seed would make every convolution a grouped one.
            result = function(*jax.tree.map(lambda array: array[0], own), *common)
            return jax.tree.map(lambda array: array[None], result)

        axis = BATCH_AXIS if self.layout.mode == "data" else DEVICE_AXIS
        return jax.pmap(seeds, axis_name=axis, donate_argnums=tuple(range(donate)))

    def _call(self, name: str, times: int, make: Callable[[], Any], *arguments: PyTree) -> PyTree:
        if (name, times) not in self._compiled:
            start = time.perf_counter()
            # pmap itself takes this host's rows. Its compiled program takes the arrays over all hosts, and
            # so spares the conversion from one to the other that every call of pmap would make.
            self._compiled[name, times] = make().lower(*jax.tree.map(own_rows, arguments)).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._compiled[name, times](*arguments)

    def initialize(self, seeds: Sequence[int]) -> tuple[State, nnx.State]:
        """The states before the first step and the frozen kernels, `[D, G, ...]`."""
        # Not one program: XLA takes minutes to compile the random draws of a hundred layers at once, and
        # a moment for each of the few shapes among them.
        start = time.perf_counter()
        trees = [jax.device_get(self.task.initialize(np.int32(seed))) for seed in seeds]
        self.compile_seconds += time.perf_counter() - start
        state, frozen = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        return self.layout.place(state), self.layout.place(frozen)

    def _order(self, state: State, data: Data | Split) -> tuple[Any, int]:
        """The order of every network's current epoch, see `_order_for`, made once an epoch; and the number of
        the next step in it.
        """
        rows = [[s.data for s in array.addressable_shards] for array in (state.seed, state.step)]
        seeds, steps = (np.concatenate(parts) for parts in jax.device_get(rows))
        number, row = divmod(int(steps[0, 0]), self.task.steps_per_epoch)
        epoch = seeds.tobytes(), number
        if self._epoch is None or self._epoch[0] != epoch:
            order = self._call("order", 1, lambda: self._spread(self.task.order), state.seed, state.step)
            self._epoch = epoch, self._order_for(data, order)
        return self._epoch[1], row

    def _order_for(self, data: Data | Split, order: jax.Array) -> Any:
        """An order as `_ready` takes it: where images stay on disk, this host's part of it, on the host."""
        return streaming.own_batches(self.layout, order) if isinstance(data, Split) else order

    def _ready(self, data: Data | Split, order: Any, first: int, count: int) -> tuple[Any, Data]:
        """Order and data as programs take them: where images stay on disk, None and so many batches."""
        if not isinstance(data, Split):
            return order, data
        some = streaming.put_batches(data, order, first, count)
        images = some["images"]
        # By a program of their own, as those of a whole split: one with the training would round otherwise.
        name = f"statistics {images.shape}"
        known = self._call(name, count, lambda: jax.pmap(batches.statistics), images)
        return None, some | dict(zip(("mean", "deviation"), known))

    def train(self, state: State, frozen: nnx.State, data: Data | Split, steps: int) -> State:
        """Take some steps of the current epoch.

        Args:
          state: The networks' state, `[D, G, ...]`; its buffers are reused.
          data: The training set, replicated `[D, ...]` or on disk.
          steps: The number of steps, not past the end of the epoch.
        """

        def run(state: State, frozen: nnx.State, order: jax.Array | None, data: Data) -> State:
            shard = self._shard(), self.layout.shards
            return take_steps(self.task, self._training, state, frozen, order, data, steps, *shard)

        order, ready = self._ready(data, *self._order(state, data), steps)

        def make() -> Any:
            return self._spread(run, shared=0 if order is None else 1, donate=1)

        return self._call("train", steps, make, state, frozen, order, ready)

    def recalibrate(
        self, state: State, frozen: nnx.State, data: Data | Split, batches_per_call: int
    ) -> State:
        """Measure the statistics of batch normalizations anew, see `ssm_jax.recalibrate`.

        They follow from the network alone: a second call changes nothing, and training doesn't read them.

        Args:
          data: The training set, replicated `[D, ...]` or on disk.
          batches_per_call: The number of batches that a call takes; 0: all of them.

        Returns:
          The state with these statistics; as it is where the network has no batch normalization.
        """
        task = self.task
        if not statistics.normalizations(task.abstract()):
            return state
        graph = evaluation.measuring_graph(task)

        def begin(state: State, frozen: nnx.State) -> PyTree:
            model = merged(graph, state.params, frozen, state.rest, task.random(state))
            return np.int32(0), statistics.moments(model)

        def run(
            state: State, frozen: nnx.State, known: PyTree, order: jax.Array | None, data: Data, times: int
        ) -> Any:
            network = task.apply_masks(graph, state, frozen, training=False)

            def body(known: PyTree) -> PyTree:
                return evaluation.recalibrate_batch(
                    task, network, data, order, known, self._shard(), self.layout.shards
                )

            return _repeated(body, known, times)

        def end(state: State, frozen: nnx.State, known: PyTree) -> State:
            model = merged(graph, state.params, frozen, state.rest, task.random(state))
            statistics.set_moments(model, known[1])
            return dataclasses.replace(state, rest=split(model).rest)

        def spread(function: Callable[..., Any], shared: int = 0) -> Callable[[], Any]:
            return lambda: self._spread(function, shared=shared)

        order = self._call(
            "recalibration order",
            1,
            spread(functools.partial(evaluation.recalibration_order, task)),
            state.seed,
        )
        known = self._call("recalibration begin", 1, spread(begin), state, frozen)
        total = order.shape[2]
        order = self._order_for(data, order)
        times = self._at_once(data, batches_per_call or total, self.layout.count)
        for first in range(0, total, times):
            count = min(times, total - first)
            some, ready = self._ready(data, order, first, count)
            program = spread(functools.partial(run, times=count), shared=0 if some is None else 1)
            known = self._call("recalibrate", count, program, state, frozen, known, some, ready)
            jax.block_until_ready(known)
        result: State = self._call("recalibration end", 1, spread(end), state, frozen, known)
        return result

    def evaluate(
        self, state: State, frozen: nnx.State, data: Data | Split, batches_per_call: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate every network on a whole split.

        Args:
          data: The split, padded by `pad_split` and replicated, or on disk.
          batches_per_call: The number of batches that a call takes; 0: all of them.

        Returns:
          Summed loss and number of correct answers, float64 `[S]` each.
        """

        def run(state: State, frozen: nnx.State, sums: PyTree, data: Data, times: int) -> PyTree:
            network = self.task.apply_masks(self._evaluation, state, frozen, training=False)

            def body(sums: PyTree) -> PyTree:
                return evaluation.evaluate_batch(
                    self.task, network, data, sums, self._shard(), self.layout.shards
                )

            return _repeated(body, sums, times)

        order = None
        if isinstance(data, Split):
            order = streaming.whole_split(self.layout, len(data.labels), self.task.batch_size)
            total = order.shape[1]
        else:
            total = data["labels"].shape[1] // self.task.batch_size
        times = self._at_once(data, batches_per_call or total)
        sums = self._call("sums", 1, lambda: self._spread(lambda _: evaluation.no_sums()), state.step)
        for first in range(0, total, times):
            count = min(times, total - first)

            def make(count: int = count) -> Any:
                return self._spread(functools.partial(run, times=count), shared=1)

            # A split of another size is another program.
            _, ready = self._ready(data, order, first, count)
            sums = self._call(f"evaluate {total}", count, make, state, frozen, sums, ready)
            jax.block_until_ready(sums)
        gathered = self.layout.gather(sums)
        return gathered["loss"].astype(np.float64), gathered["correct"].astype(np.float64)

    def _at_once(self, data: Data | Split, most: int, networks: int = 1) -> int:
        """How many batches a call takes, of these networks each."""
        return min(most, data.at_once(self.task.batch_size * networks)) if isinstance(data, Split) else most

    def mask_counts(self, state: State, frozen: nnx.State) -> dict[str, np.ndarray]:
        """By the path of every masked layer, what the rule counts as inverted, hidden, kept: `[S, 3]`."""

        def make() -> Any:
            return self._spread(functools.partial(evaluation.mask_counts, self.task, self._evaluation))

        counts = self.layout.gather(self._call("mask_counts", 1, make, state, frozen))
        return {path: np.stack(shares, -1) for path, shares in counts.items()}

    def masks(self, state: State, frozen: nnx.State) -> dict[str, np.ndarray]:
        """By the path of every masked layer, its mask as it is stored: int8 or float32, `[S, ..., I, O]`."""

        def make() -> Any:
            return self._spread(functools.partial(evaluation.masks, self.task, self._evaluation))

        return self.layout.gather(self._call("masks", 1, make, state, frozen))
