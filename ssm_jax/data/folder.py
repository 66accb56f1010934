"""A folder of images by class: `train/cat/*.png`, and perhaps `test/cat/*.png`."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ssm_jax.data import arrays, images
from ssm_jax.data.stream import Images
from ssm_jax.errors import InputError

SPLITS = ("train", "test")


def read(
    folder: pathlib.Path, image_size: int = 0, channels: int = 0, stream: bool = False
) -> tuple[dict[str, Any], list[str], str]:
    """Read the images of a folder.

    Args:
      folder: It holds a folder for each split, and these one for each class. What begins with a dot is left
        out, as is whatever is no file.
      image_size: The side to which images are cut in the middle and resized; 0 is as they are, which then has
        to be one size.
      channels: 1 makes them gray, 3 color; 0 is as the first one is.
      stream: Whether the images stay on disk, as `stream.Images`.

    Returns:
      The arrays `train_images`, uint8 `[N, H, W, C]`, `train_labels`, int64 `[N]`, and those of `test` if
      there is such a folder, by class and name; the names of the classes; and a digest of all of it, where
      images stay on disk of the names and sizes of their files.

    Raises:
      InputError: A folder or an image can't be used, or they don't fit into memory.
    """
    classes = sorted(path.name for path in _within(folder / "train") if path.is_dir())
    if len(classes) < 2:
        raise InputError(
            f"{folder / 'train'} has {len(classes)} folders; at least two are needed, one for each class"
        )
    examples = {}
    for split in SPLITS if (folder / "test").is_dir() else SPLITS[:1]:
        unknown = {path.name for path in _within(folder / split) if path.is_dir()} - {*classes}
        if unknown:
            raise InputError(f"{folder / split} has a folder {min(unknown)!r}, and train has none")
        examples[split] = [
            (path, label)
            for label, name in enumerate(classes)
            if (folder / split / name).is_dir()
            for path in _within(folder / split / name)
            if path.is_file()
        ]
        if not examples[split]:
            raise InputError(f"{folder / split} holds no image")
    shape = _shape(examples["train"][0][0], image_size, channels)
    if not stream:
        needed = sum(map(len, examples.values())) * int(np.prod(shape))
        arrays.check_memory(str(folder), needed, "; config.data.stream=true reads them while it trains")
    contents: dict[str, Any] = {}
    digest = hashlib.sha256(repr(classes).encode())
    for split, pairs in examples.items():
        paths = [path for path, _ in pairs]
        decode = functools.partial(_decode, paths, shape, resize=image_size > 0)
        lazy = Images(decode, shape, np.arange(len(paths)))
        labels = np.array([label for _, label in pairs])
        if stream:
            digest.update(
                "".join(f"{path.relative_to(folder)} {path.stat().st_size}\n" for path in paths).encode()
            )
        else:
            pixels = np.asarray(lazy)
            digest.update(pixels.reshape(-1).data)
        digest.update(labels.tobytes())
        contents |= {f"{split}_images": lazy if stream else pixels, f"{split}_labels": labels}
    return contents, classes, digest.hexdigest()[:12]


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


def _decode(
    paths: list[pathlib.Path], shape: tuple[int, int, int], places: np.ndarray, *, resize: bool
) -> Iterator[np.ndarray]:
    return (images.read_photo(paths[place], shape, resize=resize) for place in places)
