"""The network, masks and config that a run has left in its folder."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Collection, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from ssm_jax import environment, errors
from ssm_jax.data.batches import standardize
from ssm_jax.nn.layers import evaluated, masked_layers
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.folder import Record, RunFolder, model_name
from ssm_jax.training.from_config import from_config
from ssm_jax.training.layout import kernel_shapes
from ssm_jax.training.step import Build, State, TrainSpec
from ssm_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Attributes:
      model: The network in evaluation mode; it takes standardized float images, see `standardize`. `logits`
        takes images as they are.
      masks: By the path of a masked layer, int8 in the kernel's shape: -1 (invert), 0 (hide), 1 (keep) or
        more coats; float32 of a rule whose evaluation takes the expectation of its mask.
      config: The run's config.
      seed: The network's seed.
      step: Number of steps taken.
    """

    model: nnx.Module
    masks: dict[str, np.ndarray]
    config: ConfigDict
    seed: int
    step: int

    def logits(self, images: ArrayLike) -> jax.Array:
        """Compute what the network makes of images.

        Args:
          images: uint8 `[B, H, W, C]`, 0 to 255; they are standardized as in training.

        Returns:
          The network's outputs, of our networks logits `[B, classes]` in their dtype.

        Raises:
          InputError: The images are of another dtype or rank.
        """
        shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
        if dtype != np.uint8 or len(shape) != 4:
            raise errors.InputError(f"images are {dtype} {list(shape)}; allowed is uint8 [B, H, W, C]")
        return _logits(self.model, jnp.asarray(images))


@nnx.jit
def _logits(model: nnx.Module, images: jax.Array) -> jax.Array:
    return model(standardize(images))


def restore(
    workdir: str | os.PathLike[str],
    *,
    seed: int | None = None,
    best: bool = False,
    model: Build | None = None,
) -> Trained:
    """Restore a network that a run has trained, from its checkpoint.

    Args:
      workdir: The run's folder; the run may be finished or not.
      seed: The network's seed, in a run of several; the first by default.
      best: Whether to take the state with the best validation accuracy (`config.checkpoint.best`) instead
        of the latest; of networks that are trained at the same time, the one with the best mean.
      model: The function that built the network, if it was the caller's own.

    Raises:
      InputError: There is no such run, seed or checkpoint, or it can't be read.
    """
    folder = RunFolder(workdir)
    record = read_record(folder, model)
    seed = record.config.seed if seed is None else seed
    record.group(seed)  # tells whether there is such a seed
    (trained,) = restore_each(workdir, [seed], best=best, model=model)
    return trained


def read_record(folder: RunFolder, model: Build | None = None) -> Record:
    """Read what the run in a folder is.

    Args:
      folder: The run's folder.
      model: The function that built the network, if it was the caller's own.

    Raises:
      InputError: There is no run, or one of another network.
    """
    record = folder.require_record()
    if model_name(model) != record.model:
        asked = "leave `model` out"
        if record.model is not None:
            asked = f"pass the same `model`, {record.model} (--model=FILE.py:{record.model})"
        raise errors.InputError(f"the run in {folder.path} trained {record.network}: {asked}")
    return record


def models(folders: Sequence[RunFolder], model: Build | None) -> list[Build | None]:
    """Say of which runs a function has built the network, so that a user's own stand beside the library's.

    Args:
      folders: The runs' folders.
      model: The function, if there is one.

    Raises:
      InputError: A folder holds no run.
    """
    own = [folder.require_record().model is not None for folder in folders]
    return [model if each or not any(own) else None for each in own]


def restore_each(
    workdir: str | os.PathLike[str],
    seeds: Collection[int] | None = None,
    *,
    best: bool = False,
    model: Build | None = None,
) -> Iterator[Trained]:
    """Restore the networks of a run one after another, in the order of their seeds.

    What was saved together is read once.

    Args:
      workdir: The run's folder; the run may be finished or not.
      seeds: The networks' seeds; all of the run by default.
      best: See `restore`.
      model: See `restore`.

    Raises:
      InputError: There is no such run or checkpoint, or it can't be read.
    """
    folder = RunFolder(workdir)
    record = read_record(folder, model)
    try:
        task = make_task(record, model)
    except errors.InputError as error:
        raise errors.InputError(f"cannot use {folder.record_path}: {error}") from error
    for group in record.groups():
        wanted = list(group) if seeds is None else sorted(seed for seed in set(seeds) if seed in group)
        if wanted:
            yield from _restore_group(folder, record, task, group, wanted, best)


def _restore_group(
    folder: RunFolder, record: Record, task: TrainSpec, group: range, seeds: Sequence[int], best: bool
) -> Iterator[Trained]:
    checkpoints = Checkpoints(folder.checkpoints(group, "best" if best else "latest"), read_only=True)
    step = checkpoints.latest()
    if step is None:
        hint = "; only config.checkpoint.best keeps one" if best else ""
        raise errors.InputError(f"there is no checkpoint in {checkpoints.directory} yet{hint}")
    try:
        tree = _read(checkpoints, task, group)
    finally:
        checkpoints.close()
    for seed in seeds:
        seed_tree = jax.tree.map(operator.itemgetter(group.index(seed)), tree)
        network, masks = _network(task, seed_tree["state"], seed_tree["frozen"])
        yield Trained(network, masks, record.config, seed, step)


@environment.own_program()
def _read(checkpoints: Checkpoints, task: TrainSpec, group: range) -> dict[str, PyTree]:
    shapes = dict(zip(("state", "frozen"), jax.eval_shape(task.initialize, np.int32(group[0])), strict=True))
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(group), *leaf.shape), leaf.dtype), shapes)
    tree: dict[str, PyTree] = checkpoints.restore(template)[0]
    return tree


@environment.own_program()
def _network(task: TrainSpec, state: State, frozen: nnx.State) -> tuple[nnx.Module, dict[str, np.ndarray]]:
    parts = *jax.device_put((state.params, frozen, state.rest)), task.random(state)
    network = nnx.merge(task.graph(training=False), *parts)
    return network, {path: np.asarray(evaluated(layer).mask) for path, layer in masked_layers(network)}


@environment.own_program()
def make_task(record: Record, model: Build | None = None) -> TrainSpec:
    """Set up what a run trained, and check that it can be.

    Args:
      record: The run's record.
      model: The function that built the network, if it was the caller's own.

    Raises:
      InputError: Something that the record names is unknown.
    """
    setup = from_config(record.config, own_model=model is not None)
    task = setup.task(model or setup.network(record.image_shape, record.classes), record.examples)
    kernel_shapes(task)
    return task
