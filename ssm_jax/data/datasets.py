"""Image classification datasets as uint8 arrays in host memory, or on disk.

`load` knows four sources: `digits` (bundled with scikit-learn), `.npz` files and folders of images of the
user's, and every TFDS dataset of fixed-size images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssm_jax import files, npz
from ssm_jax.data import arrays, prepared
from ssm_jax.data.stream import check_grain
from ssm_jax.errors import InputError, one_line

__all__ = ["Dataset", "class_names", "load"]

_log = logging.getLogger("ssm_jax")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset for image classification.

    Images that stay on disk are `stream.Images` in place of arrays: `np.asarray` reads them.

    Attributes:
      name: Name of the dataset, for example `mnist`, or the stem of a user's file.
      version: Version of a TFDS dataset, or digest of a user's file.
      classes: Number of classes; every label is in [0, classes).
      train_images: uint8 [N, H, W, C].
      train_labels: int32 [N].
      validation_images: uint8 [N, H, W, C]; N is 0 when nothing is held out.
      validation_labels: int32 [N].
      test_images: uint8 [N, H, W, C].
      test_labels: int32 [N].
    """

    name: str
    version: str
    classes: int
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of one image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels


def load(
    name: str,
    data_dir: str = "",
    *,
    validation: float = 0.0,
    test: float = 0.0,
    image_size: int = 0,
    channels: int = 0,
    stream: bool = False,
    cache_dir: str | None = None,
    read_only: bool = False,
) -> Dataset:
    """Load a dataset, into memory if it isn't to be streamed.

    Args:
      name: The dataset: `digits`; or a file `*.npz` that holds train_images, train_labels, test_images and
        test_labels (images uint8 [N, H, W] or [N, H, W, C], integer labels [N]) and perhaps class_names
        (texts [classes]), relative to the working directory or else to `data_dir`; or a folder of images by
        class, a path that ends in `/`, see `ssm_jax.data.folder`; or a TFDS name such as `mnist`,
        `name/config`, `name:1.2.3`.
      data_dir: The folder where TFDS datasets lie prepared, or are downloaded to. By default the
        environment's TFDS_DATA_DIR, or ~/tensorflow_datasets.
      validation: Share of the training set, in [0, 1), that a fixed permutation holds out.
      test: Likewise, of data without test images of its own; these are taken first.
      image_size: Of a folder: the side to which images are cut and resized; 0 is as they are.
      channels: Of a folder: 1 is gray, 3 color, 0 as they are.
      stream: Whether images stay on disk and are read when they are used, of a folder or of a TFDS dataset in
        array_record. The version of a folder is then a digest of names and sizes of files.
      cache_dir: The folder where decoded TFDS datasets are kept. By default ssm_jax/datasets in the
        environment's XDG_CACHE_HOME, or in ~/.cache.
      read_only: Whether nothing may be downloaded or written, the cache neither: for names that come from a
        stranger's file.

    Returns:
      The dataset; the same arguments give the same arrays in the same order.

    Raises:
      InputError: The dataset is unknown, damaged, cannot be fetched or streamed, or is no classification of
        images of one size; or `validation` is out of range.
      RunError: The disk is full.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation must be a share in [0, 1), not {validation!r}")
    if (image_size or channels) and not name.endswith("/"):
        setting = "image_size" if image_size else "channels"
        raise InputError(f"config.data.{setting} is of a folder of images, and data.name is {name!r}")
    if stream:
        if name == "digits" or name.endswith(".npz"):
            raise InputError(
                f"config.data.stream=True reads folders of images and TFDS datasets; {name!r} is read at once"
            )
        check_grain()
    if name == "digits":
        dataset = _digits(test)
    elif name.endswith("/"):
        dataset = _folder(name, test, image_size, channels, stream)
    elif name.endswith(".npz"):
        dataset = _npz(name, data_dir, test)
    else:
        dataset = _dataset(*prepared.load(name, _root(data_dir), _cache(cache_dir), read_only, test, stream))
    return _hold_out(dataset, validation)


def class_names(name: str, data_dir: str = "", *, classes: int) -> tuple[str, ...]:
    """Name the classes of a dataset; nothing is downloaded, and the data need not be there.

    Args:
      name: The dataset, as in `load`.
      data_dir: The folder of prepared datasets, as in `load`.
      classes: Number of classes.

    Returns:
      What the file, the prepared dataset or TFDS calls them, else `0`, `1` and so on.
    """
    names: list[str] = []
    with contextlib.suppress(*npz.DAMAGE, InputError, ImportError):
        if name.endswith(".npz"):
            path = arrays.find(name, functools.partial(_root, data_dir))
            names = arrays.names_of(path, npz.members(path))
        elif name.endswith("/"):
            train = pathlib.Path(os.path.expanduser(name)) / "train"
            names = sorted(path.name for path in train.iterdir() if path.is_dir() and path.name[0] != ".")
        elif name != "digits":
            names = prepared.label_names(name, _root(data_dir))
    names = [label for label in map(str.strip, names) if label]
    return tuple(names) if len(names) == classes else tuple(map(str, range(classes)))


def _root(data_dir: str) -> pathlib.Path:
    """Return the folder of prepared datasets."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in data_dir:
        raise InputError(f"data_dir must be a local directory, not {data_dir!r}")
    try:
        return pathlib.Path(os.path.abspath(files.expand_user(data_dir)))
    except OSError as error:
        raise InputError(f"data_dir is {data_dir!r}: {files.reason(error)}; set config.data.dir") from error


def _cache(folder: str | None) -> pathlib.Path | None:
    """Return the folder of decoded datasets; None, and a warning, where there can't be one."""
    try:
        return files.expand_user(folder) if folder else files.cache_home() / "datasets"
    except OSError as error:
        _log.warning("datasets are not cached: %s", files.reason(error))
        return None


def _dataset(name: str, version: str, classes: int, contents: Mapping[str, Any]) -> Dataset:
    train_images, train_labels = contents["train_images"], contents["train_labels"]
    empty = {"validation_images": train_images[:0], "validation_labels": train_labels[:0]}
    return Dataset(name, version, classes, **{key: contents[key] for key in arrays.ARRAYS}, **empty)


def _hold_out(dataset: Dataset, validation: float) -> Dataset:
    if not validation:
        return dataset
    chosen = arrays.held_out("validation", len(dataset.train_labels), validation, seed=0)
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[~chosen],
        train_labels=dataset.train_labels[~chosen],
        validation_images=dataset.train_images[chosen],
        validation_labels=dataset.train_labels[chosen],
    )


def _digits(test: float) -> Dataset:
    if test:
        raise InputError("digits have test images of their own: set config.data.test=0")
    try:
        import sklearn.datasets
    except ImportError as error:
        raise InputError("dataset 'digits' needs scikit-learn: pip install \"ssm_jax[digits]\"") from error
    bunch = sklearn.datasets.load_digits()
    # 16 gray levels of ink; 15 is the largest whole factor that keeps them in uint8.
    images = (bunch.images[..., None] * 15).astype(np.uint8)
    labels = bunch.target.astype(np.int32)
    parts = dict(zip(arrays.ARRAYS, (images[:1437], labels[:1437], images[1437:], labels[1437:])))
    return _dataset("digits", "1.0.0", 10, parts)


def _folder(name: str, test: float, image_size: int, channels: int, stream: bool) -> Dataset:
    from ssm_jax.data import folder

    path = pathlib.Path(os.path.expanduser(name))
    contents, names, version = folder.read(path, image_size, channels, stream)
    checked, classes = arrays.check(str(path), contents, len(names), test=test)
    return _dataset(path.resolve().name, version, classes, checked)


def _npz(name: str, data_dir: str, test: float) -> Dataset:
    path = arrays.find(name, functools.partial(_root, data_dir))
    try:
        members = npz.members(path)
        names = arrays.names_of(path, members)
        contents = arrays.read_arrays(path, members)
        with path.open("rb") as file:
            version = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except InputError:
        raise
    except npz.DAMAGE as error:
        raise InputError(
            f"cannot read {path} as an .npz of {', '.join(arrays.ARRAYS)}: {one_line(error)}"
        ) from error
    unused = sorted(members.keys() - {*arrays.ARRAYS, arrays.NAMES})
    checked, classes = arrays.check(str(path), contents, len(names) or None, unused, test)
    arrays.check_likely(str(path), checked, classes, bool(names))
    if unused:
        _log.warning("%s also holds %s, which is not used", path, ", ".join(unused))
    return _dataset(path.stem, version, classes, checked)
