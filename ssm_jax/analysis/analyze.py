"""From runs and networks in files to a report of what their masks tell."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import environment, errors, graph
from ssm_jax.analysis import inversion, masks, stored
from ssm_jax.analysis.connectivity import connected
from ssm_jax.analysis.findings import Connectivity, MaskSnapshot, Report, RunReport, Transfers
from ssm_jax.analysis.masks import Masks
from ssm_jax.analysis.pairs import Network, overlaps
from ssm_jax.analysis.stored import Stored
from ssm_jax.analysis.transfer import TestSet, Transfer, effective_signs, transfer
from ssm_jax.data.batches import standardize, steps_per_epoch
from ssm_jax.graph import trace
from ssm_jax.runs.checkpoint import Checkpoints
from ssm_jax.runs.folder import Record, RunFolder
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.runs.snapshots import Snapshots
from ssm_jax.runs.summary import Statistics, Summary
from ssm_jax.trained import make_task, models, read_record, restore_each
from ssm_jax.training.from_config import loader
from ssm_jax.training.layout import kernel_shapes, mask_rules
from ssm_jax.training.results import versions
from ssm_jax.training.step import Build, TrainSpec

_log = logging.getLogger(__name__)

# Where a run's data and programs lay says nothing about it.
_PLACES = ("data.dir", "compilation_cache")


@dataclasses.dataclass(frozen=True)
class _Run:
    """A run that can be analyzed."""

    name: str
    folder: RunFolder
    record: Record
    summary: Summary | None
    task: TrainSpec
    seeds: list[int]
    model: Build | None

    @property
    def shown(self) -> str:
        """What it is, for an error."""
        return f"{self.folder.path} ({self.record.network} on {self.record.dataset})"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the masks by layer."""
        return kernel_shapes(self.task)

    def epochs(self, steps: int) -> float:
        record, config = self.record, self.record.config
        return steps / steps_per_epoch(record.examples, config.training.batch_size, config.data.passes)


@environment.own_program()
def analyze(
    folders: Sequence[str | os.PathLike[str] | Stored],
    *,
    seeds: Collection[int] | None = None,
    draws: int = 3,
    model: Build | None = None,
) -> Report:
    """Gather what the masks of runs tell.

    Args:
      folders: One or more, of networks with the same masked layers: the folder of a run, a `.ssm` file, or a
        model in a file of `ssm_jax.save`, see `ssm_jax.analysis.stored`.
      seeds: The seeds of the networks to look at, in every run; by default all that have a checkpoint.
      draws: The number of other kernels that the masks are put onto; with 0 no data are needed.
      model: The function that built the networks of those runs that trained the caller's own.

    Raises:
      InputError: A folder holds no run or no checkpoint, there is no such seed, or the runs are of different
        networks; nothing slow was started.
    """
    if draws < 0:
        raise errors.out_of_range("draws", draws, "at least 0")
    if seeds is not None and not seeds:
        raise errors.InputError("no seed was given")
    named = _named(folders)
    if seeds is not None and all(isinstance(source, Stored) for source in named.values()):
        raise errors.InputError("seeds are of runs, and only files are given: leave them out")
    folders_of_runs = [source for source in named.values() if isinstance(source, RunFolder)]
    own = dict(zip((folder.path for folder in folders_of_runs), models(folders_of_runs, model), strict=True))
    opened = [
        _open(name, source, seeds, own[source.path]) if isinstance(source, RunFolder) else source
        for name, source in named.items()
    ]
    _check_same_layers(opened)
    tests = {
        run.name: _test_set(run) for run in opened if isinstance(run, _Run) and draws and _has_masks(run)
    }
    reports, networks = [], {}
    for source in opened:
        if isinstance(source, Stored):
            report, networks[source.name] = _of_stored(source)
        else:
            report, networks[source.name] = _analyze(source, draws, tests.get(source.name))
        reports.append(report)
    exact = {report.name: networks[report.name] for report in reports if report.units is not None}
    return Report(
        runs=tuple(reports),
        overlaps=tuple(overlaps(exact)),
        differences=inversion.differences(reports),
        device=jax.devices()[0].device_kind,
        versions=versions(),
    )


def _named(folders: Sequence[str | os.PathLike[str] | Stored]) -> dict[str, RunFolder | Stored]:
    """The folders and files by their names below the folder in which all of them lie."""
    sources = [source if isinstance(source, Stored) else RunFolder(source) for source in folders]
    paths = [pathlib.Path(os.path.abspath(source.path)) for source in sources]
    if not paths:
        raise errors.InputError("no folder of a run was given")
    common = os.path.commonpath([path.parent for path in paths])
    named: dict[str, RunFolder | Stored] = {}
    for source, path in zip(sources, paths):
        name = path.relative_to(common).as_posix()
        if name in named:
            raise errors.InputError(f"{source.path} is given twice")
        if path.is_file() and isinstance(source, RunFolder):
            source = stored.of_file(source.path)
        named[name] = dataclasses.replace(source, name=name) if isinstance(source, Stored) else source
    return named


def _open(name: str, folder: RunFolder, seeds: Collection[int] | None, model: Build | None) -> _Run:
    record = read_record(folder, model)
    summary = folder.read_summary()
    failed = {failure.seed for failure in summary.failed_seeds} if summary else set()
    saved = []
    for group in record.groups():
        if Checkpoints(folder.checkpoints(group, "latest"), read_only=True).latest() is not None:
            saved += [seed for seed in group if seed not in failed]
    if not saved:
        raise errors.InputError(f"the run in {folder.path} has no checkpoint yet")
    for seed in sorted(seeds or ()):
        try:
            record.group(seed)
        except errors.InputError as error:
            raise errors.InputError(f"in the run in {folder.path} {error}") from error
        if seed not in saved:
            why = "failed" if seed in failed else "has no checkpoint yet"
            raise errors.InputError(f"seed {seed} of the run in {folder.path} {why}")
    chosen = saved if seeds is None else [seed for seed in saved if seed in seeds]
    try:
        task = make_task(record, model)
    except errors.InputError as error:
        raise errors.InputError(f"cannot use {folder.record_path}: {error}") from error
    return _Run(name, folder, record, summary, task, chosen, model)


def _check_same_layers(opened: Sequence[_Run | Stored]) -> None:
    """Check that masks can be compared between all of them."""
    first, *others = opened
    for other in others:
        if first.shapes != other.shapes:
            raise errors.InputError(
                f"the layers of {first.shown} and {other.shown} differ in number or shape: give runs of one "
                "network"
            )


def _has_masks(run: _Run) -> bool:
    return mask_rules(run.task.abstract()) != configuration.DENSE


def _test_set(run: _Run) -> TestSet:
    """Load the test set of a run, which must be the one that it was evaluated on."""
    record = run.record
    try:
        # A run may be a stranger's: what it names is read, and nothing is fetched or written.
        data = loader(record.config)(read_only=True)
    except errors.InputError as error:
        raise errors.InputError(f"{error} (with draws=0 no data is needed)") from error
    if (data.version, data.image_shape) != (record.dataset_version, record.image_shape):
        raise errors.InputError(
            f"{record.dataset} at hand is version {data.version}, that of {run.folder.path} was "
            f"{record.dataset_version}: with draws=0 no data is needed"
        )
    return TestSet(data, run.task.dtype)


def _analyze(run: _Run, draws: int, tests: TestSet | None) -> tuple[RunReport, list[Network]]:
    last, networks, transfers = run.record.seeds[-1], [], []
    by_seed: dict[int, Masks] = {}
    steps: dict[int, int] = {}
    kernel_seeds = tuple((last + 1 + draw) % 2**31 for draw in range(draws)) if tests else ()
    drawn = [run.task.network(seed) for seed in kernel_seeds]
    for trained in restore_each(run.folder.path, run.seeds, model=run.model):
        networks.append(Network(trained.seed, trained.masks, effective_signs(trained.model)))
        by_seed[trained.seed], steps[trained.seed] = trained.masks, trained.step
        if len(networks) == 1:
            structure = _structure(trained.model, run.record)
        if tests is not None:
            _log.info("%s: the mask of seed %d on other kernels", run.name, trained.seed)
            key = environment.key(trained.seed)
            transfers.append(transfer(trained.model, drawn, tests.accuracy, key))
    exact = _has_masks(run) and _exact(next(iter(by_seed.values())))
    shares = [masks.shares(each) for each in by_seed.values()]
    moments, since_start = _over_training(run, by_seed, steps, exact)
    record, summary = run.record, run.summary
    return RunReport(
        name=run.name,
        network=record.network,
        dataset=record.dataset,
        rule=mask_rules(run.task.abstract()),
        settings=_settings(dict(configuration.fields(record.config))),
        seeds=tuple(run.seeds),
        steps=tuple(steps.values()),
        epochs=tuple(map(run.epochs, steps.values())),
        test_accuracy=_test_accuracy(run, steps),
        remaining_weights=Statistics.of(share.all.remaining for share in shares),
        device=summary.device if summary else None,
        versions=summary.versions if summary else None,
        shares=masks.mean(shares),
        units=masks.mean(map(masks.units, by_seed.values())) if exact else None,
        connectivity=_connectivity(structure, by_seed.values()) if exact and structure else None,
        moments=moments,
        since_start=since_start,
        transfer=_transfers(kernel_seeds, transfers) if transfers else None,
    ), networks


def _of_stored(source: Stored) -> tuple[RunReport, list[Network]]:
    exact = source.has_masks and _exact(source.masks)
    seed = source.seeds[0] if source.seeds else None
    network = Network(seed, source.own_masks, source.effective_signs)
    return RunReport(
        name=source.name,
        network=source.network,
        dataset=source.dataset,
        rule=source.rule,
        signs_alone=source.signs_alone,
        settings=_settings(source.settings),
        seeds=source.seeds,
        steps=source.steps,
        epochs=source.epochs,
        test_accuracy=source.test_accuracy,
        remaining_weights=source.remaining_weights,
        device=None,
        versions=source.versions or None,
        shares=masks.shares(source.masks),
        units=masks.units(source.masks) if exact else None,
        connectivity=_connectivity(source.artifact.network, [source.masks]) if exact else None,
        moments=None,
        since_start=None,
        transfer=None,
    ), [network]


def _exact(by_layer: Masks) -> bool:
    """Whether masks are such, and not the expectation of what is drawn, which has shares and no places."""
    return all(mask.dtype == np.int8 for mask in by_layer.values())


def _settings(fields: Mapping[str, object]) -> dict[str, object]:
    defaults = dict(configuration.fields(configuration.default()))
    return {name: value for name, value in fields.items() if value != defaults[name] and name not in _PLACES}


def _test_accuracy(run: _Run, steps: Mapping[int, int]) -> Statistics | None:
    tested = {
        (line["seed"], line["step"]): line["test_accuracy"]
        for line in read_metrics(run.folder.path / "metrics.jsonl")
        if "test_accuracy" in line
    }
    done = [tested.get(at) for at in steps.items()]
    return None if None in done else Statistics.of(accuracy for accuracy in done if accuracy is not None)


def _structure(model: nnx.Module, record: Record) -> graph.Network | None:
    """The operations of a model; None of one of the caller's own that has others."""
    try:
        return trace.network(model, record.image_shape, before=standardize)
    except errors.InputError as error:
        _log.info("no connectivity: %s", error)
        return None


def _connectivity(structure: graph.Network, all_masks: Iterable[Masks]) -> Connectivity:
    parts = []
    for each in all_masks:
        paths = connected(each, structure)
        remaining, on_path = (
            {name: int(np.count_nonzero(mask)) for name, mask in tree.items()} for tree in (each, paths)
        )
        by_layer = {name: on_path[name] / n if n else None for name, n in remaining.items()}
        total = sum(remaining.values())
        parts.append(
            Connectivity(
                connected=masks.ByLayer(
                    layers=by_layer, all=sum(on_path.values()) / total if total else None
                ),
                units=masks.units(paths),
            )
        )
    return masks.mean(parts)


def _over_training(
    run: _Run, by_seed: Mapping[int, Masks], ends: Mapping[int, int], exact: bool
) -> tuple[tuple[MaskSnapshot, ...], masks.ByLayer[masks.Overlap] | None]:
    """The stored masks that all networks have, and the overlap of the first of them with the last."""
    snapshots = Snapshots(run.folder.path)
    stored = [{step for step in snapshots.steps(seed) if step <= end} for seed, end in ends.items()]
    moments: list[MaskSnapshot] = []
    first: list[Masks] = []
    before: list[Masks] = []
    for step in sorted(set.intersection(*stored)):
        now: list[Masks] = [snapshots.read(seed, step, like) for seed, like in by_seed.items()]
        flips = masks.mean(map(masks.flips, before, now)) if exact and before else None
        shares = masks.mean(map(masks.shares, now))
        moments.append(MaskSnapshot(epoch=run.epochs(step), step=step, shares=shares, flips=flips))
        first, before = first or now, now
    if not exact or len(moments) < 2:
        return tuple(moments), None
    return tuple(moments), masks.mean(map(masks.overlap, first, before))


def _transfers(kernel_seeds: tuple[int, ...], results: Sequence[Transfer]) -> Transfers:
    names = [field.name for field in dataclasses.fields(Transfer)]
    accuracy = {
        name: Statistics.of(itertools.chain.from_iterable(getattr(result, name) for result in results))
        for name in names
    }
    return Transfers(kernel_seeds=kernel_seeds, accuracy=accuracy)
