"""Datasets of a dozen images, made here."""

from __future__ import annotations

import json
import pathlib
import shutil
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from data.tiny import check_exact, fails, make_split

from ssm_jax.data import datasets

tfds = pytest.importorskip("tensorflow_datasets")
from tensorboardX.record_writer import masked_crc32c
from tensorflow_datasets.core import registered

from ssm_jax.data import tfds as source
from ssm_jax.data import tfds_prepare
from ssm_jax.errors import InputError

SPLITS = {"train": make_split(12, 0), "test": make_split(6, 1)}


def write(
    root: pathlib.Path,
    splits: dict[str, Any] = SPLITS,
    image: Any = None,
    keys: tuple[str, str] = ("image", "label"),
    label: Any = None,
    supervised: bool = True,
) -> pathlib.Path:
    """Prepares the dataset `tiny` as array_record and returns its directory."""
    features = {
        keys[0]: image or tfds.features.Image(shape=(5, 4, 3)),
        keys[1]: label or tfds.features.ClassLabel(num_classes=7),
    }

    def info(self: Any) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=keys if supervised else None,
        )

    def generate(self: Any, manager: Any) -> Any:
        def examples(images: Any, labels: Any) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (one, number) in enumerate(zip(images, labels)):
                # Bytes are taken as they are; to encode an array, TFDS would need TensorFlow.
                picture = tfds_prepare._png(one[..., 0] if one.shape[-1] == 1 else one)
                yield index, {keys[0]: picture, keys[1]: number}

        return {name: examples(*split) for name, split in splits.items()}

    members = {
        "name": "tiny",
        "VERSION": tfds.core.Version("1.2.0"),
        "_info": info,
        "_split_generators": generate,
        "_generate_examples": None,
        "__module__": __name__,
        "pkg_dir_path": root,
    }
    with registered.skip_registration():
        builder = type("Tiny", (tfds.core.GeneratorBasedBuilder,), members)(
            data_dir=root, file_format="array_record"
        )
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def frame(record: bytes) -> bytes:
    """A record as tfrecord files hold it."""
    length = struct.pack("<Q", len(record))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, record))
    return length + next(checksums) + record + next(checksums)


def to_tfrecord(directory: pathlib.Path, shards: int = 2) -> pathlib.Path:
    """Rewrites a prepared dataset as tfrecord shards; TFDS itself would need TensorFlow for it."""
    from array_record.python import array_record_module

    path = directory / "dataset_info.json"
    info = json.loads(path.read_text())
    for split in info["splits"]:
        source = directory / f"tiny-{split['name']}.array_record-00000-of-00001"
        reader = array_record_module.ArrayRecordReader(str(source))
        records = reader.read_all()
        reader.close()
        source.unlink()
        parts = np.array_split(np.arange(len(records)), shards)
        split["shardLengths"] = [str(len(part)) for part in parts]
        for number, part in enumerate(parts):
            framed = b"".join(frame(records[i]) for i in part)
            target = f"tiny-{split['name']}.tfrecord-{number:05d}-of-{shards:05d}"
            (directory / target).write_bytes(framed)
    info["fileFormat"] = "tfrecord"
    path.write_text(json.dumps(info))
    return directory


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(tiny: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(tiny, tmp_path / "data" / "tiny" / "1.2.0"))


def test_array_record_is_bit_exact(tiny: pathlib.Path) -> None:
    arrays, classes = source.decode(tiny)
    assert classes == 7
    check_exact(arrays, SPLITS)


@pytest.mark.parametrize("shards", [1, 3])
def test_tfrecord_equals_array_record(copy: pathlib.Path, tiny: pathlib.Path, shards: int) -> None:
    expected, _ = source.decode(tiny)
    arrays, classes = source.decode(to_tfrecord(copy, shards))
    assert classes == 7
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value)


def test_load_decodes_once(
    copy: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> datasets.Dataset:
        return datasets.load("tiny", str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))

    first = load()
    monkeypatch.setattr(source, "decode", None)
    second = load()
    for dataset in (first, second):
        check_exact(vars(dataset), SPLITS)
        assert (dataset.name, dataset.version, dataset.classes) == ("tiny", "1.2.0", 7)
        assert dataset.image_shape == (5, 4, 3)
        assert dataset.train_labels.dtype == np.int32


def test_chunks_cover_every_record(tiny: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_CHUNK", 5)
    check_exact(source.decode(tiny)[0], SPLITS)


@pytest.mark.parametrize("keep", [1, 11, 40, -1])
def test_truncated_tfrecord(copy: pathlib.Path, keep: int) -> None:
    path = to_tfrecord(copy) / "tiny-train.tfrecord-00001-of-00002"
    path.write_bytes(path.read_bytes()[:keep])
    fails(lambda: source.decode(copy), "split train is damaged", path.name, "ends within a record")


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (0, "the length of record 1"),
        (7, "the length of record 1"),
        (8, "the length of record 1"),
        (12, "record 1"),
        (60, "record 1"),
        (-5, "record 3"),
        (-1, "record 3"),
    ],
)
def test_flipped_bits_in_a_tfrecord(copy: pathlib.Path, place: int, what: str) -> None:
    path = to_tfrecord(copy) / "tiny-test.tfrecord-00000-of-00002"
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    fails(lambda: source.decode(copy), "split test is damaged", f"{what} does not fit its checksum")


def test_tfrecord_with_a_record_less(copy: pathlib.Path) -> None:
    path = to_tfrecord(copy) / "tiny-test.tfrecord-00000-of-00002"
    data = path.read_bytes()
    path.write_bytes(data[struct.unpack_from("<Q", data)[0] + 16 :])
    fails(lambda: source.decode(copy), "split test is damaged", "holds 2 of 3 records")


def test_garbage_in_a_record(copy: pathlib.Path) -> None:
    path = to_tfrecord(copy) / "tiny-train.tfrecord-00000-of-00002"
    data = bytearray(path.read_bytes())
    data[12:60] = bytes(48)
    path.write_bytes(bytes(data))
    fails(lambda: source.decode(copy), "split train is damaged, prepare it again")


@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
def test_missing_shard(copy: pathlib.Path, form: str) -> None:
    if form == "tfrecord":
        to_tfrecord(copy)
    next(copy.glob(f"tiny-test.{form}*")).unlink()
    fails(lambda: source.decode(copy), "split test is damaged, prepare it again")


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_truncated_array_record(copy: pathlib.Path, keep: float) -> None:
    path = copy / "tiny-train.array_record-00000-of-00001"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    fails(lambda: source.decode(copy), "split train is damaged, prepare it again")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_metadata(copy: pathlib.Path, name: str) -> None:
    (copy / name).write_text("{")
    fails(lambda: source.decode(copy), "cannot read the prepared dataset", str(copy))


def test_other_form(copy: pathlib.Path) -> None:
    path = copy / "dataset_info.json"
    path.write_text(path.read_text().replace('"array_record"', '"riegeli"'))
    fails(lambda: source.decode(copy), "'riegeli' (allowed: array_record, tfrecord)")


@pytest.mark.parametrize("supervised", [True, False])
def test_validation_stands_in_for_test(tmp_path: pathlib.Path, supervised: bool) -> None:
    splits = {"train": SPLITS["train"], "validation": SPLITS["test"], "extra": SPLITS["test"]}
    keys = ("picture", "kind") if supervised else ("image", "label")
    arrays, _ = source.decode(write(tmp_path, splits, keys=keys, supervised=supervised))
    check_exact(arrays, SPLITS)


def test_missing_split(tmp_path: pathlib.Path) -> None:
    directory = write(tmp_path, {"train": SPLITS["train"], "extra": SPLITS["test"]})
    fails(lambda: source.decode(directory), "train and test (or validation)", "has extra, train")


def test_images_of_several_sizes(tmp_path: pathlib.Path) -> None:
    images = [np.zeros((4, size, 1), np.uint8) for size in (3, 3, 5)]
    image = tfds.features.Image(shape=(None, None, 1))
    directory = write(tmp_path, {"train": (images, [0, 1, 2]), "test": (images, [0, 1, 2])}, image)
    message = fails(lambda: source.decode(directory), "split train must hold images of one size")
    assert "[4, 3, 1]" in message
    assert "[4, 5, 1]" in message


def test_images_of_one_undeclared_size(tmp_path: pathlib.Path) -> None:
    directory = write(tmp_path, image=tfds.features.Image(shape=(None, None, 3)))
    check_exact(source.decode(directory)[0], SPLITS)


def test_images_of_16_bits(tmp_path: pathlib.Path) -> None:
    images = np.arange(2 * 4 * 3, dtype=np.uint16).reshape(2, 4, 3, 1) * 1000
    image = tfds.features.Image(shape=(4, 3, 1), dtype=np.uint16)
    directory = write(tmp_path, {"train": (images, [0, 1]), "test": (images, [0, 1])}, image)
    fails(lambda: source.decode(directory), "must hold uint8 images, not uint16")


def test_no_class_label(tmp_path: pathlib.Path) -> None:
    directory = write(tmp_path, label=tfds.features.Scalar(dtype=np.int64), keys=("image", "weight"))
    fails(lambda: source.decode(directory), "no image classification dataset", "has image, weight")


def test_labels_outside_the_classes(tmp_path: pathlib.Path) -> None:
    # Unlabeled test sets carry -1.
    splits = {"train": SPLITS["train"], "test": (SPLITS["test"][0], np.full(6, -1))}
    write(tmp_path, splits)
    fails(
        lambda: datasets.load("tiny", str(tmp_path), cache_dir=str(tmp_path / "cache")),
        "test_labels must be in [0, 7), not -1",
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mnst", ["unknown dataset 'mnst'", "digits, mnist, fashion_mnist, cifar10, cifar100", "'mnist'?"]),
        ("digit", ["unknown dataset 'digit'", "did you mean 'digits'?"]),
        ("svhn_croped", ["did you mean 'svhn_cropped'?"]),
        ("../mnist", ["unknown dataset '../mnist'"]),
        ("mnist:1.0.0", ["'mnist:1.0.0'", "only: 3.0.1"]),
        ("emnist/digit", ["unknown configuration of emnist 'digit'", "did you mean 'digits'?"]),
        ("cifar10/x", ["unknown configuration of cifar10 'x' (allowed: none)"]),
    ],
)
def test_names(tmp_path: pathlib.Path, name: str, parts: list[str]) -> None:
    fails(lambda: datasets.load(name, str(tmp_path / "data")), *parts)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("fashion_mnist", "Ankle boot"),
        ("mnist", "9"),
        ("cifar10", "9"),
        ("fashion_mnits", "9"),
        ("Not a name", "9"),
    ],
)
def test_tfds_names_classes_without_data_or_network(name, last, tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket", None)
    names = datasets.class_names(name, str(tmp_path), classes=10)
    assert (len(names), names[-1]) == (10, last) and not list(tmp_path.iterdir())


def rewrite_feature(directory: pathlib.Path, kind: str) -> None:
    """Let the dataset's files say that its label is of another kind."""
    path = directory / "features.json"
    text = path.read_text()
    ours = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
    assert ours in text
    path.write_text(text.replace(ours, kind))


def test_a_dataset_decides_not_what_is_imported(copy, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    rewrite_feature(copy, "stranger.Feature")
    fails(lambda: source.decode(copy), "features of the type 'stranger.Feature' are not read")
    # TFDS itself reads it again afterwards.
    with pytest.raises(SystemExit, match="imported"):
        tfds.builder_from_directory(copy)


def test_class_names_import_nothing_that_a_folder_names(copy, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    rewrite_feature(copy, "stranger.Feature")
    (copy / "dataset_info.json").unlink()
    shutil.copytree(copy, tmp_path / "data" / "beans" / "0.1.0")
    names = datasets.class_names("beans:0.1.0", str(tmp_path / "data"), classes=3)
    assert names == ("angular_leaf_spot", "bean_rust", "healthy")


def test_no_program_is_started_for_an_image_of_a_dataset(tmp_path, monkeypatch):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with monkeypatch.context() as patch:
        patch.setattr(tfds_prepare, "_png", lambda _: postscript)
        directory = write(tmp_path)
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    fails(lambda: source.decode(directory), "is damaged", "cannot identify image file")


def test_metadata_without_end_are_not_read(copy):
    with (copy / "features.json").open("r+b") as file:
        file.truncate(2**40)
    fails(lambda: source.decode(copy), "it is larger than 67,108,864 bytes")


def test_a_test_set_is_held_out_of_a_train_split_alone(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"train": SPLITS["train"]})
    options = {"data_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"has train; config\.data\.test=0\.1 holds a tenth out"):
        datasets.load("tiny", **options)
    for _ in range(2):  # decoded, then from the cache
        data = datasets.load("tiny", test=0.25, **options)
        assert (len(data.train_labels), len(data.test_labels)) == (9, 3)
        both = np.concatenate([data.train_images, data.test_images])
        assert sorted(map(bytes, both)) == sorted(map(bytes, SPLITS["train"][0]))


def test_a_split_of_its_own_is_not_passed_over(tiny: pathlib.Path, tmp_path: pathlib.Path) -> None:
    root = shutil.copytree(tiny.parents[1], tmp_path / "data")
    with pytest.raises(InputError, match=r"has a split test of its own: set config\.data\.test=0"):
        datasets.load("tiny", str(root), test=0.25, cache_dir=str(tmp_path / "cache"))


def test_streamed_images_are_those_that_are_decoded(tiny: pathlib.Path) -> None:
    whole, _ = source.decode(tiny)
    streamed, classes = source.decode(tiny, stream=True)
    assert classes == 7 and streamed.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(np.asarray(streamed[name]), array)


def test_a_streamed_dataset_is_loaded_and_held_out_likewise(
    copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    root, cache = str(copy.parents[1]), tmp_path / "cache"
    whole = datasets.load("tiny", root, validation=0.25, cache_dir=str(cache / "whole"))
    streamed = datasets.load("tiny", root, validation=0.25, cache_dir=str(cache / "streamed"), stream=True)
    assert streamed.version == whole.version and not (cache / "streamed").exists()
    for split in ("train", "validation", "test"):
        for kind in ("images", "labels"):
            found, expected = (np.asarray(getattr(data, f"{split}_{kind}")) for data in (streamed, whole))
            np.testing.assert_array_equal(found, expected)


def test_tfrecord_is_not_streamed(copy: pathlib.Path) -> None:
    to_tfrecord(copy)
    fails(lambda: source.decode(copy, stream=True), "is prepared as tfrecord", "array_record", "stream=false")


def test_a_streamed_image_of_another_size_says_so(tmp_path: pathlib.Path) -> None:
    images, labels = SPLITS["train"]
    splits = {"train": ([*images[:3], images[3, :4]], labels[:4]), "test": SPLITS["test"]}
    directory = write(tmp_path, splits, image=tfds.features.Image(shape=(None, None, 3)))
    streamed, _ = source.decode(directory, stream=True)
    fails(lambda: np.asarray(streamed["train_images"]), "split train must hold images of one size, not")
