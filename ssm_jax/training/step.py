"""The training step of one network, as pure functions seen by one device.

A `TrainSpec` holds what never changes during a run and whose values are compiled into the program; a
`State` holds what a step changes. `ssm_jax.training.programs` spreads these functions over seeds and devices.
Gradients and metrics are averaged over the named axis `networks.BATCH_AXIS`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from ssm_jax import environment
from ssm_jax.core import control
from ssm_jax.data import batches
from ssm_jax.data.batches import Data
from ssm_jax.nn.density import follow_density
from ssm_jax.nn.layers import apply_masks, masked_layers
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.nn.variables import ModelSplit, split
from ssm_jax.training import optimizer
from ssm_jax.types import PyTree

Build = Callable[[nnx.Rngs], nnx.Module]

# What a seed's key is folded with, per use.
_PARAMS, _SCORES, _DEFAULT, _ORDER, _AUGMENT, _MASKS, _LAYERS, RECALIBRATION = range(8)

# Which metric was not finite, by its place in `State.failure[1]`.
FAILURES = ("loss", "gradient norm")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What a step changes, of one network.

    Attributes:
      seed: The network's seed, int32; every random number follows from it.
      step: Steps taken, int32.
      params: What is trained, an `nnx.State`.
      rest: What mask rules keep, statistics of normalizations and the like, an `nnx.State`.
      optimizer: The optimizer's state.
      totals: Sums over this epoch's steps of the mean `loss` and the `accuracy` of the batch, float32.
      failure: The first step that gave a non-finite number (-1: none) and the place of the metric in
        `FAILURES`, int32 `[2]`. From then on the network stays as it is.
    """

    seed: jax.Array
    step: jax.Array
    params: nnx.State
    rest: nnx.State
    optimizer: PyTree
    totals: dict[str, jax.Array]
    failure: jax.Array


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """What is compiled into the program of a run.

    Attributes:
      optimizer: A gradient transformation; `ssm_jax.training.optimizer.make`.
      examples: N, the size of the training set.
      batch_size: B, over all devices.
      passes: How often an epoch goes through the training set.
      augment: A key of `batches.AUGMENTATIONS`, or `none`.
      dtype: Compute dtype of the images.
      ramp: Steps in which masks go to the density that their rule asks for; 0 is at once.
    """

    build: Build
    optimizer: optax.GradientTransformationExtraArgs
    examples: int
    batch_size: int
    passes: int = 1
    shuffle: bool = True
    augment: str = "none"
    dtype: DTypeLike = jnp.float32
    ramp: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch, `passes * ceil(N / B)`."""
        return batches.steps_per_epoch(self.examples, self.batch_size, self.passes)

    def network(self, seed: ArrayLike) -> nnx.Module:
        """The freshly initialized network of a seed."""
        key = environment.key(seed)
        streams = {"params": _PARAMS, "scores": _SCORES, "default": _DEFAULT}
        return self.build(nnx.Rngs(**{name: jax.random.fold_in(key, use) for name, use in streams.items()}))

    def abstract(self) -> nnx.Module:
        """The network with shapes in place of values."""
        return nnx.eval_shape(lambda: self.network(0))

    @functools.cached_property
    def searches(self) -> bool:
        """Whether a mask takes many passes over the scores, so that a step should make it only once."""
        return any(getattr(layer.rule, "searches", False) for _, layer in masked_layers(self.abstract()))

    def graph(self, training: bool) -> nnx.GraphDef[Any]:
        """The network's definition, in training or in evaluation mode, for `nnx.merge`."""
        model = self.abstract()
        model.train() if training else model.eval()
        for _, module in list(nnx.iter_graph(model)) if training else ():
            if isinstance(module, nnx.BatchNorm) and module.axis_name is None:
                # The statistics of a batch are those of all its parts, whichever devices have them.
                module.axis_name = BATCH_AXIS
        return split(model).graph

    def initialize(self, seed: ArrayLike) -> tuple[State, nnx.State]:
        """Make the state before the first step, and the frozen kernels."""
        _, params, frozen, rest, _ = split(self.network(seed))
        zero = jnp.zeros((), jnp.float32)
        state = State(
            seed=jnp.asarray(seed),
            step=jnp.zeros((), jnp.int32),
            params=params,
            rest=rest,
            optimizer=jax.jit(self.optimizer.init)(params),
            totals={"loss": zero, "accuracy": zero},
            failure=jnp.array([-1, 0], jnp.int32),
        )
        return state, frozen

    def order(self, seed: jax.Array, step: jax.Array) -> jax.Array:
        """The order of the epoch that holds this step: int32 `[steps, B]`, see `batches.epoch_order`."""
        key = jax.random.fold_in(environment.key(seed), _ORDER)
        epoch = step // self.steps_per_epoch
        return batches.epoch_order(
            key, epoch, self.examples, self.batch_size, passes=self.passes, shuffle=self.shuffle
        )

    def batch(
        self, state: State, data: Data, order: jax.Array | None, shard: jax.Array | int = 0, shards: int = 1
    ) -> tuple[jax.Array, jax.Array]:
        """Take this device's part of the step's batch from a data set that lies on the device.

        Args:
          data: A training set or some batches of it, see `batches.Data`.
          order: The epoch's order, int32 `[steps, B]`; of some batches None.

        Returns:
          Standardized images `[B / shards, H, W, C]` in the compute dtype and int32 labels.
        """
        size = self.batch_size // shards
        start = shard * size
        with jax.named_scope("batch"):
            places, images = images_of(data, order, state.step % self.steps_per_epoch, start, size)
            if self.augment != "none":
                key = jax.random.fold_in(self._key(state, _AUGMENT), state.step)
                images = batches.AUGMENTATIONS[self.augment](key, images, start + jnp.arange(size))
            return images.astype(self.dtype), data["labels"][places]

    def apply_masks(
        self,
        graph: nnx.GraphDef[Any],
        state: State,
        frozen: nnx.State,
        *,
        training: bool,
        shard: jax.Array | int = 0,
    ) -> ModelSplit:
        """Make the dense network that the masked one amounts to at this step.

        Args:
          graph: The network's definition, in training or in evaluation mode.
          training: Whether a rule that draws at random does so, by a key of (seed, step) and the layer.

        Returns:
          Its parts; `params` holds effective kernels in the compute dtype in place of scores.
        """
        key = jax.random.fold_in(self._key(state, _MASKS), state.step) if training else None
        model = merged(graph, state.params, frozen, state.rest, self.random(state, shard))
        apply_masks(model, key)
        return split(model)

    def random(self, state: State, shard: jax.Array | int = 0) -> nnx.State:
        """Make the streams of random numbers that layers keep, dropout for example, for one step.

        They follow from (seed, step) and the layer, and are never stored.

        Args:
          shard: The number of the part of the batch, from 0, each of which has streams of its own.
        """
        key = jax.random.fold_in(jax.random.fold_in(self._key(state, _LAYERS), state.step), shard)
        leaves, structure = self._streams

        def stream(place: int, leaf: jax.Array) -> jax.Array:
            if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jnp.zeros(leaf.shape, leaf.dtype)  # the count of what was drawn from a key
            own = jax.random.fold_in(key, place)
            return jax.random.split(own, leaf.shape) if leaf.shape else own

        return jax.tree.unflatten(structure, [stream(place, leaf) for place, leaf in enumerate(leaves)])

    @functools.cached_property
    def _streams(self) -> tuple[list[jax.Array], jax.tree_util.PyTreeDef]:
        return jax.tree.flatten(split(self.abstract()).random)

    def _key(self, state: State, use: int) -> jax.Array:
        return jax.random.fold_in(environment.key(state.seed), use)

    def train_step(
        self,
        graph: nnx.GraphDef[Any],
        state: State,
        frozen: nnx.State,
        images: jax.Array,
        labels: jax.Array,
        kernels: nnx.State | None = None,
        shard: jax.Array | int = 0,
    ) -> State:
        """Take one step of training. The named axis `BATCH_AXIS` must be bound.

        Args:
          images: This device's part of the batch, `[B / shards, H, W, C]` in the compute dtype.
          labels: Its labels, int32 `[B / shards]`.
          kernels: The effective kernels at this step, the `params` of `apply_masks`; None makes them here.
          shard: The number of this device's part of the batch, from 0.

        Returns:
          The state after the step. If the loss or the norm of the gradient is not finite, `failure` says so,
          and no later step changes the network; this one doesn't either where it is the loss, and otherwise
          takes entries of the gradient that are not finite for 0. A network whose schedule has stopped is
          final.
        """
        dense = self.apply_masks(graph, state, frozen, training=True, shard=shard)

        def loss_of(kernels: nnx.State) -> tuple[jax.Array, tuple[jax.Array, nnx.State]]:
            model = merged(dense.graph, kernels, dense.frozen, dense.rest, dense.random)
            logits = model(images).astype(jnp.float32)
            loss = losses(logits, labels).mean()
            return loss, (jnp.mean(logits.argmax(-1) == labels), split(model).rest)

        # From the effective kernels to the scores: straight through the mask.
        effective, pull = jax.vjp(
            lambda params: (
                self.apply_masks(
                    graph, dataclasses.replace(state, params=params), frozen, training=True
                ).params
            ),
            state.params,
        )
        kernels = effective if kernels is None else kernels
        (loss, (accuracy, rest)), gradient = jax.value_and_grad(loss_of, has_aux=True)(kernels)
        loss, accuracy, gradient = lax.pmean((loss, accuracy, *pull(gradient)), BATCH_AXIS)
        finite = jnp.isfinite(jnp.stack([loss, optax.tree.norm(gradient)]))
        # The update doesn't wait for the norm, which needs all of the gradient: one pass over it does both.
        good = self.is_active(state) & jnp.isfinite(loss)
        gradient = jax.tree.map(lambda array: jnp.where(jnp.isfinite(array), array, 0), gradient)
        with jax.named_scope("optimizer"):
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params, value=loss)
            params = optax.apply_updates(state.params, updates)
        rest = nnx.merge_state(state.rest, rest)
        rest = self._follow_density(graph, state, params, frozen, rest)

        first = state.step % self.steps_per_epoch == 0
        totals = {
            name: jnp.where(first, 0.0, state.totals[name]) + value
            for name, value in (("loss", loss), ("accuracy", accuracy))
        }
        new = (params, rest, optimizer, totals)
        old = (state.params, state.rest, state.optimizer, state.totals)
        params, rest, optimizer, totals = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
        failed = jnp.stack([state.step, jnp.argmin(finite).astype(jnp.int32)])
        return State(
            seed=state.seed,
            step=state.step + 1,
            params=params,
            rest=rest,
            optimizer=optimizer,
            totals=totals,
            failure=jnp.where(self.is_active(state) & ~finite.all(), failed, state.failure),
        )

    def _follow_density(
        self, graph: nnx.GraphDef[Any], state: State, params: nnx.State, frozen: nnx.State, rest: nnx.State
    ) -> nnx.State:
        """Move the thresholds of rules that ask for a density; returns the rest after the step."""
        step = state.step + 1
        due = (step % control.INTERVAL == 0) | (step % self.steps_per_epoch == 0)
        model = merged(graph, params, frozen, rest, self.random(state))
        follow_density(model, step, self.ramp, due)
        return split(model).rest

    def is_active(self, state: State) -> jax.Array:
        """Whether training goes on for a network: it has neither failed nor been stopped by its schedule."""
        return (state.failure[0] < 0) & ~optimizer.stopped(state.optimizer)


def images_of(
    data: Data, order: jax.Array | None, row: jax.Array, start: jax.Array | int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Take a part of a batch from a data set that lies on the device.

    Args:
      data: A data set or some batches of it, see `batches.Data`.
      order: int32 `[batches, B]`; of some batches None.

    Returns:
      Their places in the data, and the images, standardized.
    """
    if order is None:
        places = (row - data["first"]) * size + jnp.arange(size)
    else:
        places = lax.dynamic_slice_in_dim(lax.dynamic_index_in_dim(order, row, keepdims=False), start, size)
    known = (data["mean"][places], data["deviation"][places])
    return places, batches.standardize(data["images"][places], known)


def merged(graph: nnx.GraphDef[Any], *states: nnx.State) -> nnx.Module:
    """Put a network together inside a transformation of JAX, where its layers may change their variables."""
    # A variable may only be updated at the trace level that made it: mapping makes new ones at this level.
    return nnx.merge(graph, *jax.tree.map(lambda array: array, states))


def losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Compute the cross entropy of every example."""
    # Not of integer labels: the gradient of picking a logit is a scatter, which is slow on a GPU, and slower
    # still where it has to be deterministic.
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
