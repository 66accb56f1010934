"""From the folders of runs to a report of what their masks tell."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import pathlib
from collections.abc import Collection, Iterator, Sequence

import jax
import numpy as np
from flax import nnx

from ssm_jax import config as configuration
from ssm_jax import environment, errors, graph
from ssm_jax.analysis import inversion, masks
from ssm_jax.analysis.connectivity import connected
from ssm_jax.analysis.findings import Connectivity, Moment, Pairs, Report, RunReport, Transfers
from ssm_jax.analysis.masks import Masks
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
from ssm_jax.training.step import Build, Task

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
    task: Task
    seeds: list[int]
    model: Build | None

    def epochs(self, steps: int) -> float:
        record, config = self.record, self.record.config
        return steps / steps_per_epoch(record.examples, config.training.batch_size, config.data.passes)


@dataclasses.dataclass(frozen=True)
class _Network:
    """What is kept of a trained network."""

    seed: int
    step: int
    masks: Masks
    effective_signs: Masks


@environment.own_program()
def analyze(
    folders: Sequence[str | os.PathLike[str]],
    *,
    seeds: Collection[int] | None = None,
    draws: int = 3,
    model: Build | None = None,
) -> Report:
    """Gather what the masks of runs tell.

    Args:
      folders: The runs' folders, one or more, of networks with the same masked layers.
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
    own = models(list(named.values()), model)
    runs = [_open(*each, seeds, its) for each, its in zip(named.items(), own, strict=True)]
    _check_same_layers(runs)
    tests = {run.name: _test_set(run) for run in runs if draws and _has_masks(run)}
    reports, networks = [], {}
    for run in runs:
        report, networks[run.name] = _analyze(run, draws, tests.get(run.name))
        reports.append(report)
    exact = {report.name: networks[report.name] for report in reports if report.units is not None}
    return Report(
        runs=tuple(reports),
        overlaps=tuple(_overlaps(exact)),
        differences=inversion.differences(reports),
        device=jax.devices()[0].device_kind,
        versions=versions(),
    )


def _named(folders: Sequence[str | os.PathLike[str]]) -> dict[str, RunFolder]:
    """The folders by their names below the one in which all of them lie."""
    paths = [pathlib.Path(os.path.abspath(RunFolder(folder).path)) for folder in folders]
    if not paths:
        raise errors.InputError("no folder of a run was given")
    common = os.path.commonpath([path.parent for path in paths])
    named: dict[str, RunFolder] = {}
    for folder, path in zip(folders, paths):
        name = path.relative_to(common).as_posix()
        if name in named:
            raise errors.InputError(f"{os.fspath(folder)} is given twice")
        named[name] = RunFolder(folder)
    return named


def _open(name: str, folder: RunFolder, seeds: Collection[int] | None, model: Build | None) -> _Run:
    record = read_record(folder, model)
    summary = folder.read_summary()
    failed = {failure.seed for failure in summary.failed_seeds} if summary else set()
    there = []
    for group in record.groups():
        if Checkpoints(folder.checkpoints(group, "latest"), read_only=True).latest() is not None:
            there += [seed for seed in group if seed not in failed]
    if not there:
        raise errors.InputError(f"the run in {folder.path} has no checkpoint yet")
    for seed in sorted(seeds or ()):
        try:
            record.group(seed)
        except errors.InputError as error:
            raise errors.InputError(f"in the run in {folder.path} {error}") from error
        if seed not in there:
            why = "failed" if seed in failed else "has no checkpoint yet"
            raise errors.InputError(f"seed {seed} of the run in {folder.path} {why}")
    chosen = there if seeds is None else [seed for seed in there if seed in seeds]
    try:
        task = make_task(record, model)
    except errors.InputError as error:
        raise errors.InputError(f"cannot use {folder.record_path}: {error}") from error
    return _Run(name, folder, record, summary, task, chosen, model)


def _check_same_layers(runs: Sequence[_Run]) -> None:
    """Check that masks can be compared between all runs."""
    first, *others = runs
    for other in others:
        if kernel_shapes(first.task) != kernel_shapes(other.task):
            networks = (
                f"{run.folder.path} ({run.record.network} on {run.record.dataset})" for run in (first, other)
            )
            raise errors.InputError(
                f"the layers of {' and '.join(networks)} differ in number or shape: give runs of one network"
            )


def _has_masks(run: _Run) -> bool:
    return mask_rules(run.task) != configuration.DENSE


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


def _analyze(run: _Run, draws: int, tests: TestSet | None) -> tuple[RunReport, list[_Network]]:
    last, networks, transfers = run.record.seeds[-1], [], []
    kernel_seeds = tuple((last + 1 + draw) % 2**31 for draw in range(draws)) if tests else ()
    drawn = [run.task.network(seed) for seed in kernel_seeds]
    for trained in restore_each(run.folder.path, run.seeds, model=run.model):
        networks.append(_Network(trained.seed, trained.step, trained.masks, effective_signs(trained.model)))
        if len(networks) == 1:
            structure = _structure(trained.model, run.record)
        if tests is not None:
            _log.info("%s: the mask of seed %d on other kernels", run.name, trained.seed)
            key = environment.key(trained.seed)
            transfers.append(transfer(trained.model, drawn, tests.accuracy, key))
    # A mask of floats is the expectation of one that is drawn: it has shares, and no places.
    exact = _has_masks(run) and all(mask.dtype == np.int8 for mask in networks[0].masks.values())
    shares = [masks.shares(network.masks) for network in networks]
    moments, since_start = _over_training(run, networks, exact)
    record, summary = run.record, run.summary
    return RunReport(
        name=run.name,
        network=record.network,
        dataset=record.dataset,
        rule=mask_rules(run.task),
        settings=_settings(record),
        seeds=tuple(run.seeds),
        steps=tuple(network.step for network in networks),
        epochs=tuple(run.epochs(network.step) for network in networks),
        test_accuracy=_test_accuracy(run, networks),
        remaining_weights=Statistics.of(share.all.remaining for share in shares),
        device=summary.device if summary else None,
        versions=summary.versions if summary else None,
        shares=masks.mean(shares),
        units=masks.mean(masks.units(network.masks) for network in networks) if exact else None,
        connectivity=_connectivity(structure, networks) if exact and structure else None,
        moments=moments,
        since_start=since_start,
        transfer=_transfers(kernel_seeds, transfers) if transfers else None,
    ), networks


def _settings(record: Record) -> dict[str, object]:
    defaults = dict(configuration.fields(configuration.default()))
    return {
        name: value
        for name, value in configuration.fields(record.config)
        if value != defaults[name] and name not in _PLACES
    }


def _test_accuracy(run: _Run, networks: Sequence[_Network]) -> Statistics | None:
    found = {
        (line["seed"], line["step"]): line["test_accuracy"]
        for line in read_metrics(run.folder.path / "metrics.jsonl")
        if "test_accuracy" in line
    }
    wanted = [(network.seed, network.step) for network in networks]
    return Statistics.of(found[key] for key in wanted) if all(key in found for key in wanted) else None


def _structure(model: nnx.Module, record: Record) -> graph.Network | None:
    """The operations of a model; None of one of the caller's own that has others."""
    try:
        return trace.network(model, record.image_shape, before=standardize)
    except errors.InputError as error:
        _log.info("no connectivity: %s", error)
        return None


def _connectivity(structure: graph.Network, networks: Sequence[_Network]) -> Connectivity:
    found = [connected(network.masks, structure) for network in networks]
    parts = []
    for network, paths in zip(networks, found):
        remaining, on_path = (
            {name: int(np.count_nonzero(mask)) for name, mask in tree.items()}
            for tree in (network.masks, paths)
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
    run: _Run, networks: Sequence[_Network], exact: bool
) -> tuple[tuple[Moment, ...], masks.ByLayer[masks.Overlap] | None]:
    """The stored masks that all networks have, and the overlap of the first of them with the last."""
    snapshots = Snapshots(run.folder.path)
    ends = {network.seed: network.step for network in networks}
    like = {network.seed: network.masks for network in networks}
    stored = [{step for step in snapshots.steps(seed) if step <= end} for seed, end in ends.items()]
    moments: list[Moment] = []
    first: list[Masks] = []
    before: list[Masks] = []
    for step in sorted(set.intersection(*stored)):
        now: list[Masks] = [snapshots.read(seed, step, like[seed]) for seed in ends]
        flips = masks.mean(map(masks.flips, before, now)) if exact and before else None
        shares = masks.mean(map(masks.shares, now))
        moments.append(Moment(epoch=run.epochs(step), step=step, shares=shares, flips=flips))
        first, before = first or now, now
    if not exact or len(moments) < 2:
        return tuple(moments), None
    return tuple(moments), masks.mean(map(masks.overlap, first, before))


def _transfers(kernel_seeds: tuple[int, ...], found: Sequence[Transfer]) -> Transfers:
    names = [field.name for field in dataclasses.fields(Transfer)]
    accuracy = {
        name: Statistics.of(itertools.chain.from_iterable(getattr(one, name) for one in found))
        for name in names
    }
    return Transfers(kernel_seeds=kernel_seeds, accuracy=accuracy)


def _overlaps(networks: dict[str, list[_Network]]) -> Iterator[Pairs]:
    """The pairs of networks within every run, then of one seed and of others between any two runs."""
    for name, own in networks.items():
        yield from _pairs(name, name, False, itertools.combinations(own, 2))
    for (first, ours), (second, theirs) in itertools.combinations(networks.items(), 2):
        for same in (True, False):
            pairs = ((a, b) for a in ours for b in theirs if (a.seed == b.seed) == same)
            yield from _pairs(first, second, same, pairs)


def _pairs(
    first: str, second: str, same_seed: bool, pairs: Iterator[tuple[_Network, _Network]]
) -> Iterator[Pairs]:
    found = [
        (masks.overlap(a.masks, b.masks), masks.overlap(a.effective_signs, b.effective_signs))
        for a, b in pairs
    ]
    if found:
        by_mask, by_sign = (masks.mean(part) for part in zip(*found))
        yield Pairs(
            first=first,
            second=second,
            same_seed=same_seed,
            count=len(found),
            masks=by_mask,
            effective_signs=by_sign,
        )
