"""From a trained network of this library to plain data."""

from __future__ import annotations

import logging
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import errors, graph
from ssm_jax.artifact import format
from ssm_jax.data import datasets
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.nn import layers
from ssm_jax.nn.networks import Convolutional, FullyConnected, ResNet
from ssm_jax.nn.remaining import remaining_weights
from ssm_jax.runs.folder import Record, RunFolder
from ssm_jax.runs.summary import Summary
from ssm_jax.trained import Trained, restore

_log = logging.getLogger(__name__)


def of_run(
    workdir: str | os.PathLike[str], *, seed: int | None = None, best: bool = False
) -> format.Artifact:
    """Write down a network that a finished run has trained.

    Args:
      workdir: The run's folder.
      seed: The network's seed; the first by default.
      best: Whether to take the state with the best validation accuracy instead of the last, see `restore`.

    Raises:
      InputError: There is no such run, seed or checkpoint; the run is not finished, or trained a model of the
        caller's own; or this seed has failed.
    """
    folder = RunFolder(workdir)
    record, summary = folder.read_finished()
    if record.model is not None:
        raise errors.InputError(
            f"the run in {folder.path} trained {record.model}, a model of the caller's own, which can't be "
            "exported; ssm_jax.restore loads it"
        )
    record.group(record.config.seed if seed is None else seed)  # checks the seed
    _log.info("reading the checkpoint in %s", folder.path)
    trained = restore(workdir, seed=seed, best=best)
    if trained.seed not in summary.seeds:
        raise errors.InputError(f"seed {trained.seed} of the run in {folder.path} has failed")
    made = of_trained(record, summary, trained)
    if best and trained.step < summary.steps:
        made.record["test_accuracy"] = None  # only the last state has been tested
    return made


def of_trained(record: Record, summary: Summary, trained: Trained) -> format.Artifact:
    """Write down a restored network.

    Args:
      record: What its run is.
      summary: What its run has found.
      trained: The network, in its last state, one of the library's.

    Raises:
      InputError: The network is none of the library's.
    """
    made = network(trained.model, record.image_shape, record.classes)
    names = datasets.class_names(record.config.data.name, record.config.data.dir, classes=record.classes)
    return format.Artifact(made, names, _record(record, summary, trained))


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
            name: pathlib.PurePath(value).name if name == "data.name" and value.endswith(".npz") else value
            for name, value in configuration.fields(config)
            if name not in configuration.NEUTRAL
        },
    }


def network(model: nnx.Module, image_shape: tuple[int, int, int], classes: int) -> graph.Network:
    """Write down what a trained network computes.

    Args:
      model: A network of `ssm_jax.build`, masked or dense, in evaluation mode.
      image_shape: `(H, W, C)`.
      classes: Number of classes.

    Raises:
      InputError: The model is none of the library's networks.
    """
    write = next((write for kind, write in _WRITERS.items() if isinstance(model, kind)), None)
    if write is None:
        known = ", ".join(kind.__name__ for kind in _WRITERS)
        raise errors.InputError(f"a {type(model).__name__} can't be exported; allowed is {known}")
    writer = _Writer(dict((id(layer), path) for path, layer in layers.masked_layers(model)))
    write(writer, model, writer.add(graph.Standardize, 0))
    dtypes = {str(jnp.dtype(layer.dtype)) for _, layer in layers.masked_layers(model)}
    assert len(dtypes) == 1
    return graph.Network(
        image_shape=image_shape, classes=classes, dtype=dtypes.pop(), nodes=tuple(writer.nodes)
    )


class _Writer:
    """Collects operations; every method returns the number of the value that it makes."""

    def __init__(self, paths: dict[int, str]) -> None:
        self.paths = paths
        self.nodes: list[graph.Node] = []

    def add(self, kind: type[graph.Node], *inputs: int, **fields: Any) -> int:
        self.nodes.append(kind(inputs=inputs, **fields))
        return len(self.nodes)

    def layer(self, layer: layers.Masked, value: int) -> int:
        effective = np.asarray(layers.evaluated(layer).kernel.astype(jnp.float32))
        fields: dict[str, Any] = {"name": self.paths[id(layer)], "kernel": graph.Kernel.of(effective)}
        if isinstance(layer, layers.Conv):
            return self.add(graph.Conv, value, stride=layer.stride, **fields)
        return self.add(graph.Dense, value, **fields)

    def normalize(self, norm: Callable[..., Any], name: str, value: int) -> int:
        if not isinstance(norm, nnx.BatchNorm):  # the identity
            return value
        return self.add(
            graph.Normalize,
            value,
            name=name,
            mean=np.asarray(norm.mean[...]),
            variance=np.asarray(norm.var[...]),
            scale=None if norm.scale is None else np.asarray(norm.scale[...]),
            offset=None if norm.bias is None else np.asarray(norm.bias[...]),
            epsilon=norm.epsilon,
        )

    def elu(self, value: int) -> int:
        return self.add(graph.Elu, value)

    def head(self, denses: Any, value: int) -> int:
        value = self.add(graph.Flatten, value)
        for dense in denses[:-1]:
            value = self.elu(self.layer(dense, value))
        return self.layer(denses[-1], value)


def _fully_connected(writer: _Writer, model: Any, value: int) -> None:
    writer.head(model.denses, value)


def _convolutional(writer: _Writer, model: Any, value: int) -> None:
    for i, conv in enumerate(model.convs):
        value = writer.layer(conv, value)
        if i % 2:
            value = writer.add(graph.MaxPool, value, window=2, stride=2)
        value = writer.elu(value)
    writer.head(model.denses, value)


def _resnet(writer: _Writer, model: Any, value: int) -> None:
    value = writer.elu(writer.normalize(model.stem_norm, "stem_norm", writer.layer(model.stem, value)))
    value = writer.add(graph.MaxPool, value, window=3, stride=1, padding=1)
    for i, block in enumerate(model.blocks):
        inner = writer.normalize(block.norm1, f"blocks/{i}/norm1", writer.layer(block.conv1, value))
        inner = writer.layer(block.conv2, writer.elu(inner))
        inner = writer.normalize(block.norm2, f"blocks/{i}/norm2", inner)
        if block.projection is not None:
            inner = writer.elu(inner)
            value = writer.layer(block.projection, value)
            value = writer.normalize(block.projection_norm, f"blocks/{i}/projection_norm", value)
        value = writer.elu(writer.add(graph.Add, inner, value))
    writer.layer(model.head, writer.add(graph.Mean, value))


_WRITERS: dict[type[nnx.Module], Callable[[_Writer, Any, int], None]] = {
    FullyConnected: _fully_connected,
    Convolutional: _convolutional,
    ResNet: _resnet,
}
