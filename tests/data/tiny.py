"""Images that can be told apart, and what is asked of datasets made of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ssm_jax.errors import InputError

Split = tuple[np.ndarray, np.ndarray]


def make_split(count: int, seed: int, shape: tuple[int, ...] = (5, 4, 3), classes: int = 7) -> Split:
    """Random images; the first pixel holds the index, which survives TFDS's shuffling."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images, rng.integers(0, classes, count)


def check_exact(arrays: dict[str, np.ndarray], splits: dict[str, Split]) -> None:
    for name, (images, labels) in splits.items():
        order = arrays[f"{name}_images"][:, 0, 0, 0]
        assert sorted(order) == list(range(len(images)))
        np.testing.assert_array_equal(arrays[f"{name}_images"], images[order])
        np.testing.assert_array_equal(arrays[f"{name}_labels"], labels[order])
        assert arrays[f"{name}_images"].dtype == np.uint8


def fails(call: Callable[[], object], *parts: str) -> str:
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message
