"""What the groups of a run have found, summed up."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ssm_jax import errors
from ssm_jax.data.batches import steps_per_epoch
from ssm_jax.runs.folder import Record
from ssm_jax.runs.summary import EmptyLayers, Layer, Statistics, Summary
from ssm_jax.training.loop import Result
from ssm_jax.version import __version__


def summarize(
    record: Record, results: Sequence[Result], shapes: Mapping[str, tuple[int, ...]], method: str
) -> Summary:
    """Sum up what the groups of a run have found.

    Raises:
      RunError: Every network has failed.
    """
    config = record.config
    failures = [failure for result in results for failure in result.failed]
    failed = {failure.seed for failure in failures}
    if len(failed) == config.seeds:
        raise errors.RunError(
            f"every seed failed; the first: {failures[0].metric} is not finite at step {failures[0].step}"
        )
    good = [(result, i) for result in results for i, seed in enumerate(result.seeds) if seed not in failed]
    layers = []
    for name, shape in shapes.items():
        shares = np.mean([result.counts[name][i] for result, i in good], 0) / math.prod(shape)
        inverted, hidden, kept = map(float, shares)
        layers.append(
            Layer(
                name=name, shape=shape, weights=math.prod(shape), inverted=inverted, hidden=hidden, kept=kept
            )
        )
    emptied_layers = []
    for result, i in good:
        names = tuple(name for name, shape in shapes.items() if result.counts[name][i][1] == math.prod(shape))
        if names:
            emptied_layers.append(EmptyLayers(seed=result.seeds[i], layers=names))
    seconds = sum(result.train_seconds for result in results)
    steps, batch_size = max(result.steps for result in results), config.training.batch_size
    images = sum(r.steps * len(r.seeds) for r in results) * batch_size
    return Summary(
        network=record.network,
        dataset=record.dataset,
        method=method,
        weights=sum(layer.weights for layer in layers),
        seeds=tuple(result.seeds[i] for result, i in good),
        failed_seeds=tuple(failures),
        emptied_layers=tuple(emptied_layers),
        test_accuracy=Statistics.of(r.test_accuracy[i] for r, i in good),
        remaining_weights=Statistics.of(r.remaining_weights[i] for r, i in good),
        epochs=math.ceil(steps / steps_per_epoch(record.examples, batch_size, config.data.passes)),
        steps=steps,
        train_seconds=seconds,
        compile_seconds=sum(result.compile_seconds for result in results),
        images_per_second=images / seconds,
        device=jax.devices()[0].device_kind,
        device_count=jax.device_count(),
        versions=versions(),
        layers=tuple(layers),
        config=config,
        present=record.present,
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    installed = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), "ssm_jax": __version__} | installed
