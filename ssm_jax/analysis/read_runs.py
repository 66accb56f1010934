"""What a report shows: finished runs, restored and run over the test set, and networks in files."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ssm_jax import errors, graph
from ssm_jax.analysis import stored
from ssm_jax.analysis.mistakes import BATCH, Mistakes, find_mistakes
from ssm_jax.analysis.stored import Stored
from ssm_jax.artifact import format, to_graph
from ssm_jax.config import DENSE
from ssm_jax.data import datasets
from ssm_jax.runs.folder import Record, RunFolder
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.runs.summary import Layer, Statistics, Summary
from ssm_jax.trained import models, read_record, restore, restore_each
from ssm_jax.training.from_config import loader
from ssm_jax.training.step import Build


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
    def has_masks(self) -> bool:
        """Whether it has masks; a dense baseline has none."""
        return self.summary.method != DENSE

    @property
    def signs_alone(self) -> bool:
        """Whether -1 and 1 are signs of effective kernels, and no masks; a run has its masks."""
        return False

    @property
    def path(self) -> pathlib.Path:
        """The run's folder."""
        return self.folder.path

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.record.network

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.record.dataset

    @property
    def rule(self) -> str:
        """Name of the mask rule."""
        return self.summary.method

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of the networks that were trained to the end."""
        return self.summary.seeds

    @property
    def test_accuracy(self) -> Statistics:
        """The test accuracy in %."""
        return self.summary.test_accuracy

    @property
    def remaining_weights(self) -> Statistics:
        """The share of the weights that remain."""
        return self.summary.remaining_weights

    @property
    def weights(self) -> int:
        """Number of weights that have a mask."""
        return self.summary.weights

    @property
    def layers(self) -> Sequence[Layer]:
        """What the masks do, by layer, means over seeds."""
        return self.summary.layers

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of its config that apply to it, by their dotted names."""
        return self.record.settings()

    def facts(self) -> dict[str, str]:
        """What a report says of it, by what that is of."""
        summary, record = self.summary, self.record
        remaining = summary.remaining_weights.mean * summary.weights
        emptied = sorted({layer for empty in summary.emptied_layers for layer in empty.layers})
        failed = [f"{one.seed} ({one.metric} at step {one.step})" for one in summary.failed_seeds]
        return {
            "network": f"{record.network}, {summary.weights:,} weights",
            "data": f"{record.dataset} {record.dataset_version}",
            "mask rule": summary.method,
            "seeds": ", ".join(map(str, summary.seeds)),
            "seed shown": str(self.seed),
            "epochs, steps": f"{summary.epochs}, {summary.steps:,}",
            "test accuracy": f"{summary.test_accuracy.text()} %",
            "remaining weights": f"{summary.remaining_weights.text(100)} %, {remaining:,.0f}",
            "failed seeds": ", ".join(failed),
            "layers that hide everything": ", ".join(emptied),
            "training": f"{summary.train_seconds:.1f} s, {summary.images_per_second:,.0f} images/s",
            "device": f"{summary.device_count} x {summary.device}",
            "versions": ", ".join(f"{name} {version}" for name, version in summary.versions.items()),
        }


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


Shown = Finished | Stored


def read(
    sources: Sequence[str | os.PathLike[str] | Stored], seed: int | None = None, model: Build | None = None
) -> list[Shown]:
    """Read finished runs and networks in files.

    Args:
      sources: Folders of runs and `.ssm` files, or what has been read of a file; at least one.
      seed: The network to show of each run, by default the first that was trained to the end.
      model: The function that built the networks of those runs that trained the caller's own.

    Raises:
      InputError: One is given twice; a folder holds no run, one that is not finished, has no such seed, or is
        of another model; a file can't be read.
    """
    if not sources:
        raise errors.InputError("no run is given")
    paths = [source.path if isinstance(source, Stored) else RunFolder(source).path for source in sources]
    names = _names(paths)
    runs = [
        RunFolder(path)
        for source, path in zip(sources, paths)
        if not isinstance(source, Stored) and not path.is_file()
    ]
    own = dict(zip((run.path for run in runs), models(runs, model), strict=True))
    shown: list[Shown] = []
    for name, path, source in zip(names, paths, sources, strict=True):
        if isinstance(source, Stored):
            shown.append(dataclasses.replace(source, name=name))
        elif path.is_file():
            shown.append(dataclasses.replace(stored.of_file(path), name=name))
        else:
            shown.append(_finished(RunFolder(path), name, seed, own[path]))
    return shown


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


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """As few of the last parts of the paths as tell them apart."""
    paths = [pathlib.Path(os.path.abspath(path)) for path in paths]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise errors.InputError(f"{twice} is given twice")
    for count in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def networks(shown: Iterable[Shown], most: int = 20) -> Iterator[Network]:
    """Restore the network of every run and run it over the test set.

    Args:
      shown: Runs, and networks in files, which are yielded without test images.
      most: The most mistakes to return of each.
    """
    known: dict[tuple[object, ...], datasets.Dataset | str] = {}
    for run in shown:
        if isinstance(run, Stored):
            yield Network(
                artifact=run.artifact,
                size=len(format.encode(run.artifact)),
                masks=run.masks if run.has_masks else {},
                mistakes="a file by itself names no test images",
                mean_image=None,
            )
            continue
        trained = restore(run.folder.path, seed=run.seed, model=run.model)
        artifact = to_graph.of_trained(run.record, run.summary, trained)
        key = tuple(run.record.config.data.items())
        if key not in known:
            known[key] = _load(run.record)
        data = known[key]
        if not isinstance(data, str) and data.version != run.record.dataset_version:
            data = f"the data at hand is version {data.version}, the run's was {run.record.dataset_version}"
        yield Network(
            artifact=artifact,
            size=len(format.encode(artifact)),
            masks=trained.masks if run.has_masks else {},
            mistakes=data if isinstance(data, str) else find_mistakes(artifact.network, data, most),
            mean_image=None if isinstance(data, str) else mean_image(data.train_images),
        )


def masks_of(run: Finished, seeds: Collection[int]) -> dict[int, dict[str, np.ndarray]]:
    """Restore the masks of networks of a run, by their seeds.

    Args:
      run: The run.
      seeds: The networks' seeds.
    """
    return {trained.seed: trained.masks for trained in restore_each(run.folder.path, seeds, model=run.model)}


def _load(record: Record) -> datasets.Dataset | str:
    try:
        return loader(record.config)(read_only=True)
    except (errors.InputError, errors.RunError) as error:
        return f"the data is not at hand: {errors.one_line(error)}"


def mean_image(images: np.ndarray) -> np.ndarray:
    """Average images and their channels, some at a time: they may be on disk.

    Args:
      images: uint8 `[N, H, W, C]`.

    Returns:
      float64 `[H, W]`.
    """
    parts = (np.asarray(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
    total = sum(part.sum((0, 3), dtype=np.int64) for part in parts)
    return np.asarray(total / (len(images) * images.shape[3]))
