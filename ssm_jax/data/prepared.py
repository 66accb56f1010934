"""TFDS datasets: prepared ones are found by their path, decoded once and cached as one uncompressed `.npz`.

So a second run needs no TFDS and starts in a second.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ssm_jax import files, npz
from ssm_jax.data import arrays
from ssm_jax.errors import InputError, RunError, one_line

_log = logging.getLogger("ssm_jax")

_NAME = re.compile(r"(?P<name>[a-z]\w*)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def load(
    name: str,
    root: pathlib.Path,
    cache_dir: pathlib.Path | None,
    read_only: bool,
    test: float,
    stream: bool = False,
) -> tuple[str, str, int, dict[str, Any]]:
    """Load a TFDS dataset; prepare it, after a download, where it is not.

    Args:
      name: The dataset as `name`, `name/config`, `name:1.2.3` or `name/config:1.2.3`.
      cache_dir: The folder of decoded ones; None keeps none.
      read_only: Whether nothing may be downloaded or written.
      test: The share of the training images that become the test images, where there are none.
      stream: Whether the images stay on disk, as `stream.Images`; then none is cached.

    Returns:
      Its name and version, the number of classes, and its arrays.

    Raises:
      InputError: It is unknown, damaged, cannot be fetched, or is no classification of images of one size.
      RunError: The disk is full.
    """
    parts = _NAME.fullmatch(name)
    prepared = parts and _find_prepared(root, parts["name"], parts["config"], parts["version"])
    if not prepared and read_only:
        raise InputError(f"{name} is not prepared in {root}")
    if not prepared:
        with _needing_tfds():
            from ssm_jax.data import tfds_prepare

        # A name that cannot be TFDS's goes there too: it knows the nearest valid one.
        builder = tfds_prepare.builder(name, root)
        try:
            tfds_prepare.prepare(builder, name, root, held_out=test > 0)
        except InputError:
            # Another process of the same run may have been the first to put it there.
            if not builder.data_path.exists():
                raise
        prepared = pathlib.Path(builder.data_path)
    try:
        digest = hashlib.sha256(
            files.read_whole(prepared / "dataset_info.json", files.MOST_TEXT)
        ).hexdigest()[:12]
    except OSError as error:
        raise InputError(f"cannot read the prepared dataset {prepared}: {one_line(error)}") from error
    *title, version = prepared.relative_to(root).parts
    parted = f"-test-{test!r}" if test else ""
    path = cache_dir and not stream and cache_dir / f"{'-'.join(title)}-{version}-{digest}{parted}.npz"
    if path and path.exists():
        try:
            cached = arrays.read_arrays(path, npz.members(path))
            (number,) = npz.read(path, ["classes"]).values()
            checked, classes = arrays.check(str(path), cached, int(number))
        except (*npz.DAMAGE, TypeError) as error:
            raise InputError(f"the cached dataset {path} is damaged, delete it: {one_line(error)}") from error
    else:
        with _needing_tfds():
            from ssm_jax.data import tfds

        _log.info("%s %s", "reading the labels of" if stream else "decoding", prepared)
        decoded, classes = tfds.decode(prepared, held_out=test > 0, stream=stream)
        checked, classes = arrays.check(str(prepared), decoded, classes, test=test)
        if path and not read_only:
            _write_cache(path, checked, classes)
    return "/".join(title), version, classes, checked


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
            metadata = files.read_json(root / name / ".config" / "metadata.json")
            config = str(metadata["default_config_name"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # A dataset without configs, as most are.
    parent = root / name / config if config else root / name
    if version:
        versions = [parent / version]
    else:
        versions = [path for path in parent.glob("*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
        versions.sort(key=lambda path: [int(number) for number in path.name.split(".")], reverse=True)
    return next((path for path in versions if (path / "dataset_info.json").is_file()), None)


def _write_cache(path: pathlib.Path, contents: Mapping[str, np.ndarray], classes: int) -> None:
    """Write the cache file; where that cannot be, the dataset is decoded again the next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: np.savez(file, classes=np.int64(classes), **contents))  # type: ignore[arg-type]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space for the dataset cache {path}: {one_line(error)}") from error
        _log.warning("cannot cache the dataset in %s, it will be decoded again: %s", path, one_line(error))
    else:
        _log.info("cached in %s", path)


def label_names(name: str, root: pathlib.Path) -> list[str]:
    """Name the classes of a TFDS dataset; nothing is downloaded, and the data need not be there.

    Raises:
      InputError: TFDS has no such dataset, configuration or version.
      OSError: The prepared dataset has no file of names.
    """
    parts = _NAME.fullmatch(name)
    prepared = parts and _find_prepared(root, parts["name"], parts["config"], parts["version"])
    if not prepared:
        from ssm_jax.data import tfds_prepare

        return tfds_prepare.label_names(name)
    key = "label"
    with contextlib.suppress(KeyError, IndexError, TypeError):
        info = files.read_json(prepared / "dataset_info.json")
        key = info["supervisedKeys"]["tuple"]["items"][1]["featureKey"]
    return (
        files.read_whole(prepared / pathlib.Path(f"{key}.labels.txt").name, files.MOST_TEXT)
        .decode()
        .split("\n")
    )
