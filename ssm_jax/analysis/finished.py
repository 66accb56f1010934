"""Finished runs as a report shows them: read from their folders, restored, run over the test set."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ssm_jax import errors, graph
from ssm_jax.artifact import format, pack, run
from ssm_jax.config import DENSE
from ssm_jax.data import datasets
from ssm_jax.runs.folder import Record, RunFolder
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.runs.summary import Summary
from ssm_jax.trained import models, read_record, restore, restore_each
from ssm_jax.training.from_config import loader
from ssm_jax.training.step import Build

_BATCH = 500


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Finished:
    """A finished run, as its folder tells without any computation.

    Attributes:
      name: The run's folder, as far as it tells the runs apart.
      folder: The folder.
      record: What the run is.
      summary: What it has found.
      metrics: The lines of `metrics.jsonl`.
      seed: The network that is shown.
      model: The function that built the network, if it was the caller's own.
    """

    name: str
    folder: RunFolder
    record: Record
    summary: Summary
    metrics: list[dict[str, Any]]
    seed: int
    model: Build | None = None

    @property
    def masked(self) -> bool:
        """Whether it has masks; a dense baseline has none."""
        return self.summary.method != DENSE


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Mistakes:
    """The test images that a network takes for something else, the largest loss first.

    Attributes:
      images: uint8 `[N, H, W, C]`, only the first of them.
      labels: What they are, `[N]`.
      predictions: What the network says, `[N]`.
      sure: The probability of that, in [0, 1], `[N]`.
      true: The probability of what they are, `[N]`.
      wrong: Number of all that are taken for something else.
      total: Number of test images.
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    sure: np.ndarray
    true: np.ndarray
    wrong: int
    total: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network of a finished run.

    Attributes:
      artifact: What it computes, and the names of its classes.
      size: Bytes of the artifact's file.
      masks: Its masks by the layer's path, see `ssm_jax.trained.Trained`; empty of a dense network.
      mistakes: What it gets wrong, or one line that says why that is not known.
      mean_image: Mean of the training images, `[H, W]`, if they are there.
    """

    artifact: format.Artifact
    size: int
    masks: dict[str, np.ndarray]
    mistakes: Mistakes | str
    mean_image: np.ndarray | None

    @property
    def graph(self) -> graph.Network:
        """What it computes."""
        return self.artifact.network

    @property
    def random(self) -> bool:
        """Whether the masks are the expectation of what is drawn at random."""
        return any(np.issubdtype(mask.dtype, np.floating) for mask in self.masks.values())


def read(
    workdirs: Sequence[str | os.PathLike[str]], seed: int | None = None, model: Build | None = None
) -> list[Finished]:
    """Read finished runs.

    Args:
      workdirs: The runs' folders, at least one.
      seed: The network to show of each, by default the first that was trained to the end.
      model: The function that built the networks of those runs that trained the caller's own.

    Raises:
      InputError: A folder is given twice, holds no run, one that is not finished, has no such seed, or is of
        another model.
    """
    if not workdirs:
        raise errors.InputError("no run is given")
    folders = [RunFolder(workdir) for workdir in workdirs]
    named = zip(folders, _names(folders), models(folders, model), strict=True)
    return [_finished(folder, name, seed, own) for folder, name, own in named]


def _finished(folder: RunFolder, name: str, seed: int | None, model: Build | None) -> Finished:
    read_record(folder, model)  # checks that it is the run's model
    record, summary = folder.read_finished()
    if seed is not None and seed not in summary.seeds:
        trained = ", ".join(map(str, summary.seeds))
        raise errors.InputError(f"the run in {folder.path} has no network of seed {seed}: it has {trained}")
    return Finished(
        name=name,
        folder=folder,
        record=record,
        summary=summary,
        metrics=read_metrics(folder.path / "metrics.jsonl"),
        seed=summary.seeds[0] if seed is None else seed,
        model=model,
    )


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """As few of the last parts of the paths as tell them apart."""
    paths = [pathlib.Path(os.path.abspath(folder.path)) for folder in folders]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise errors.InputError(f"{twice} is given twice")
    for count in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def networks(runs: Sequence[Finished], most: int = 20) -> Iterator[Network]:
    """Restore the network of every run and run it over the test set.

    Args:
      runs: The runs.
      most: The most mistakes to return of each.
    """
    known: dict[tuple[object, ...], datasets.Dataset | str] = {}
    for one in runs:
        trained = restore(one.folder.path, seed=one.seed, model=one.model)
        artifact = pack.of_trained(one.record, one.summary, trained)
        key = tuple(one.record.config.data.items())
        if key not in known:
            known[key] = _load(one.record)
        data = known[key]
        if not isinstance(data, str) and data.version != one.record.dataset_version:
            data = f"the data at hand is version {data.version}, the run's was {one.record.dataset_version}"
        yield Network(
            artifact=artifact,
            size=len(format.encode(artifact)),
            masks=trained.masks if one.masked else {},
            mistakes=data if isinstance(data, str) else mistakes(artifact.network, data, most),
            mean_image=None if isinstance(data, str) else data.train_images.mean((0, 3)),
        )


def masks_of(one: Finished, seeds: Collection[int]) -> dict[int, dict[str, np.ndarray]]:
    """Restore the masks of networks of a run, by their seeds.

    Args:
      one: The run.
      seeds: The networks' seeds.
    """
    return {trained.seed: trained.masks for trained in restore_each(one.folder.path, seeds, model=one.model)}


def _load(record: Record) -> datasets.Dataset | str:
    try:
        return loader(record.config)(read_only=True)
    except (errors.InputError, errors.RunError) as error:
        return f"the data is not at hand: {errors.one_line(error)}"


def mistakes(network: graph.Network, data: datasets.Dataset, most: int) -> Mistakes:
    """Find the test images that a network takes for something else.

    Args:
      network: The network.
      data: The dataset.
      most: The most of them to return.
    """
    parameters = run.parameters(network)
    apply = jax.jit(lambda parameters, images: run.apply(network, parameters, images))
    total = len(data.test_labels)
    # One shape is compiled once.
    batch = min(_BATCH, total)
    starts = [min(start, total - batch) for start in range(0, total, batch)]
    logits = np.zeros((total, network.classes))
    for start in starts:
        images = data.test_images[start : start + batch]
        logits[start : start + batch] = np.asarray(apply(parameters, images), np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    predictions = logits.argmax(1)
    places = np.arange(total)
    losses = -log_probabilities[places, data.test_labels]
    wrong = np.flatnonzero(predictions != data.test_labels)
    first = wrong[np.argsort(-losses[wrong], kind="stable")][:most]
    return Mistakes(
        images=data.test_images[first],
        labels=data.test_labels[first],
        predictions=predictions[first],
        sure=np.exp(log_probabilities[first, predictions[first]]),
        true=np.exp(-losses[first]),
        wrong=len(wrong),
        total=total,
    )
