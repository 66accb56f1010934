"""Giving back what a run has trained: the network, its masks and its config."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.nn.layers import masked_layers
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.folder import read_json
from ssm_jax.training import setup
from ssm_jax.training.step import Build


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Attributes:
      model: the network in evaluation mode; it takes standardised float images, see
        `ssm_jax.data.batches.standardize`.
      masks: by the path of a masked layer, int8 in the kernel's shape: -1 (invert), 0 (hide), 1 (keep).
      config: of the run.
      seed: of the network.
      step: steps taken.
    """

    model: nnx.Module
    masks: dict[str, np.ndarray]
    config: ConfigDict
    seed: int
    step: int


def restore(
    workdir: str | os.PathLike[str],
    *,
    seed: int | None = None,
    best: bool = False,
    model: Build | None = None,
) -> Trained:
    """The network that a run has trained, from its checkpoint.

    Args:
      workdir: of the run, finished or not.
      seed: which network of a run of several; the first by default.
      best: the state with the best validation accuracy (`config.checkpoint.best`) instead of the latest;
        of networks that are trained at the same time, with the best mean.
      model: the function that built the network, if it was the caller's own.

    Raises:
      InputError: there is no such run, seed or checkpoint, or it can't be read.
    """
    workdir = pathlib.Path(workdir).expanduser()
    stored = read_json(workdir / "run.json")
    if stored is None:
        raise errors.InputError(f"{workdir} holds no run: it has no run.json")
    if stored["model"] is not None and model is None:
        raise errors.InputError(f"the run in {workdir} trained a model of its own: pass the same `model`")
    if stored["model"] is None and model is not None:
        raise errors.InputError(f"the run in {workdir} trained {stored['network']}: leave `model` out")
    config = configuration.from_dict(stored["config"])
    seed = config.seed if seed is None else seed
    place = seed - config.seed
    if not 0 <= place < config.seeds:
        last = config.seed + config.seeds - 1
        raise errors.InputError(f"the run in {workdir} has no seed {seed}: it has {config.seed} to {last}")
    first = config.seed + place - place % stored["seeds_per_group"]
    checkpoints = Checkpoints(workdir / "checkpoints" / str(first) / ("best" if best else "latest"), True)
    step = checkpoints.latest()
    if step is None:
        raise errors.InputError(f"there is no checkpoint in {checkpoints.directory} yet")

    build = model or setup.network(config, stored["image_shape"], stored["classes"])
    task = setup.task(config, build, stored["examples"])
    seeds = range(first, min(first + stored["seeds_per_group"], config.seed + config.seeds))
    one = dict(zip(("state", "frozen"), jax.eval_shape(task.initialize, np.int32(seed)), strict=True))
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(seeds), *leaf.shape), leaf.dtype), one)
    try:
        tree, _ = checkpoints.restore(template)
    finally:
        checkpoints.close()
    index = seeds.index(seed)
    state, frozen = (jax.tree.map(lambda leaf: leaf[index], tree[name]) for name in ("state", "frozen"))
    network = nnx.merge(task.graph(training=False), *jax.device_put((state.params, frozen, state.rest)))
    masks = {path: np.asarray(layer.mask(), np.int8) for path, layer in masked_layers(network)}
    return Trained(network, masks, config, seed, step)
