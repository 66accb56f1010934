"""Image classification datasets as uint8 arrays in host memory.

`load` knows three sources: `digits` (bundled with scikit-learn), `.npz` files of the user, and every
TFDS dataset of fixed-size images. The latter are decoded once and cached as one uncompressed `.npz`,
so that a second run needs no TFDS and starts in a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from ssm_jax import files
from ssm_jax.errors import InputError, RunError, one_line

__all__ = ["Dataset", "cache_home", "class_names", "load"]

_log = logging.getLogger("ssm_jax")

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_TFDS_NAME = re.compile(r"(?P<name>[a-z]\w*)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset for image classification.

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


def cache_home() -> pathlib.Path:
    """Return where this package caches: `ssm_jax` in the environment's XDG_CACHE_HOME, or in ~/.cache."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssm_jax"


def load(
    name: str,
    data_dir: str = "",
    *,
    validation: float = 0.0,
    cache_dir: str | None = None,
    download: bool = True,
) -> Dataset:
    """Load a dataset into memory.

    Args:
      name: The dataset: `digits`; or a file `*.npz` that holds train_images, train_labels, test_images and
        test_labels (images uint8 [N, H, W] or [N, H, W, C], integer labels [N]), relative to the working
        directory or else to `data_dir`; or a TFDS name such as `mnist`, `name/config`, `name:1.2.3`.
      data_dir: The folder where TFDS datasets lie prepared, or are downloaded to. By default the
        environment's TFDS_DATA_DIR, or ~/tensorflow_datasets.
      validation: Share of the training set, in [0, 1), that a fixed permutation holds out.
      cache_dir: The folder where decoded TFDS datasets are kept. By default ssm_jax/datasets in the
        environment's XDG_CACHE_HOME, or in ~/.cache.
      download: Whether a TFDS dataset that is not prepared is downloaded and prepared.

    Returns:
      The dataset; the same arguments give the same arrays in the same order.

    Raises:
      InputError: The dataset is unknown, damaged, cannot be fetched, or is no classification of images of
        one size; or `validation` is out of range.
      RunError: The disk is full.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation must be a share in [0, 1), not {validation!r}")
    root = _root(data_dir)
    if name == "digits":
        dataset = _digits()
    elif name.endswith(".npz"):
        dataset = _npz(name, root)
    else:
        cache = pathlib.Path(cache_dir).expanduser() if cache_dir else cache_home() / "datasets"
        dataset = _tfds(name, root, cache, download)
    return _hold_out(dataset, validation)


def class_names(name: str, data_dir: str = "", *, classes: int) -> tuple[str, ...]:
    """Name the classes of a dataset; nothing is downloaded, and the data need not be there.

    Args:
      name: The dataset, as in `load`.
      data_dir: The folder of prepared datasets, as in `load`.
      classes: Number of classes.

    Returns:
      What the prepared dataset or TFDS calls them, else `0`, `1` and so on.
    """
    names: list[str] = []
    parts = None if name == "digits" or name.endswith(".npz") else _TFDS_NAME.fullmatch(name)
    if parts:
        with contextlib.suppress(OSError, UnicodeDecodeError, InputError, ImportError):
            root = _root(data_dir)
            prepared = _find_prepared(root, parts["name"], parts["config"], parts["version"])
            if prepared:
                names = files.read_whole(prepared / "label.labels.txt").decode().split("\n")
            else:
                from ssm_jax.data import tfds_prepare

                names = tfds_prepare.label_names(name, root)
    names = [label for label in map(str.strip, names) if label]
    return tuple(names) if len(names) == classes else tuple(map(str, range(classes)))


def _root(data_dir: str) -> pathlib.Path:
    """Return the folder of prepared datasets."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in data_dir:
        raise InputError(f"data_dir must be a local directory, not {data_dir!r}")
    return pathlib.Path(os.path.abspath(os.path.expanduser(data_dir)))


def _dataset(name: str, version: str, classes: int, arrays: Mapping[str, np.ndarray]) -> Dataset:
    train_images, train_labels = arrays["train_images"], arrays["train_labels"]
    empty = {"validation_images": train_images[:0], "validation_labels": train_labels[:0]}
    return Dataset(name, version, classes, **{key: arrays[key] for key in _ARRAYS}, **empty)


def _hold_out(dataset: Dataset, validation: float) -> Dataset:
    if not validation:
        return dataset
    count = len(dataset.train_labels)
    held = round(validation * count)
    if not 0 < held < count:
        what = "holds out no example" if not held else "leaves no example to train on"
        raise InputError(f"validation {validation!r} of {count} training examples {what}")
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(0).permutation(count)[:held]] = True
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[~chosen],
        train_labels=dataset.train_labels[~chosen],
        validation_images=dataset.train_images[chosen],
        validation_labels=dataset.train_labels[chosen],
    )


def _digits() -> Dataset:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise InputError(f"dataset 'digits' needs scikit-learn installed: {error}") from error
    bunch = sklearn.datasets.load_digits()
    # 16 gray levels of ink; 15 is the largest whole factor that keeps them in uint8.
    images = (bunch.images[..., None] * 15).astype(np.uint8)
    labels = bunch.target.astype(np.int32)
    train, test = slice(None, 1437), slice(1437, None)
    arrays = dict(zip(_ARRAYS, (images[train], labels[train], images[test], labels[test])))
    return _dataset("digits", "1.0.0", 10, arrays)


def _check(
    source: str, given: Mapping[str, np.ndarray], classes: int | None
) -> tuple[dict[str, np.ndarray], int]:
    """Bring the four arrays into the form of `Dataset`, or say in one line why that cannot be."""
    missing = [key for key in _ARRAYS if key not in given]
    if missing:
        needed, held = ", ".join(_ARRAYS), ", ".join(sorted(given)) or "nothing"
        raise InputError(f"{source} lacks {', '.join(missing)} (needed: {needed}; it holds {held})")
    arrays = {}
    for split in ("train", "test"):
        images, labels = given[f"{split}_images"], given[f"{split}_labels"]
        where = f"{source}: {split}_images"
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
            got = f"{images.dtype} {list(images.shape)}"
            raise InputError(f"{where} must be uint8 [N, H, W] or [N, H, W, C] and not empty, not {got}")
        images = images if images.ndim == 4 else images[..., None]
        where = f"{source}: {split}_labels"
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise InputError(f"{where} must be integers [N], not {labels.dtype} {list(labels.shape)}")
        if len(labels) != len(images):
            raise InputError(f"{where} must be one for each of the {len(images)} images, not {len(labels)}")
        low, high = int(labels.min()), int(labels.max())
        classes = high + 1 if classes is None else classes
        limit = min(classes, 2**31 - 1)
        if low < 0 or high >= limit:
            raise InputError(f"{where} must be in [0, {limit}), not {low if low < 0 else high}")
        arrays[f"{split}_images"] = np.ascontiguousarray(images)
        arrays[f"{split}_labels"] = labels.astype(np.int32)
    train, test = (list(arrays[key].shape[1:]) for key in ("train_images", "test_images"))
    if train != test:
        raise InputError(f"{source}: test_images must be {train} (H, W, C) as train_images are, not {test}")
    assert classes is not None
    return arrays, classes


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    files.check_regular(path)
    # Of anything else numpy would say that it holds pickles.
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise OSError("it is no .npz archive")
    with np.load(path, allow_pickle=False) as opened:
        for key in opened.files:
            if opened.files.count(key) > 1:
                raise ValueError(f"it holds {key} twice")
        arrays = {key: opened[key] for key in opened.files}
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of anything else
            raise ValueError(f"its member {key} is no array")
    return arrays


def _npz(name: str, root: pathlib.Path) -> Dataset:
    given = pathlib.Path(os.path.expanduser(name))
    path = next((p for p in (given, root / given) if os.path.exists(p)), None)
    if path is None:
        raise InputError(f"no dataset file {name!r} in {pathlib.Path.cwd()} or in {root}")
    try:
        arrays = _read_npz(path)
        with path.open("rb") as file:
            version = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except files.NPZ_DAMAGE as error:
        raise InputError(
            f"cannot read {path} as an .npz of {', '.join(_ARRAYS)}: {one_line(error)}"
        ) from error
    arrays, classes = _check(str(path), arrays, None)
    return _dataset(path.stem, version, classes, arrays)


def _tfds(name: str, root: pathlib.Path, cache_dir: pathlib.Path, download: bool) -> Dataset:
    parts = _TFDS_NAME.fullmatch(name)
    prepared = parts and _find_prepared(root, parts["name"], parts["config"], parts["version"])
    if not prepared and not download:
        raise InputError(f"{name} is not prepared in {root}")
    if not prepared:
        with _needing_tfds():
            from ssm_jax.data import tfds_prepare

        # A name that cannot be TFDS's goes there too: it knows the nearest valid one.
        builder = tfds_prepare.builder(name, root)
        try:
            tfds_prepare.prepare(builder, name, root)
        except InputError:
            # Another process of the same run may have been the first to put it there.
            if not builder.data_path.exists():
                raise
        prepared = pathlib.Path(builder.data_path)
    try:
        digest = hashlib.sha256((prepared / "dataset_info.json").read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise InputError(f"cannot read the prepared dataset {prepared}: {one_line(error)}") from error
    *title, version = prepared.relative_to(root).parts
    path = cache_dir / f"{'-'.join(title)}-{version}-{digest}.npz"
    if path.exists():
        try:
            cached = _read_npz(path)
            arrays, classes = _check(str(path), cached, int(cached["classes"]))
        except (*files.NPZ_DAMAGE, TypeError) as error:
            raise InputError(f"the cached dataset {path} is damaged, delete it: {one_line(error)}") from error
    else:
        with _needing_tfds():
            from ssm_jax.data import tfds

        _log.info("decoding %s", prepared)
        decoded, classes = tfds.decode(prepared)
        arrays, classes = _check(str(prepared), decoded, classes)
        _write_cache(path, arrays, classes)
    return _dataset("/".join(title), version, classes, arrays)


@contextlib.contextmanager
def _needing_tfds() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            "TFDS datasets need tensorflow-datasets, importlib_resources, pillow and requests installed: "
            f"{one_line(error)}"
        ) from error


def _find_prepared(
    root: pathlib.Path, name: str, config: str | None, version: str | None
) -> pathlib.Path | None:
    """Find the directory that TFDS would read by its path alone: importing TFDS takes seconds."""
    if config is None:
        try:
            metadata = json.loads(files.read_whole(root / name / ".config" / "metadata.json"))
            config = str(metadata["default_config_name"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # A dataset without configs, as most are.
    parent = root / name / config if config else root / name
    if version:
        found = [parent / version]
    else:
        found = [path for path in parent.glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
        found.sort(key=lambda path: [int(number) for number in path.name.split(".")], reverse=True)
    return next((path for path in found if (path / "dataset_info.json").is_file()), None)


def _write_cache(path: pathlib.Path, arrays: Mapping[str, np.ndarray], classes: int) -> None:
    """Write the cache file; where that cannot be, the dataset is decoded again the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: np.savez(file, classes=np.int64(classes), **arrays))  # type: ignore[arg-type]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space for the dataset cache {path}: {one_line(error)}") from error
        _log.warning("cannot cache the dataset in %s, it will be decoded again: %s", path, one_line(error))
    else:
        _log.info("cached in %s", path)
