"""What an earlier start has left in a run's folder, and whether it is of the requested run."""

from __future__ import annotations

from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.runs import schema
from ssm_jax.runs.folder import Record, RunFolder, model_name
from ssm_jax.runs.summary import Summary
from ssm_jax.training import hosts
from ssm_jax.training.step import Build


def look(
    folder: RunFolder, config: ConfigDict, model: Build | None = None
) -> tuple[Record | None, Summary | None]:
    """Look what of a run is in a folder; changes nothing.

    Returns:
      The run's record, if it has begun, and its summary, if it is finished.

    Raises:
      InputError: The folder holds something else, or a run cannot begin or go on there.
    """
    stored = folder.read_record()
    if stored is not None:
        _check_same_run(stored, config, folder, model)
    summary = None if stored is None else _finished(folder, stored)
    if summary is None:
        folder.check()
    return stored, summary


def _check_same_run(
    stored: Record, config: ConfigDict, folder: RunFolder, model: Build | None = None
) -> None:
    """Check that the folder's run is the requested one; an `InputError` names what differs."""
    requested = dict(configuration.fields(config))
    differences = configuration.differences(requested, dict(configuration.fields(stored.config)))
    if model_name(model) != stored.model:
        differences.insert(0, f"model: {model_name(model)} requested, {stored.model} stored")
    if differences:
        raise errors.InputError(
            f"{folder.path} holds a run of another config ({'; '.join(differences)}): choose another "
            "--workdir"
        )


def _finished(folder: RunFolder, record: Record) -> Summary | None:
    """Read the summary of a finished run; one that is damaged is as good as none, it is made again."""
    try:
        summary = folder.read_summary()
    except schema.NewerFormatError:
        raise
    except errors.InputError as error:
        hosts.say(f"{error}; it is made again from the checkpoints")
        return None
    if summary is not None:
        _check_same_summary(summary, record, folder)
    return summary


def _check_same_summary(summary: Summary, record: Record, folder: RunFolder) -> None:
    """Check that the folder's summary is of the folder's run."""
    summarized, recorded = (dict(configuration.fields(content.config)) for content in (summary, record))
    differences = [line.partition(":")[0] for line in configuration.differences(summarized, recorded)]
    seeds = sorted([*summary.seeds, *(failure.seed for failure in summary.failed_seeds)])
    for name, ours, theirs in (
        ("network", summary.network, record.network),
        ("dataset", summary.dataset, record.dataset),
        ("seeds", seeds, list(record.seeds)),
    ):
        if ours != theirs:
            differences.append(name)
    if differences:
        raise errors.InputError(
            f"{folder.summary_path} is of another run than run.json ({', '.join(differences)}): delete it to "
            "have it made again from the checkpoints"
        )


def check_same_data(stored: Record, record: Record, folder: RunFolder) -> None:
    """Check that data, the caller's own network and settings of JAX are those with which the run began.

    Raises:
      InputError: They are others; names what differs.
    """
    for name in ("dataset_version", "image_shape", "classes", "examples", "network"):
        before, now = getattr(stored, name), getattr(record, name)
        if before != now:
            raise errors.InputError(
                f"{record.dataset} does not fit {folder.record_path}: {name} is {now!r}, and {before!r} "
                "stored; choose another --workdir"
            )
    settings = [one.jax_settings for one in (stored, record) if one.jax_settings is not None]
    for name in sorted({name for one in settings for name in one}):
        # An earlier version did not write them down.
        before, now = (one.get(name, "unset") for one in (settings[0], settings[-1]))
        if before != now:
            raise errors.InputError(
                f"{name} is {now}, and was {before} when the run in {folder.path} began: set it as it was, "
                "or choose another --workdir"
            )
