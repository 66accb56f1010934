"""From a network that a run has trained to plain data, with its record."""

from __future__ import annotations

import logging
import math
import os
import pathlib
from typing import Any

from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import errors, graph
from ssm_jax.artifact import format
from ssm_jax.data import datasets
from ssm_jax.data.batches import standardize, steps_per_epoch
from ssm_jax.graph import trace
from ssm_jax.nn.remaining import remaining_weights
from ssm_jax.runs.folder import Record, RunFolder
from ssm_jax.runs.summary import Summary
from ssm_jax.trained import Trained, read_record, restore
from ssm_jax.training.step import Build

_log = logging.getLogger(__name__)


def of_run(
    workdir: str | os.PathLike[str],
    *,
    seed: int | None = None,
    best: bool = False,
    model: Build | None = None,
) -> format.Artifact:
    """Write down a network that a finished run has trained.

    Args:
      workdir: The run's folder.
      seed: The network's seed; the first by default.
      best: Whether to take the state with the best validation accuracy instead of the last, see `restore`.
      model: The function that built the network, if it was the caller's own.

    Raises:
      InputError: There is no such run, seed or checkpoint; the run is not finished; this seed has failed; or
        the model computes something that can't be exported.
    """
    folder = RunFolder(workdir)
    read_record(folder, model)  # checks that it is the run's model
    record, summary = folder.read_finished()
    record.group(record.config.seed if seed is None else seed)  # checks the seed
    _log.info("reading the checkpoint in %s", folder.path)
    trained = restore(workdir, seed=seed, best=best, model=model)
    if trained.seed not in summary.seeds:
        raise errors.InputError(f"seed {trained.seed} of the run in {folder.path} has failed")
    artifact = of_trained(record, summary, trained)
    if best and trained.step < summary.steps:
        artifact.record["test_accuracy"] = None  # only the last state has been tested
    return artifact


def of_trained(record: Record, summary: Summary, trained: Trained) -> format.Artifact:
    """Write down a restored network.

    Args:
      record: What its run is.
      summary: What its run has found.
      trained: The network, in its last state.

    Raises:
      InputError: The network computes something that can't be exported.
    """
    traced = network(trained.model, record.image_shape)
    names = datasets.class_names(record.config.data.name, record.config.data.dir, classes=record.classes)
    return format.Artifact(traced, names, _record(record, summary, trained))


def _record(record: Record, summary: Summary, trained: Trained) -> dict[str, Any]:
    """Say how a network came to be, without what changes nothing about it, such as folders."""
    config = record.config
    return {
        "network": record.network,
        "dataset": record.dataset,
        "dataset_version": record.dataset_version,
        "rule": config.mask.rule,
        "seed": trained.seed,
        "step": trained.step,
        "epochs": math.ceil(
            trained.step / steps_per_epoch(record.examples, config.training.batch_size, config.data.passes)
        ),
        "test_accuracy": summary.test_accuracy.values[summary.seeds.index(trained.seed)],
        "remaining_weights": remaining_weights(trained.model),
        "versions": summary.versions,
        "config": {
            # A file of the user's own without its folder, which is of this machine.
            name: pathlib.PurePath(value).name
            if name == "data.name" and value.endswith((".npz", "/"))
            else value
            for name, value in configuration.fields(config)
            if name not in configuration.RESUME_SAFE_FIELDS
        },
    }


def network(model: nnx.Module, image_shape: tuple[int, int, int]) -> graph.Network:
    """Write down what a trained network computes of uint8 images, which it takes standardized.

    Args:
      model: An NNX model, masked or dense.
      image_shape: `(H, W, C)`.

    Raises:
      InputError: The model computes something that there is no operation for.
    """
    return trace.network(model, image_shape, before=standardize)
