"""Downloading and preparing TFDS datasets without TensorFlow.

The builders of MNIST and CIFAR that come with TFDS unpack their archives through TensorFlow; the archives
are gzip and tar, which Python reads itself.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import io
import logging
import os
import pathlib
import queue
import shutil
import struct
import tarfile
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import download_manager, downloader, util

from ssm_jax.data.tfds import check_features, check_splits, known_features, quiet_tfds, supervised_keys
from ssm_jax.errors import InputError, one_line, unknown

_log = logging.getLogger("ssm_jax")

_EXAMPLES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")
# A user without a network is told so within 5 s, import and clean-up included.
_PROBE_SECONDS = 2.5
_SILENCE_SECONDS = 30.0


@quiet_tfds()
@known_features()
def builder(name: str, data_dir: pathlib.Path) -> Any:
    """Make the TFDS builder of a dataset, one that needs no TensorFlow where there is one.

    Args:
      name: The dataset as `name`, `name/config`, `name:1.2.3` or `name/config:1.2.3`.

    Returns:
      A `tfds.core.DatasetBuilder` that writes array_record.

    Raises:
      InputError: TFDS has no such dataset, configuration or version.
    """
    base = name.partition(":")[0].partition("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        nearest = difflib.get_close_matches(base, {*known, *_EXAMPLES}, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        allowed = f"{', '.join(_EXAMPLES)}, any other TFDS name, or a file *.npz"
        raise InputError(f"unknown dataset {name!r} (allowed: {allowed}){hint}")
    official: Any = tfds.builder_cls(base)
    version, config = name.partition(":")[2], name.partition(":")[0].partition("/")[2]
    if config and config not in official.builder_configs:
        raise unknown(f"configuration of {base}", config, official.builder_configs or ["none"])
    try:
        if base not in _GENERATORS:
            return tfds.builder(name, data_dir=data_dir, file_format="array_record", try_gcs=False)
        # The official module's name gives the class the official checksums.
        members = {"name": base, "__module__": official.__module__, "_split_generators": _GENERATORS[base]}
        with registered.skip_registration():
            own = type(official.__name__, (official,), members)
        return own(data_dir=data_dir, version=version or None, file_format="array_record")
    except Exception as error:  # TFDS raises ValueError, AssertionError and others here.
        raise InputError(f"cannot use the dataset {name!r}: {one_line(error)}") from error


@quiet_tfds()
def label_names(name: str) -> list[str]:
    """Return the names of a dataset's classes, as far as its builder knows them without the data.

    Raises:
      InputError: TFDS has no such dataset, configuration or version.
    """
    with tempfile.TemporaryDirectory() as empty:
        info = builder(name, pathlib.Path(empty)).info
        named = dict(info.features.items()) if hasattr(info.features, "items") else {}
        return list(getattr(named.get(supervised_keys(info)[1]), "names", None) or [])


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _idx(self: Any, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    """`_split_generators` of the MNIST family; keys as in the official one, so the order is too."""
    splits = {"train": "train", "test": "t10k"}
    files = {
        (split, what): urllib.parse.urljoin(self.URL, f"{stem}-{what}-ubyte.gz")
        for split, stem in splits.items()
        for what in ("images-idx3", "labels-idx1")
    }
    paths = dl_manager.download(files)

    def examples(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        data = gzip.decompress(pathlib.Path(paths[split, "images-idx3"]).read_bytes())
        labels = gzip.decompress(pathlib.Path(paths[split, "labels-idx1"]).read_bytes())
        # Big-endian: a magic number and the sizes, then the bytes.
        images = np.frombuffer(data, np.uint8, offset=16).reshape(struct.unpack_from(">3I", data, 4))
        for key, (image, label) in enumerate(zip(images, labels[8:], strict=True)):
            yield key, {"image": _png(image), "label": label}

    return {split: examples(split) for split in splits}


def _cifar(self: Any, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    """`_split_generators` of CIFAR-10 and CIFAR-100; keys as in the official one, so the order is too."""
    layout = self._cifar_info
    wanted = {*layout.label_files, *layout.train_files, *layout.test_files}
    files = {}
    with tarfile.open(dl_manager.download(layout.url)) as archive:
        for member in archive:
            name = member.name.removeprefix(layout.prefix)
            if name in wanted and (file := archive.extractfile(member)):
                files[name] = file.read()
    for key, name in zip(layout.label_keys, layout.label_files, strict=True):
        self.info.features[key].names = files[name].decode().split()

    def examples(split: str, names: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        heads = len(layout.label_keys)
        rows = np.frombuffer(b"".join(files[name] for name in names), np.uint8).reshape(-1, heads + 3072)
        for key, row in enumerate(rows):
            image = row[heads:].reshape(3, 32, 32).transpose(1, 2, 0)
            labels = dict(zip(layout.label_keys, map(int, row)))
            yield key, {"id": f"{split}_{key:05d}", "image": _png(np.ascontiguousarray(image)), **labels}

    return {"train": examples("train", layout.train_files), "test": examples("test", layout.test_files)}


_GENERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "mnist": _idx,
    "fashion_mnist": _idx,
    "kmnist": _idx,
    "cifar10": _cifar,
    "cifar100": _cifar,
}


@quiet_tfds()
def prepare(builder: Any, name: str, data_dir: pathlib.Path, *, held_out: bool = False) -> None:
    """Download and prepare a dataset as a standard TFDS directory of array_record files.

    Archives in `<data_dir>/downloads/manual` are taken from there; TFDS verifies their checksums.

    Args:
      held_out: Whether a test set is held out of the training images.

    Raises:
      InputError: The dataset is none to train and test on, which is said before anything is fetched where
        its builder tells; or it cannot be fetched or made, and no part of it stays behind. Without a network
        this takes less than 5 s.
    """
    check_features(name, builder.info)
    if splits := _splits(builder):
        check_splits(name, splits, held_out)
    _log.info("preparing %s in %s", name, builder.data_path)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _network():
            builder.download_and_prepare(download_config=config)
    except download_manager.NonMatchingChecksumError as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise InputError(f"cannot prepare {name}: {reason}; replace or delete that file") from error
    except (requests.RequestException, util.DownloadError) as error:
        manual = data_dir / "downloads" / "manual"
        files = {url: info.filename for url, info in (builder.url_infos or {}).items() if info.filename}
        urls = [url for url, file in files.items() if not (manual / file).exists()]
        listed = ", ".join(urls[:4]) + (f" and {len(urls) - 4} more" if len(urls) > 4 else "")
        archives = f"the files of {listed} into {manual}/, or " if urls else ""
        remedy = f"put {archives}a prepared copy into {builder.data_path}"
        raise InputError(f"cannot download {name}: {one_line(error)}; {remedy}") from error
    except Exception as error:  # Any library that a TFDS builder may call.
        remedy = f"a copy prepared elsewhere goes to {builder.data_path}"
        raise InputError(f"cannot prepare {name}: {one_line(error)}; {remedy}") from error
    finally:
        _sweep(data_dir, builder)


class _Nowhere:
    """Stands for TFDS's download manager: it fetches nothing, and every path that it gives leads nowhere."""

    manual_dir = extracted = pathlib.Path(os.devnull, "nowhere")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda urls=None, *_, **__: _paths(urls)


def _paths(urls: Any) -> Any:
    if isinstance(urls, dict):
        return {key: _paths(value) for key, value in urls.items()}
    return [_paths(value) for value in urls] if isinstance(urls, (list, tuple)) else _Nowhere.manual_dir


def _splits(builder: Any) -> set[str]:
    """Ask a builder for the names of its splits; it tells none where it looks into its archives for them."""
    try:
        generators = builder._split_generators(_Nowhere())
        return {str(getattr(split, "name", split)) for split in generators}
    except Exception:  # Of a path that leads nowhere, or of a library that is not installed.
        return set()


def _sweep(data_dir: pathlib.Path, builder: Any) -> None:
    """Remove what a failed preparation leaves: directories that are empty or name a default config only."""
    downloads, home = data_dir / "downloads", data_dir / builder.name
    own = downloads / builder.name
    inner = (*own.glob("*.tmp.*"), own, downloads / "extracted", *home.glob("*"))
    for path in (*inner, downloads, home, data_dir):
        if path == home and [inside.name for inside in home.glob("*")] == [".config"]:
            shutil.rmtree(home, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """Give TFDS's downloads a time limit and no second try: a user without a network is told at once."""
    opening, retries = downloader._open_url, downloader.MAX_RETRIES
    lock, asked = threading.Lock(), dict[str, str]()

    def limited(url: str, **options: Any) -> Any:
        if not url.startswith("http"):
            return opening(url, **options)
        host = urllib.parse.urlsplit(url).netloc
        with lock:
            # One dead host is enough, to wait for the others would only take longer.
            if not any(asked.values()) and host not in asked:
                asked[host] = _probe(url)
        failure = next(filter(None, asked.values()), "")
        if failure:
            raise requests.ConnectionError(failure)
        return opening(url, timeout=(_PROBE_SECONDS, _SILENCE_SECONDS), **options)

    downloader._open_url, downloader.MAX_RETRIES = limited, 0
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = opening, retries


def _probe(url: str) -> str:
    """Say why the host of a URL does not answer; the empty string if it does, with an HTTP error even.

    A thread asks and is left behind when it hangs, because name resolution knows no timeout.
    """
    answers: queue.Queue[str] = queue.Queue()
    host = urllib.parse.urlsplit(url).netloc

    def ask() -> None:
        try:
            requests.head(url, timeout=_PROBE_SECONDS)
            answers.put("")
        except requests.RequestException as error:
            answers.put(f"no connection to {host} ({type(error).__name__})")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=_PROBE_SECONDS)
    except queue.Empty:
        return f"no answer from {host} within {_PROBE_SECONDS:g} s"
