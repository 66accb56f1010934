"""A folder of images by class: `train/cat/*.png`, and perhaps `test/cat/*.png`."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib

import numpy as np

from ssm_jax.data import arrays, images
from ssm_jax.errors import InputError

SPLITS = ("train", "test")


def read(
    folder: pathlib.Path, image_size: int = 0, channels: int = 0
) -> tuple[dict[str, np.ndarray], list[str], str]:
    """Read the images of a folder.

    Args:
      folder: It holds a folder for each split, and these one for each class. What begins with a dot is left
        out, as is whatever is no file.
      image_size: The side to which images are cut in the middle and resized; 0 is as they are, which then has
        to be one size.
      channels: 1 makes them gray, 3 color; 0 is as the first one is.

    Returns:
      The arrays `train_images`, uint8 `[N, H, W, C]`, `train_labels`, int64 `[N]`, and those of `test` if
      there is such a folder, by class and name; the names of the classes; and a digest of all of it.

    Raises:
      InputError: A folder or an image can't be used, or they don't fit into memory.
    """
    classes = sorted(path.name for path in _within(folder / "train") if path.is_dir())
    if len(classes) < 2:
        raise InputError(
            f"{folder / 'train'} has {len(classes)} folders; at least two are needed, one for each class"
        )
    found = {}
    for split in SPLITS if (folder / "test").is_dir() else SPLITS[:1]:
        unknown = {path.name for path in _within(folder / split) if path.is_dir()} - {*classes}
        if unknown:
            raise InputError(f"{folder / split} has a folder {min(unknown)!r}, and train has none")
        found[split] = [
            (path, label)
            for label, name in enumerate(classes)
            if (folder / split / name).is_dir()
            for path in _within(folder / split / name)
            if path.is_file()
        ]
        if not found[split]:
            raise InputError(f"{folder / split} holds no image")
    shape = _shape(found["train"][0][0], image_size, channels)
    arrays.check_memory(str(folder), sum(map(len, found.values())) * int(np.prod(shape)))
    given: dict[str, np.ndarray] = {}
    digest = hashlib.sha256(repr(classes).encode())
    for split, pairs in found.items():
        given[f"{split}_images"] = _decode([path for path, _ in pairs], shape, resize=image_size > 0)
        given[f"{split}_labels"] = np.array([label for _, label in pairs])
        for array in (given[f"{split}_images"], given[f"{split}_labels"]):
            digest.update(array.tobytes())
    return given, classes, digest.hexdigest()[:12]


def _within(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"cannot read {folder}: {error.strerror}; images lie in train/<class>/ and test/<class>/"
        ) from error


def _shape(first: pathlib.Path, image_size: int, channels: int) -> tuple[int, int, int]:
    height, width, own = images.shape_of(first)
    side = (image_size, image_size) if image_size else (height, width)
    return *side, channels or own


def _decode(paths: list[pathlib.Path], shape: tuple[int, int, int], *, resize: bool) -> np.ndarray:
    made = np.empty((len(paths), *shape), np.uint8)

    def one(place: int) -> None:
        path = paths[place]
        if not resize and (own := images.shape_of(path)[:2]) != shape[:2]:
            size, others = "x".join(map(str, own)), "x".join(map(str, shape[:2]))
            raise InputError(f"{path} is {size}, others are {others}: set config.data.image_size")
        made[place] = images.read(path, shape)[0][0]

    # Pillow decodes without the interpreter's lock.
    with images.any_size(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(one, range(len(paths))):
            pass
    return made
