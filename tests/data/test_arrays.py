"""A user's file that most likely means something else is refused or doubted."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import numpy as np
import pytest
from data.tiny import fails

from ssm_jax.data import arrays, datasets


def save(
    folder: pathlib.Path, shape: tuple[int, ...] = (5, 3, 2), labels: Any = None, **others: Any
) -> pathlib.Path:
    """Write twelve images for training and four for testing."""
    given = np.arange(12) % 4 if labels is None else np.resize(labels, 12)
    np.savez(
        folder / "own.npz",
        train_images=np.zeros((12, *shape), np.uint8),
        train_labels=given,
        test_images=np.zeros((4, *shape), np.uint8),
        test_labels=given[:4],
        **others,
    )
    return folder / "own.npz"


def refused(path: pathlib.Path, *parts: str) -> str:
    return fails(lambda: datasets.load(str(path)), *parts)


def warned(path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="ssm_jax"):
        datasets.load(str(path))
    return caplog.text


def test_channels_first_are_refused_where_they_are_sure_and_doubted_elsewhere(tmp_path, caplog):
    text = "train_images are [3, 32, 32] (H, W, C): with channels first? Store images.transpose(0, 2, 3, 1)"
    refused(save(tmp_path, (3, 32, 32)), text)
    refused(save(tmp_path, (1, 28, 28)), "with channels first?")
    assert "[3, 20, 30] (H, W, C), of 30 channels" in warned(save(tmp_path, (3, 20, 30)), caplog)
    for shape in ((32, 32, 3), (4, 4, 4), (3, 3, 3), (28, 28), (9, 9, 12)):
        assert warned(save(tmp_path, shape), caplog) == ""


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.arange(1, 11), "train_labels are 1 to 10; the first class is 0: subtract 1"),
        ([0, 999_999], "train_labels name 2 classes, the last of them 999999: number them from 0 on"),
        ([3], "train_labels are all 3; at least two classes are needed"),
        ([0], "train_labels are all 0; at least two classes are needed"),
    ],
)
def test_labels_that_are_not_numbered_from_0_are_refused(tmp_path, labels, text):
    refused(save(tmp_path, labels=labels), text)


def test_a_class_without_an_example_is_named(tmp_path, caplog):
    assert "no example of 1 of 4 classes: 2" in warned(save(tmp_path, labels=[0, 1, 3]), caplog)
    # Names tell that the first class is meant.
    names = {"class_names": np.array(["background", "cat", "dog"])}
    assert "no example of 1 of 3 classes: 0" in warned(save(tmp_path, labels=[1, 2], **names), caplog)


def test_a_member_that_is_not_used_is_named(tmp_path, caplog):
    path = save(tmp_path, validation_images=np.zeros(3))
    assert f"{path} also holds validation_images, which is not used" in warned(path, caplog)
    np.savez(tmp_path / "own.npz", images=np.zeros(3))
    refused(path, "lacks train_images, train_labels", "it holds images")


def test_classes_have_the_names_that_a_file_gives_them(tmp_path):
    path = save(tmp_path, class_names=np.array(["cat", "dog", "猫", "d"]))
    assert datasets.load(str(path)).classes == 4
    assert datasets.class_names(str(path), classes=4) == ("cat", "dog", "猫", "d")
    assert datasets.class_names(str(path), classes=5) == ("0", "1", "2", "3", "4")
    refused(save(tmp_path, class_names=np.arange(4)), "class_names must be texts [classes], not int64 [4]")
    refused(save(tmp_path, class_names=np.array(["cat", "dog"])), "train_labels must be in [0, 2), not 3")


def test_a_small_file_of_images_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path)
    monkeypatch.setattr(arrays, "_memory", lambda: 400)
    monkeypatch.setattr("ssm_jax.npz.read", lambda *_: pytest.fail("it was read"))
    refused(path, "take 0.0 GB, and there is memory of 0.0")
