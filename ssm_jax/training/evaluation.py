"""The evaluation of one network, as pure functions seen by one device: accuracy, masks, statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from ssm_jax import core, environment
from ssm_jax.data import batches
from ssm_jax.data.batches import Data
from ssm_jax.nn import statistics
from ssm_jax.nn.layers import masked_layers
from ssm_jax.nn.networks import BATCH_AXIS
from ssm_jax.nn.statistics import Moments
from ssm_jax.nn.variables import ModelSplit, split
from ssm_jax.training.step import RECALIBRATION, State, TrainSpec, images_of, losses, merged

# Statistics of normalizations are measured over so many batches at most.
RECALIBRATION_BATCHES = 32


def no_sums() -> dict[str, jax.Array]:
    """The sums of an evaluation before its first batch: `batch`, `loss` and `correct`."""
    return {
        "batch": jnp.zeros((), jnp.int32),
        "loss": jnp.zeros((), jnp.float32),
        "correct": jnp.zeros((), jnp.int32),
    }


def evaluate_batch(
    task: TrainSpec,
    network: ModelSplit,
    data: Data,
    sums: dict[str, jax.Array],
    shard: jax.Array | int = 0,
    shards: int = 1,
) -> dict[str, jax.Array]:
    """Add one batch to an evaluation. The named axis `BATCH_AXIS` must be bound.

    Args:
      network: What `apply_masks` made of the network in evaluation mode.
      data: A split or some batches of it, see `batches.Data`; padded to whole batches, labeled -1.
      sums: What `no_sums` returned, or this function before.
    """
    size = task.batch_size // shards
    if "first" in data:
        start = (sums["batch"] - data["first"]) * size
    else:
        start = sums["batch"] * task.batch_size + shard * size
    part = {name: lax.dynamic_slice_in_dim(array, start, size) for name, array in data.items() if array.ndim}
    images = batches.standardize(part["images"], (part["mean"], part["deviation"])).astype(task.dtype)
    labels = part["labels"]
    logits = merged(*network)(images).astype(jnp.float32)
    real = labels >= 0
    local = {
        "loss": jnp.sum(jnp.where(real, losses(logits, labels), 0.0)),
        "correct": jnp.sum(real & (logits.argmax(-1) == labels), dtype=jnp.int32),
    }
    total = lax.psum(local, BATCH_AXIS)
    return {
        "batch": sums["batch"] + 1,
        "loss": sums["loss"] + total["loss"],
        "correct": sums["correct"] + total["correct"],
    }


def measuring_graph(task: TrainSpec) -> nnx.GraphDef[Any]:
    """The network's definition for `recalibrate_batch`."""
    return split(statistics.measuring(task.abstract(), BATCH_AXIS)).graph


def recalibration_order(task: TrainSpec, seed: jax.Array) -> jax.Array:
    """The batches over which the statistics of normalizations are measured: int32 `[batches, B]`."""
    key = jax.random.fold_in(environment.key(seed), RECALIBRATION)
    order = batches.epoch_order(key, 0, task.examples, task.batch_size)
    return order[:RECALIBRATION_BATCHES]


def recalibrate_batch(
    task: TrainSpec,
    network: ModelSplit,
    data: Data,
    order: jax.Array | None,
    known: tuple[jax.Array, list[Moments]],
    shard: jax.Array | int = 0,
    shards: int = 1,
) -> tuple[jax.Array, list[Moments]]:
    """Add one batch to the statistics of normalizations. The named axis `BATCH_AXIS` must be bound.

    Args:
      network: What `apply_masks` made of the network of `measuring_graph`.
      data: The training set or some batches of it, see `batches.Data`.
      order: What `recalibration_order` returned; of some batches None.
      known: The number of batches that have been measured, and what was found.
    """
    number, moments = known
    size = task.batch_size // shards
    _, images = images_of(data, order, number, shard * size, size)
    new = statistics.measure(merged(*network), images.astype(task.dtype))
    return number + 1, statistics.pool(moments, new, 1 / (number.astype(jnp.float32) + 1))


def mask_counts(
    task: TrainSpec, graph: nnx.GraphDef[Any], state: State, frozen: nnx.State
) -> dict[str, core.Counts]:
    """How many weights each masked layer inverts, hides and keeps, by the layer's path."""
    model = merged(graph, state.params, frozen, state.rest, task.random(state))
    return {path: layer.count() for path, layer in masked_layers(model)}


def masks(task: TrainSpec, graph: nnx.GraphDef[Any], state: State, frozen: nnx.State) -> dict[str, jax.Array]:
    """The masks of an evaluation as they are stored, by the layer's path; see `Masked.stored_mask`."""
    model = merged(graph, state.params, frozen, state.rest, task.random(state))
    return {path: layer.stored_mask() for path, layer in masked_layers(model)}
