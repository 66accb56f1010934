"""Networks trained on images that stay on disk: bit for bit those that are trained on images in memory."""

from __future__ import annotations

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
import steps_on_devices
from flax import nnx
from PIL import Image
from steps_on_devices import CLASSES, EXAMPLES, examples, leaves

import ssm_jax
from ssm_jax import config as configuration
from ssm_jax.data import stream
from ssm_jax.runs.metrics import read_metrics
from ssm_jax.training.layout import Layout, place_split
from ssm_jax.training.programs import CompiledSteps

pytest.importorskip("grain")

SHAPE = (4, 4, 1)
SEEDS = range(3, 6)


def on_disk(split):
    """A split that is read image by image."""
    pixels = split["images"]
    images = stream.Images(lambda places: (pixels[place] for place in places), SHAPE, np.arange(len(pixels)))
    return place_split(images, split["labels"])


def same(one, other):
    one, other = leaves(one), leaves(other)
    assert set(one) == set(other)
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], path)


class Small(nnx.Module):
    """A convolution, batch normalization and a dense layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = ssm_jax.Conv(1, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = ssm_jax.Dense(64, CLASSES, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.dense(nnx.relu(self.norm(self.conv(images))).reshape(len(images), -1))


@pytest.mark.parametrize(
    ("mode", "build"),
    [
        pytest.param("data", None, id="a batch on eight devices", marks=pytest.mark.slow),
        pytest.param("data", Small, id="with batch normalization", marks=pytest.mark.slow),
        pytest.param("seeds", None, id="a seed on each of three"),
    ],
)
def test_every_layout_trains_and_evaluates_alike(mode, build, monkeypatch):
    """Two epochs of three steps, in two calls each; two networks side by side where devices share a batch."""
    task = steps_on_devices.task(SHAPE, model__width=0.1, training__batch_size=16)
    if build is not None:
        task = dataclasses.replace(task, build=build)
    split = examples(SHAPE)
    tested = {name: array[:21] for name, array in split.items()}
    seeds = SEEDS if mode == "seeds" else SEEDS[:2]
    found = []
    for place in (
        lambda split, size=1: place_split(**split, batch_size=size),
        lambda split, _=1: on_disk(split),
    ):
        programs = CompiledSteps(task, Layout(mode, len(seeds)))
        data = place(split)
        state, frozen = programs.initialize(seeds)
        for steps in (2, 1, 2, 1):
            state = programs.train(state, frozen, data, steps)
        state = programs.recalibrate(state, frozen, data, 0)
        evaluated = programs.evaluate(state, frozen, place(tested, task.batch_size), 0)
        found.append((programs.layout.gather(state), evaluated))
    assert EXAMPLES / 16 < task.steps_per_epoch == 3
    same(*found)


def small(name, **overrides):
    """FCN of 30 and 10 units, two epochs of 12 steps."""
    config = configuration.default()
    values = {
        "data.name": name,
        "model.width": 0.1,
        "training.epochs": 2,
        "training.batch_size": 8,
        "data.validation": 0.1,
        "compilation_cache": "auto",
        "logging.masks": True,
    }
    config.update_from_flattened_dict(values | overrides)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight by eight pixels of two classes, a hundred images to train on."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for split, count in (("train", 100), ("test", 30)):
        for i in range(count):
            path = folder / split / f"class{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 200, (8, 8), np.uint8)
            pixels[i % 2] += 55
            Image.fromarray(pixels).save(path)
    return f"{folder}/"


@pytest.fixture(scope="module")
def loaded(folder, tmp_path_factory):
    """The run of the images in memory."""
    workdir = tmp_path_factory.mktemp("loaded") / "run"
    return workdir, ssm_jax.train_and_evaluate(small(folder), workdir)


def facts(workdir):
    """What a run has written, without what a clock decides."""
    lines = [
        {k: v for k, v in line.items() if k != "time"} for line in read_metrics(workdir / "metrics.jsonl")
    ]
    return lines, {path.name: path.read_bytes() for path in (workdir / "masks").rglob("[0-9]*.npz")}


@pytest.fixture
def few_at_once(monkeypatch):
    """Five batches in a call, and ten ahead of it."""
    monkeypatch.setattr(stream, "_CHUNK", 5 * 8 * 64)


def test_a_run_is_that_of_images_in_memory_and_so_is_one_that_was_stopped(
    folder, loaded, tmp_path, few_at_once, monkeypatch
):
    workdir, summary = loaded
    train, calls = CompiledSteps.train, []

    def stopping(self, state, frozen, data, steps):
        calls.append(steps)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, state, frozen, data, steps)

    monkeypatch.setattr(CompiledSteps, "train", stopping)
    config = small(folder, **{"data.stream": True})
    with pytest.raises(ssm_jax.Preempted, match="at step 10 of 24"):
        ssm_jax.train_and_evaluate(config, tmp_path)
    streamed = ssm_jax.train_and_evaluate(config, tmp_path)
    assert calls == [5, 5, 2, 5, 5, 2]
    assert streamed.test_accuracy == summary.test_accuracy and streamed.layers == summary.layers
    assert facts(tmp_path) == facts(workdir)
    same(*(nnx.state(ssm_jax.restore(path).model) for path in (tmp_path, workdir)))


def test_an_image_that_is_damaged_later_ends_the_run_in_one_line(folder, tmp_path, monkeypatch):
    load = stream.Images.read

    def damaged(self, chosen):
        if (self._places[chosen] == 7).any():
            raise ssm_jax.InputError("7.png is damaged")
        return load(self, chosen)

    monkeypatch.setattr(stream.Images, "read", damaged)
    with pytest.raises(ssm_jax.RunError, match=r"^7\.png is damaged$"):
        ssm_jax.train_and_evaluate(small(folder, **{"data.stream": True, "seed": 1}), tmp_path)
    assert not (tmp_path / "summary.json").exists()
