"""Sums over groups and seeds, against numbers by hand."""

import dataclasses

import numpy as np
import pytest

from ssm_jax import config, errors
from ssm_jax.runs.folder import Record
from ssm_jax.runs.summary import EmptyLayers, Failure, Statistics
from ssm_jax.training.loop import Result
from ssm_jax.training.results import summarize

SHAPES = {"a": (4, 2), "b": (2, 1)}


@pytest.fixture
def record():
    settings = config.override(config.default(), {"seed": 5, "seeds": 3, "training.batch_size": 10})
    return Record(
        network="fcn",
        model=None,
        dataset="digits",
        dataset_version="1",
        image_shape=(2, 2, 1),
        classes=2,
        examples=100,
        seeds_per_group=2,
        config=settings,
    )


def result(seeds, accuracy, counts, failed=()):
    hidden = sum(np.array(values)[:, 1] for values in counts.values())
    return Result(
        seeds=seeds,
        steps=7,
        test_accuracy=np.array(accuracy),
        remaining_weights=1 - hidden / 10,
        counts={name: np.array(values) for name, values in counts.items()},
        failed=[Failure(seed=seed, step=3, metric="loss") for seed in failed],
        train_seconds=2.0,
        compile_seconds=1.0,
    )


def test_a_failed_network_is_listed_and_left_out(record):
    first = result([5, 6], [90.0, 10.0], {"a": [[1, 5, 2], [8, 0, 0]], "b": [[1, 0, 1], [0, 2, 0]]}, [6])
    second = result([7], [70.0], {"a": [[3, 1, 4]], "b": [[0, 2, 0]]})
    summary = summarize(record, [first, second], SHAPES, "signed")
    assert summary.seeds == (5, 7) and summary.failed_seeds == (Failure(seed=6, step=3, metric="loss"),)
    assert summary.test_accuracy == Statistics.of([90.0, 70.0])
    assert summary.remaining_weights == Statistics.of([0.5, 0.7])
    assert summary.emptied_layers == (EmptyLayers(seed=7, layers=("b",)),)
    a, b = summary.layers
    assert (a.inverted, a.hidden, a.kept) == (2 / 8, 3 / 8, 3 / 8) and (b.weights, summary.weights) == (2, 10)
    assert (summary.train_seconds, summary.compile_seconds, summary.steps) == (4.0, 2.0, 7)
    assert summary.images_per_second == 7 * 3 * 10 / 4.0


@pytest.mark.parametrize(("steps", "epochs"), [(7, 1), (20, 2), (910, 91)])
def test_epochs_are_those_that_were_trained(record, steps, epochs):
    counts = {"a": [[1, 5, 2]], "b": [[1, 0, 1]]}
    results = [result([seed], [90.0], counts) for seed in record.seeds]
    results[1] = dataclasses.replace(results[1], steps=steps)
    assert summarize(record, results, SHAPES, "signed").epochs == epochs


def test_a_run_of_which_every_network_failed_is_an_error(record):
    counts = {"a": [[1, 5, 2]], "b": [[1, 0, 1]]}
    results = [result([seed], [10.0], counts, [seed]) for seed in record.seeds]
    with pytest.raises(errors.RunError, match="every seed failed; the first: loss is not finite at step 3"):
        summarize(record, results, SHAPES, "signed")
