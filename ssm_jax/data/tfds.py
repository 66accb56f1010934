"""Prepared TFDS datasets read without TensorFlow.

TFDS alone reads array_record only. Only a miss of the cache in
`datasets` imports this module.
"""

from __future__ import annotations

import contextlib
import io
import logging
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ssm_jax import files, tfrecord
from ssm_jax.data.stream import Images
from ssm_jax.errors import InputError, one_line

_CHUNK = 256
# Pillow starts programs for some other kinds of files. Its modes by the number of channels:
_FORMATS = ("PNG", "JPEG", "GIF", "BMP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silence TFDS's progress bars, prints and advice."""
    tfds.disable_progress_bar()
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        absl.setLevel(level)


@contextlib.contextmanager
def known_features() -> Iterator[None]:
    """Keep TFDS from importing what the files of a dataset name: they may be a stranger's."""
    connector = tfds.features.FeatureConnector
    find = connector.__dict__["cls_from_name"]

    def known(name: str) -> Any:
        if name not in connector._registered_features:
            raise InputError(f"features of the type {name!r} are not read")
        return connector._registered_features[name]

    connector.cls_from_name = staticmethod(known)
    try:
        yield
    finally:
        connector.cls_from_name = find


@quiet_tfds()
@known_features()
def decode(
    directory: pathlib.Path, *, held_out: bool = False, stream: bool = False
) -> tuple[dict[str, Any], int]:
    """Decode a prepared dataset in array_record or tfrecord form.

    Args:
      directory: The prepared dataset, `<data_dir>/<name>[/<config>]/<version>`.
      held_out: Whether a test set is held out of the training images, so that none is decoded.
      stream: Whether the images stay on disk, as `stream.Images`; of array_record only.

    Returns:
      The arrays train_images, test_images (uint8 [N, H, W, C]) and train_labels, test_labels (int64 [N])
      in the order of the files, and the number of classes. A split `validation` stands in for a missing
      `test`.

    Raises:
      InputError: The dataset is damaged, or is no classification of uint8 images of one size.
    """
    try:
        for name in ("dataset_info.json", "features.json"):
            files.read_whole(directory / name, files.MOST_TEXT)
        prepared = tfds.builder_from_directory(directory)
    except Exception as error:  # Its metadata may be damaged in any way.
        raise InputError(f"cannot read the prepared dataset {directory}: {one_line(error)}") from error
    image_key, label_key = supervised_keys(prepared.info)
    classes = check_features(str(directory), prepared.info)
    splits = check_splits(str(directory), prepared.info.splits, held_out)
    arrays: dict[str, Any] = {}
    for split, as_split in zip(("train", "test"), splits, strict=False):
        where = f"{directory} split {as_split}"
        try:
            read = _stream_split if stream else _decode_split
            images, labels = read(prepared, as_split, image_key, label_key, where)
        except InputError:
            raise
        except Exception as error:  # Every format and image library has errors of its own.
            raise InputError(f"{where} is damaged, prepare it again: {one_line(error)}") from error
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays, classes


def check_features(source: str, info: Any) -> int:
    """Check that a dataset, which need not be prepared, is a classification of images.

    Returns:
      The number of classes.

    Raises:
      InputError: It holds something else.
    """
    image_key, label_key = supervised_keys(info)
    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    image, label = features.get(image_key), features.get(label_key)
    classes = getattr(label, "num_classes", None)
    if not isinstance(image, tfds.features.Image) or not classes:
        raise InputError(
            f"{source} is no image classification dataset: it needs an image and a class label, "
            f"and has {', '.join(sorted(features)) or 'no named features'}"
        )
    if image.np_dtype != np.uint8:
        raise InputError(f"{source} must hold uint8 images, not {np.dtype(image.np_dtype)}")
    return int(classes)


def check_splits(source: str, splits: Collection[str], held_out: bool) -> list[str]:
    """Name the splits to train and to test on.

    Args:
      held_out: Whether the test set is held out of the training images.

    Raises:
      InputError: One of them is missing, or there is one to test on that would not be used.
    """
    own = "test" if "test" in splits else "validation"
    if held_out and own in splits:
        raise InputError(f"{source} has a split {own} of its own: set config.data.test=0")
    chosen = ["train"] if held_out else ["train", own]
    if not set(chosen) <= set(splits):
        hint = "; config.data.test=0.1 holds a tenth out" if "train" in splits else ""
        raise InputError(
            f"{source} needs the splits train and test (or validation), "
            f"and has {', '.join(sorted(splits)) or 'none'}{hint}"
        )
    return chosen


def supervised_keys(info: Any) -> tuple[str, str]:
    """Name the features that are the image and its label."""
    keys = info.supervised_keys
    pair = isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys)
    return keys if pair else ("image", "label")


def _decode_split(
    prepared: Any, split: str, image_key: str, label_key: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    count = _count(prepared, split, where)
    images = np.empty(0, np.uint8)
    labels = np.empty(count, np.int64)
    index = 0
    decode = _decoder(prepared, image_key, label_key)
    for index, record in enumerate(_examples(prepared, split), start=1):
        image, label = decode(record)
        if index == 1:
            images = np.empty((count, *image.shape), np.uint8)
        _check_shape(image, images.shape[1:], where)
        images[index - 1], labels[index - 1] = image, label
    if index != count:
        raise ValueError(f"{index} of {count} records")
    return images, labels


def _stream_split(
    prepared: Any, split: str, image_key: str, label_key: str, where: str
) -> tuple[Images, np.ndarray]:
    if prepared.info.file_format.value != "array_record":
        raise InputError(
            f"{where} is prepared as {prepared.info.file_format.value}, and config.data.stream=True needs "
            "array_record, which is read in any order: prepare it so, or set data.stream=false"
        )
    count = _count(prepared, split, where)
    source = _records_of(prepared, split)
    if len(source) != count:
        raise ValueError(f"{len(source)} of {count} records")
    decode = _decoder(prepared, image_key, label_key)
    shape = decode(source[0])[0].shape
    # Of the others, none is decoded before it is asked for; labels decide what is trained and tested.
    features = tfds.features.FeaturesDict({label_key: prepared.info.features[label_key]})
    numbers = (features.deserialize_example_np(record)[label_key] for record in _examples(prepared, split))
    labels = np.fromiter(numbers, np.int64, count)

    def read(places: np.ndarray) -> Iterable[np.ndarray]:
        try:
            images = [decode(record)[0] for record in source.__getitems__(places.tolist())]
        except Exception as error:  # Every image library has errors of its own.
            raise InputError(f"{where} is damaged, prepare it again: {one_line(error)}") from error
        for image in images:
            _check_shape(image, shape, where)
        return images

    return Images(read, shape, np.arange(count)), labels


def _count(prepared: Any, split: str, where: str) -> int:
    count = int(prepared.info.splits[split].num_examples)
    if not count:
        raise InputError(f"{where} holds no example")
    return count


def _decoder(prepared: Any, image_key: str, label_key: str) -> Callable[[bytes], tuple[np.ndarray, int]]:
    """Make the function from an example as it is stored to its image, uint8 `[H, W, C]`, and its label."""
    features = prepared.info.features
    # The others, of any kind, are not decoded.
    two = tfds.features.FeaturesDict({key: features[key] for key in (image_key, label_key)})
    raw, channels = {image_key: tfds.decode.SkipDecoding()}, features[image_key].shape[-1]

    def decode(record: bytes) -> tuple[np.ndarray, int]:
        example = two.deserialize_example_np(record, decoders=raw)
        return _image(example[image_key], channels), example[label_key]

    return decode


def _check_shape(image: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    if image.shape != shape:
        sizes = f"{list(shape)} and {list(image.shape)}"
        raise InputError(f"{where} must hold images of one size, not {sizes}")


def _image(content: bytes, channels: int | None) -> np.ndarray:
    """Decode an image, uint8 `[H, W, C]`."""
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        mode = image.mode if channels is None and image.mode in _MODES.values() else _MODES[channels or 3]
        array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array if array.ndim == 3 else array[..., None]


def _examples(prepared: Any, split: str) -> Iterator[bytes]:
    """Yield the examples as they are stored."""
    file_format = prepared.info.file_format.value
    if file_format == "array_record":
        source = _records_of(prepared, split)
        for start in range(0, len(source), _CHUNK):
            yield from source.__getitems__(range(start, min(start + _CHUNK, len(source))))
    elif file_format == "tfrecord":
        shards = prepared.info.splits[split]
        for path, length in zip(shards.filepaths, shards.shard_lengths, strict=True):
            count = 0
            for record in tfrecord.read(pathlib.Path(path)):
                count += 1
                yield record
            if count != length:
                raise ValueError(f"{path} holds {count} of {length} records")
    else:
        allowed = "allowed: array_record, tfrecord"
        raise InputError(f"{prepared.data_path} is in the form {file_format!r} ({allowed})")


def _records_of(prepared: Any, split: str) -> Any:
    """The examples of an array_record dataset as they are stored, by their places."""
    return prepared.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
