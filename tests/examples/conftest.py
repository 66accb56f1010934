"""Images as small in number as a batch, for the examples that train on MNIST."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An `.npz` of 128 images to train on and 16 to test on, of MNIST's size."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 128), ("test", 16)):
        arrays[f"{split}_images"] = random.integers(256, size=(count, 28, 28, 1), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 10
    path = tmp_path_factory.mktemp("images") / "noise.npz"
    np.savez(path, **arrays)
    return path
