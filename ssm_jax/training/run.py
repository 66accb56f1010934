"""The training program: from a config and a folder to trained, saved and summarized networks.

`train_and_evaluate` does it all. Run again with the same config and folder, it continues where it
stopped, or prints the table of a finished run.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shlex
from collections.abc import Iterator, Sequence

import jax
from flax import nnx
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import environment, errors
from ssm_jax.data import datasets
from ssm_jax.data.stream import Split
from ssm_jax.runs.folder import Record, RunFolder, model_name
from ssm_jax.runs.metrics import Metrics, Writer
from ssm_jax.runs.summary import Summary, table
from ssm_jax.training import hosts, preemption
from ssm_jax.training.cache import use_compilation_cache
from ssm_jax.training.from_config import Setup, from_config
from ssm_jax.training.layout import (
    Layout,
    check_logits,
    kernel_shapes,
    mask_rules,
    place_split,
    scans,
    seed_decides,
    seeds_per_group,
)
from ssm_jax.training.loop import SeedGroup, train_group
from ssm_jax.training.programs import CompiledSteps
from ssm_jax.training.results import summarize
from ssm_jax.training.step import Build, Data
from ssm_jax.training.stored import check_same_data, look

# Steps are counted in int32.
_MOST_STEPS = 2**31 - 1


@environment.own_program()
def train_and_evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    model: Build | None = None,
    writers: Sequence[Writer] = (),
) -> Summary:
    """Train, evaluate, save and summarize the networks of a config; continue an earlier run.

    Writes into `workdir`: `run.json` (the config), `metrics.jsonl`, `tensorboard/`, `checkpoints/`
    and, at the end, `summary.json`. SIGTERM and Ctrl-C make it save and raise `Preempted`.

    Args:
      config: The run's config, see `ssm_jax.config.default`.
      workdir: A folder of this run's own; made if it isn't there.
      model: A network of the caller's own, of this library's layers or masked by `ssm_jax.supermask`: a
        function from `nnx.Rngs` (streams `params`, `scores`, `default`) to a module that maps float images
        `[B, H, W, C]` to logits `[B, classes]`. `config.model`, `config.mask` and `config.init` then
        don't apply. Random numbers that its layers draw, dropout for example, follow from seed and step. An
        `nnx.BatchNorm` in it sees the whole batch, whichever devices share it; a layer that keeps other
        statistics averages them over the axis `ssm_jax.BATCH_AXIS` itself.
      writers: Objects with a method `write(lines)` that take the metrics of every epoch, beside
        `metrics.jsonl` and TensorBoard; see `ssm_jax.runs.metrics.Writer`. On the first host alone.

    Returns:
      The run's summary, which `summary.json` holds.

    Raises:
      InputError: Something that was given can't be run; nothing was started.
      RunError: The run failed, for example on a loss that is not finite.
      Preempted: SIGTERM or SIGINT (Ctrl-C) was received and the state saved.
    """
    # 1. Turn the config into typed parts: every value and every name is checked.
    setup = from_config(config, own_model=model is not None)
    if isinstance(model, nnx.Module):
        raise errors.InputError(f"model is a {type(model).__name__}; give the function that builds it")
    config = configuration.from_dict(config.to_dict())  # the caller may change his own
    environment.check()

    # 2. Look into the folder: a new run, one to go on with, or a finished one.
    folder = RunFolder(workdir)
    with hosts.together():
        contents = folder.contents()
        stored, summary = look(folder, config, model)
    hosts.check_same(
        contents,
        f"the hosts found different things in the workdir {folder.path}: choose one that all of them share",
    )
    if stored is not None and summary is not None:
        hosts.say(f"{table(summary, stored.classes)}\n\n{_next_steps(folder, model)}")
        return summary

    with hosts.together():
        # 3. Load the data.
        data = setup.load()
        _check_size(setup, data)

        # 4. Set up the task: the network, its optimizer, its batches.
        use_compilation_cache(setup.run.cache)
        network = model or setup.network(data.image_shape, data.classes)
        task = setup.task(network, len(data.train_labels))
        shapes, method = kernel_shapes(task), mask_rules(task.abstract())
        products = _products(setup, stored)
        if model is not None:
            check_logits(task, data.image_shape, data.classes)
            if stored is None and not seed_decides(task, config.seed):
                hosts.say(
                    "warning: all seeds begin with the same scores. Unless the model's kernels are given, "
                    "draw by its rngs: ssm_jax.supermask(..., rngs=rngs)"
                )

        # 5. Lay the networks out on the devices, in groups that are trained at the same time.
        size = stored.seeds_per_group if stored else seeds_per_group(setup.run, task, data.image_shape)
        programs = functools.cache(lambda count: CompiledSteps(task, Layout(setup.run.mode, count)))
        programs(size)  # tells whether the batch divides by the devices
        record = Record(
            network=config.model.name if model is None else type(task.abstract()).__name__,
            model=model_name(model),
            dataset=data.name,
            dataset_version=data.version,
            image_shape=data.image_shape,
            classes=data.classes,
            examples=len(data.train_labels),
            seeds_per_group=size,
            config=config,
            products=products,
            jax_settings=environment.recorded(),
            present=len(set(data.test_labels.tolist())),
        )
        if stored is not None:
            check_same_data(stored, record, folder)

    # 6. Train one group after another.
    settings = {name: value for name, value in configuration.fields(config) if name != "data.dir"}
    hosts.check_same(
        repr((settings, data.version, size, record.products, record.jax_settings)),
        "the hosts were not given the same config, data, compilers and settings of JAX: start the same "
        "command on each",
    )
    with _alone(folder, contents), _memory_errors():
        if stored is None and jax.process_index() == 0:
            folder.write_record(record)
        hosts.say(f"{_headline(record, shapes, method, folder)}\n{_settings(record)}")
        results = []
        with _placed(data, task.batch_size) as (splits, sizes), preemption.stop_requests() as stop:
            for seeds in record.groups():
                group = SeedGroup(
                    run=setup.run,
                    folder=folder,
                    seeds=seeds,
                    programs=programs(len(seeds)),
                    data=splits,
                    sizes=sizes,
                    metrics=Metrics(folder.path, writers),
                    stop=stop,
                    scan=scans(task),
                )
                results.append(train_group(group))

        # 7. Summarize.
        summary = summarize(record, results, shapes, method)
        if jax.process_index() == 0:
            folder.check_held()
            folder.write_summary(summary)
    hosts.say(f"\n{table(summary, record.classes)}\n\n{_next_steps(folder, model)}")
    return summary


def _check_size(setup: Setup, data: datasets.Dataset) -> None:
    """Check the numbers that depend on the size of the data."""
    examples, batch_size = len(data.train_labels), setup.batch_size
    if batch_size > examples:
        raise errors.out_of_range(
            "config.training.batch_size",
            batch_size,
            f"at most {examples}, the number of training images of {data.name}",
        )
    run = setup.run
    steps = run.epochs * setup.steps_per_epoch(examples) * run.seeds
    if steps > _MOST_STEPS:
        raise errors.InputError(
            f"config.training.epochs {run.epochs} and config.seeds {run.seeds} make {steps:,} steps of "
            f"{batch_size} images; allowed is at most {_MOST_STEPS:,}"
        )


def _products(setup: Setup, stored: Record | None) -> str:
    """Name what computes the products of layers here; says so where that is other than usual or before."""
    chosen, why = setup.products()
    products = "sparse" if chosen else "dense"
    if why:
        hosts.say(f"products are dense, XLA's: {why}")
    if stored is not None and stored.products != products:
        hosts.say(
            f"products are {products}, and were {stored.products} when the run began: results can differ by "
            "rounding"
        )
    return products


@contextlib.contextmanager
def _alone(folder: RunFolder, contents: str) -> Iterator[None]:
    """Make the folder and keep other runs out, one host for all; it must still hold what was found there."""
    with contextlib.ExitStack() as lock:
        with hosts.together():
            if jax.process_index() == 0:
                folder.make()
                lock.enter_context(folder.locked())
                if folder.contents() != contents:
                    raise errors.InputError(
                        f"another run has used the workdir {folder.path} meanwhile: give the command again"
                    )
        hosts.check_shared(folder.path)
        yield


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise errors.RunError(
            "the device is out of memory: set a lower config.training.seeds_per_device or batch_size, with "
            "another --workdir"
        ) from error


def _headline(record: Record, shapes: dict[str, tuple[int, ...]], method: str, folder: RunFolder) -> str:
    config = record.config
    weights = sum(map(math.prod, shapes.values()))
    seeds = f"{config.seeds} seeds from {config.seed}" if config.seeds > 1 else f"seed {config.seed}"
    return (
        f"{record.network} on {record.dataset} ({'x'.join(map(str, record.image_shape))}, {record.classes} "
        f"classes), {method}, {weights:,} weights, {seeds}, "
        f"batch {config.training.batch_size}, {config.training.precision}, {record.products} products, on "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}, into {folder.path}"
    )


def _settings(record: Record) -> str:
    """Name what a config or its variants set to other than the defaults, in one line."""
    default = dict(configuration.fields(configuration.default()))
    changed = {
        name: f"{name}={value}"
        for name, value in configuration.fields(record.config)
        if value != default.get(name)
    }
    without_effect = changed.keys() - record.settings()
    applied = [text for name, text in changed.items() if name not in without_effect]
    line = f"settings: {', '.join(applied) or 'the defaults'}"
    if without_effect:
        line += f"\nwarning: a model of your own does not take {', '.join(sorted(without_effect))}"
    return line


@contextlib.contextmanager
def _placed(
    data: datasets.Dataset, batch_size: int
) -> Iterator[tuple[dict[str, Data | Split], dict[str, int]]]:
    """Put every split onto the devices, or open it; yields them and the sizes of those to evaluate on."""
    splits = {"train": place_split(data.train_images, data.train_labels)}
    sizes = {}
    for name in ("validation", "test"):
        images, labels = getattr(data, f"{name}_images"), getattr(data, f"{name}_labels")
        sizes[name] = len(labels)
        if len(labels):
            splits[name] = place_split(images, labels, batch_size)
    try:
        yield splits, sizes
    finally:
        for split in splits.values():
            if isinstance(split, Split):
                split.close()


def _next_steps(folder: RunFolder, model: Build | None) -> str:
    path = shlex.quote(str(folder.path))
    curves = f"curves:  pip install tensorboard && tensorboard --logdir {path}"
    if model is not None:
        # Nobody but the caller can build the network.
        own = f"{path} --model=FILE.py:{model_name(model)}"
        return (
            f"use it:  ssm_jax.restore({str(folder.path)!r}, model=...).logits(images)\n"
            f"export:  ssm-jax export {own}\n"
            f"report:  ssm-jax report {own}\n{curves}"
        )
    return (
        f"use it:  ssm_jax.restore({str(folder.path)!r}).logits(images)\n"
        f"export:  ssm-jax export {path}\n"
        f"report:  ssm-jax report {path}\n{curves}"
    )
