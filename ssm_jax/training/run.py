"""The training program: from a config and a folder to trained, saved and summarised networks.

`train_and_evaluate` does it all. Run again with the same config and folder, it continues where it
stopped, or prints the table of a finished run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors
from ssm_jax.data import datasets
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.runs import folder as folders
from ssm_jax.runs.metrics import Metrics
from ssm_jax.runs.summary import statistics, table
from ssm_jax.training import hosts, preemption, setup
from ssm_jax.training.layout import Layout, pad_split, replicate
from ssm_jax.training.loop import Group, Result, train_group
from ssm_jax.training.programs import Programs
from ssm_jax.training.shapes import check_logits, kernel_shapes, training_bytes
from ssm_jax.training.step import Build, Task
from ssm_jax.version import __version__

# Of a device's memory, the share that the seeds beside each other may fill; the data needs some too.
_MEMORY_SHARE = 0.5
# Networks with convolutions beside each other at most. Every one adds its convolutions to the program that
# has to be compiled, while less and less is left to be shared: a guess, not measured on an accelerator yet.
_CONVOLVING_SEEDS = 8
# What is assumed where a device doesn't tell its memory.
_UNKNOWN_MEMORY = 8e9


def train_and_evaluate(
    config: ConfigDict, workdir: str | os.PathLike[str], model: Build | None = None
) -> dict[str, Any]:
    """Train, evaluate, save and summarise the networks of a config; continue an earlier run.

    Writes into `workdir`: `run.json` (the config), `metrics.jsonl`, `tensorboard/`, `checkpoints/`
    and, at the end, `summary.json`. SIGTERM and Ctrl-C make it save and raise `Preempted`.

    Args:
      config: see `ssm_jax.config.default`.
      workdir: a folder of this run's own; made if it isn't there.
      model: a network of the caller's own, built from this library's layers: a function from
        `nnx.Rngs` (streams `params`, `scores`, `default`) to a module that maps float images
        `[B, H, W, C]` to logits `[B, classes]`. `config.model`, `config.mask` and `config.init` then
        don't apply. A batch normalisation in it takes `axis_name=ssm_jax.BATCH_AXIS`.

    Returns:
      The content of `summary.json`.

    Raises:
      InputError: something that was given can't be run; nothing was started.
      RunError: the run failed, for example on a loss that is not finite.
      Preempted: SIGTERM or SIGINT (Ctrl-C) was received and the state saved.
    """
    if "://" in os.fspath(workdir):
        raise errors.InputError(f"the workdir {os.fspath(workdir)!r} is no path of a mounted file system")
    configuration.validate(config)
    setup.check(config, own_model=model is not None)
    run = _Run.open(config, pathlib.Path(workdir).expanduser(), model)
    if run.summary is not None:
        _say(table(run.summary))
        return run.summary
    use_compilation_cache(config.compilation_cache)
    try:
        return run.train()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise errors.RunError(
            "the device is out of memory: set a lower config.training.seeds_per_device or batch_size, with "
            "another --workdir"
        ) from error


def use_compilation_cache(folder: str) -> None:
    """Keep compiled programs on disk, so that a second start is quick.

    A folder that the caller has set by JAX's own means stays.

    Args:
      folder: `auto` is `ssm_jax/compiled` in the user's cache directory; an empty string is off.
    """
    if not folder or jax.config.values["jax_compilation_cache_dir"]:
        return
    if folder == "auto":
        folder = str(datasets.cache_home() / "compiled")
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


def _say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


def seeds_per_group(config: ConfigDict, task: Task, image_shape: Sequence[int], mode: str) -> int:
    """How many networks are trained at the same time, on all devices together.

    On an accelerator the dense layers of several seeds become one batched matrix product, and all seeds
    share the many small operations around their products and convolutions. A CPU is full with one seed:
    there each device trains one network after another (`benchmarks/results/` has the ratios).

    Args:
      config: a whole config; `config.training.seeds_per_device` overrules.
      task: of the config.
      image_shape: `(H, W, C)` of the dataset.
      mode: `data` or `seeds`.
    """
    per_device = config.training.seeds_per_device
    if not per_device and jax.default_backend() == "cpu":
        per_device = 1
    elif not per_device:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", _UNKNOWN_MEMORY)
        needed = training_bytes(task, image_shape)
        per_device = max(1, int(_MEMORY_SHARE * memory / needed))
        if _convolves(kernel_shapes(task)):
            per_device = min(per_device, _CONVOLVING_SEEDS)
    spread = per_device * (jax.device_count() if mode == "seeds" else 1)
    # Groups of like size: the last one of a remainder would leave devices idle.
    groups = -(-config.seeds // spread)
    return -(-config.seeds // groups)


def _name(model: Build) -> str:
    return getattr(model, "__qualname__", type(model).__name__)


def _convolves(shapes: dict[str, tuple[int, ...]]) -> bool:
    return any(len(shape) > 2 for shape in shapes.values())


@dataclasses.dataclass
class _Run:
    """A config in its folder."""

    config: ConfigDict
    workdir: pathlib.Path
    model: Build | None  # the caller's own network
    stored: dict[str, Any] | None  # what run.json holds, once the run has begun
    summary: dict[str, Any] | None  # what summary.json holds, once the run is finished

    @classmethod
    def open(cls, config: ConfigDict, workdir: pathlib.Path, model: Build | None) -> _Run:
        stored = folders.read_json(workdir / "run.json")
        if stored is not None:
            if "config" not in stored:
                raise errors.InputError(
                    f"{workdir / 'run.json'} is not of this program: choose another --workdir"
                )
            theirs = dict(configuration.fields(configuration.from_dict(stored["config"])))
            differences = configuration.differences(dict(configuration.fields(config)), theirs)
            ours = None if model is None else _name(model)
            if ours != stored["model"]:
                differences.insert(0, f"model: {ours} here, {stored['model']} there")
            if differences:
                raise errors.InputError(
                    f"{workdir} holds a run of another config ({'; '.join(differences)}): "
                    "choose another --workdir"
                )
        else:
            for name in ("summary.json", "metrics.jsonl", "tensorboard", "checkpoints"):
                if os.path.exists(workdir / name):
                    raise errors.InputError(
                        f"{workdir} holds {name} of something else, and no run.json: choose another --workdir"
                    )
        folders.check_writable(workdir)
        return cls(config, workdir, model, stored, folders.read_json(workdir / "summary.json"))

    def train(self) -> dict[str, Any]:
        config, model = self.config, self.model
        data = datasets.load(config.data.name, config.data.dir, validation=config.data.validation)
        batch_size, examples = config.training.batch_size, len(data.train_labels)
        if batch_size > examples:
            raise errors.InputError(
                f"config.training.batch_size is {batch_size}; allowed is at most {examples}, the number of "
                f"training images of {data.name}"
            )
        build = model or setup.network(config, data.image_shape, data.classes)
        task = setup.task(config, build, len(data.train_labels))
        shapes = kernel_shapes(task)
        if model is not None:
            check_logits(task, data.image_shape, data.classes)
        mode = config.parallel
        if mode == "auto":
            mode = "seeds" if config.seeds > 1 else "data"
        size = (self.stored or {}).get("seeds_per_group") or seeds_per_group(
            config, task, data.image_shape, mode
        )
        programs = functools.cache(lambda count: Programs(task, Layout(mode, count)))
        programs(min(size, config.seeds))  # tells whether the batch divides by the devices

        given = {name: value for name, value in configuration.fields(config) if name != "data.dir"}
        hosts.check_same("config and data", repr((given, data.version, size)))
        if self.stored is None:
            self.stored = {
                "dataset": data.name,
                "dataset_version": data.version,
                "config": config.to_dict(),
                "network": config.model.name if model is None else type(task.abstract()).__name__,
                "model": None if model is None else _name(model),
                "image_shape": data.image_shape,
                "classes": data.classes,
                "examples": len(data.train_labels),
                "seeds_per_group": size,
            }
            if jax.process_index() == 0:
                folders.make(self.workdir)
                folders.write_json(self.workdir / "run.json", self.stored)
        elif self.stored["dataset_version"] != data.version:
            raise errors.InputError(
                f"{data.name} has changed since the run in {self.workdir} began (version {data.version} "
                f"here, {self.stored['dataset_version']} there): choose another --workdir"
            )

        # One host claims the folder for all.
        claim = folders.claimed(self.workdir) if jax.process_index() == 0 else contextlib.nullcontext()
        with claim:
            return self._finish(self._train_groups(data, task, shapes, size, programs), shapes)

    def _train_groups(
        self,
        data: datasets.Dataset,
        task: Task,
        shapes: dict[str, tuple[int, ...]],
        size: int,
        programs: Callable[[int], Programs],
    ) -> list[Result]:
        config = self.config
        _say(self._headline(shapes))
        on_device = {"train": replicate({"images": data.train_images, "labels": data.train_labels})}
        for split in ("validation", "test"):
            images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
            if len(labels):
                on_device[split] = replicate(pad_split(images, labels, task.batch_size))
        sizes = {"validation": len(data.validation_labels), "test": len(data.test_labels)}

        seeds = range(config.seed, config.seed + config.seeds)
        metrics = Metrics(self.workdir)
        results = []
        with preemption.stop_requests() as stop:
            for first in range(0, config.seeds, size):
                group = Group(
                    config=config,
                    workdir=self.workdir,
                    seeds=seeds[first : first + size],
                    programs=programs(len(seeds[first : first + size])),
                    data=on_device,
                    sizes=sizes,
                    metrics=metrics,
                    stop=stop,
                    scan=not _convolves(shapes) or jax.default_backend() != "cpu",
                )
                results.append(train_group(group))
        metrics.close()
        return results

    def _headline(self, shapes: dict[str, tuple[int, ...]]) -> str:
        config, stored = self.config, self.stored
        assert stored is not None
        weights = sum(int(np.prod(shape)) for shape in shapes.values())
        seeds = f"{config.seeds} seeds from {config.seed}" if config.seeds > 1 else f"seed {config.seed}"
        return (
            f"{stored['network']} on {stored['dataset']}, {config.mask.rule}, {weights:,} weights, {seeds}, "
            f"batch {config.training.batch_size}, {config.training.precision}, on {jax.device_count()} x "
            f"{jax.devices()[0].device_kind}, into {self.workdir}"
        )

    def _finish(self, results: list[Result], shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        config, stored = self.config, self.stored
        assert stored is not None
        failures = [failure for result in results for failure in result.failed]
        failed = {failure["seed"] for failure in failures}
        if len(failed) == config.seeds:
            worst = failures[0]
            raise errors.RunError(
                f"every seed failed; the first: {worst['metric']} is not finite at step {worst['step']}"
            )
        good = [
            (result, i) for result in results for i, seed in enumerate(result.seeds) if seed not in failed
        ]
        seconds = sum(result.train_seconds for result in results)
        batch = config.training.batch_size
        steps = config.training.epochs * steps_per_epoch(stored["examples"], batch, config.data.passes)
        layers = []
        for name, shape in shapes.items():
            shares = np.mean([result.counts[name][i] for result, i in good], 0) / np.prod(shape)
            layers.append(
                {"name": name, "shape": shape, "weights": int(np.prod(shape))}
                | dict(zip(("inverted", "hidden", "kept"), map(float, shares), strict=True))
            )
        summary = {
            "network": stored["network"],
            "dataset": stored["dataset"],
            "method": config.mask.rule,
            "weights": sum(int(np.prod(shape)) for shape in shapes.values()),
            "seeds": [result.seeds[i] for result, i in good],
            "failed_seeds": failures,
            "test_accuracy": statistics(r.test_accuracy[i] for r, i in good),
            "remaining_weights": statistics(r.remaining_weights[i] for r, i in good),
            "epochs": config.training.epochs,
            "steps": steps,
            "train_seconds": seconds,
            "compile_seconds": sum(result.compile_seconds for result in results),
            "images_per_second": sum(r.steps * len(r.seeds) for r in results) * batch / seconds,
            "device": jax.devices()[0].device_kind,
            "device_count": jax.device_count(),
            "versions": versions(),
            "layers": layers,
            "config": config.to_dict(),
        }
        if jax.process_index() == 0:
            folders.write_json(self.workdir / "summary.json", summary)
        self.summary = summary
        _say("\n" + table(summary))
        return summary


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    installed = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), "ssm_jax": __version__} | installed
