"""The arrays, the user's files, the cache and the checks. `test_tfds` covers TFDS itself."""

from __future__ import annotations

import errno
import json
import logging
import os
import pathlib
import subprocess
import sys
import types
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest

import ssm_jax
from ssm_jax.data import datasets
from ssm_jax.errors import InputError, RunError

Arrays = dict[str, np.ndarray]


def arrays(train: int = 10, test: int = 4, shape: tuple[int, ...] = (5, 3, 2)) -> Arrays:
    rng = np.random.default_rng(train)
    made = {}
    for split, count in (("train", train), ("test", test)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape), np.uint8)
        made[f"{split}_labels"] = np.arange(count) % 4
    return made


def fails(*parts: str, **options: Any) -> str:
    """Loads what the options say; the error must be one line that holds the parts."""
    with pytest.raises(InputError) as caught:
        datasets.load(**options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def equal(dataset: datasets.Dataset, expected: Arrays) -> None:
    for key, value in expected.items():
        np.testing.assert_array_equal(getattr(dataset, key), value)


def run(code: str) -> str:
    """Runs Python code in a process of its own, in an `ssm_jax` whose other modules are not imported."""
    bare = (
        "import sys, types; package = sys.modules['ssm_jax'] = types.ModuleType('ssm_jax')\n"
        f"package.__path__ = {list(ssm_jax.__path__)!r}\n"
    )
    command = [sys.executable, "-W", "error", "-c", bare + code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# Digits


def test_digits() -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    bunch = sklearn_datasets.load_digits()
    dataset = datasets.load("digits")
    assert dataset.train_images.shape == (1437, 8, 8, 1)
    assert dataset.test_images.shape == (360, 8, 8, 1)
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.classes == 10
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 240)
    np.testing.assert_array_equal(images[..., 0], bunch.images * 15)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, bunch.target)
    assert dataset.validation_images.shape == (0, 8, 8, 1)
    assert dataset.validation_labels.shape == (0,)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    fails("dataset 'digits' needs scikit-learn", name="digits")


# Validation


def test_validation_is_the_fixed_permutation(tmp_path: pathlib.Path) -> None:
    made = arrays()
    np.savez(tmp_path / "a.npz", **made)
    dataset = datasets.load("a.npz", str(tmp_path), validation=0.3)
    held = np.sort(np.random.default_rng(0).permutation(10)[:3])
    kept = np.setdiff1d(np.arange(10), held)
    equal(
        dataset,
        {
            "train_images": made["train_images"][kept],
            "train_labels": made["train_labels"][kept],
            "validation_images": made["train_images"][held],
            "validation_labels": made["train_labels"][held],
            "test_images": made["test_images"],
            "test_labels": made["test_labels"],
        },
    )


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.06, 1), (0.14, 1), (0.94, 9)])
def test_validation_rounds(tmp_path: pathlib.Path, share: float, held: int) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    dataset = datasets.load("a.npz", str(tmp_path), validation=share)
    assert len(dataset.validation_images) == len(dataset.validation_labels) == held
    assert len(dataset.train_images) == len(dataset.train_labels) == 10 - held


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_validation_out_of_range(share: float) -> None:
    fails("validation must be a share in [0, 1)", f"not {share!r}", name="digits", validation=share)


@pytest.mark.parametrize(
    ("share", "what"), [(0.01, "holds out no example"), (0.99, "leaves no example to train on")]
)
def test_validation_that_empties_a_part(tmp_path: pathlib.Path, share: float, what: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays())
    fails(
        f"validation {share} of 10 training examples {what}",
        name="a.npz",
        data_dir=str(tmp_path),
        validation=share,
    )


# The user's files


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 3), np.uint8), ((5, 3, 1), np.int64), ((5, 3, 4), np.uint64)]
)
def test_npz(tmp_path: pathlib.Path, shape: tuple[int, ...], dtype: type) -> None:
    made = arrays(shape=shape)
    made |= {key: made[key].astype(dtype) for key in ("train_labels", "test_labels")}
    np.savez_compressed(tmp_path / "own.v2.npz", **made, notes=np.zeros(3))
    dataset = datasets.load(str(tmp_path / "own.v2.npz"))
    made |= {key: made[key].reshape(-1, 5, 3, (*shape, 1)[2]) for key in ("train_images", "test_images")}
    equal(dataset, made)
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
    assert (dataset.name, dataset.classes) == ("own.v2", 4)
    assert dataset.image_shape == (5, 3, (*shape, 1)[2])


def test_npz_version_names_the_contents(tmp_path: pathlib.Path) -> None:
    versions = set()
    for name, made in (("a", arrays()), ("b", arrays()), ("c", arrays(11))):
        np.savez(tmp_path / f"{name}.npz", **made)
        versions.add(datasets.load(f"{name}.npz", str(tmp_path)).version)
    assert len(versions) == 2


def test_npz_is_looked_up_in_the_working_directory_first(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, count in (("cwd", 10), ("data", 11)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "a.npz", **arrays(count))
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert len(datasets.load("a.npz").train_labels) == 10
    (tmp_path / "cwd" / "a.npz").unlink()
    assert len(datasets.load("a.npz").train_labels) == 11


def test_home_is_expanded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    (tmp_path / "tensorflow_datasets").mkdir()
    np.savez(tmp_path / "tensorflow_datasets" / "a.npz", **arrays())
    assert datasets.load("a.npz").classes == 4
    assert datasets.load("~/tensorflow_datasets/a.npz").classes == 4
    assert datasets.load("a.npz", "~/tensorflow_datasets").classes == 4


def test_npz_not_found(tmp_path: pathlib.Path) -> None:
    fails(
        "no dataset file 'a.npz'",
        str(tmp_path),
        str(pathlib.Path.cwd()),
        name="a.npz",
        data_dir=str(tmp_path),
    )


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"test_labels": None}, ["lacks test_labels", "needed: train_images", "it holds test_images"]),
        (
            {"train_images": np.zeros((10, 5, 3), np.float32)},
            ["train_images must be uint8", "float32 [10, 5, 3]"],
        ),
        ({"train_images": np.zeros((10, 5), np.uint8)}, ["[N, H, W] or [N, H, W, C]", "not uint8 [10, 5]"]),
        (
            {"test_images": np.zeros((0, 5, 3, 2), np.uint8)},
            ["test_images must be", "not empty", "[0, 5, 3, 2]"],
        ),
        (
            {"test_images": np.zeros((4, 3, 5, 2), np.uint8)},
            ["test_images must be [5, 3, 2]", "not [3, 5, 2]"],
        ),
        ({"train_labels": np.zeros(10)}, ["train_labels must be integers [N], not float64 [10]"]),
        ({"train_labels": np.zeros((10, 1), int)}, ["train_labels must be integers [N], not int64 [10, 1]"]),
        ({"test_labels": np.zeros(5, int)}, ["one for each of the 4 images, not 5"]),
        ({"train_labels": np.arange(10) - 1}, ["train_labels must be in [0, 9), not -1"]),
        ({"test_labels": np.array([0, 1, 2, 4])}, ["test_labels must be in [0, 4), not 4"]),
        ({"test_labels": np.array([0, 1, 2, -7])}, ["test_labels must be in [0, 4), not -7"]),
        (
            {"train_labels": np.full(10, 2**40)},
            ["train_labels must be in [0, 2147483647), not 1099511627776"],
        ),
        ({"train_labels": np.array([None] * 10)}, ["cannot read", "train_labels", "Python objects"]),
    ],
)
def test_npz_faults(tmp_path: pathlib.Path, change: Arrays, parts: list[str]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{key: value for key, value in {**arrays(), **change}.items() if value is not None})
    fails(str(path), *parts, name=str(path))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "bit", "compressed bit", "npy", "folder"])
def test_npz_unreadable(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    (np.savez_compressed if kind == "compressed bit" else np.savez)(path, **arrays())
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 64
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        choices = {"empty": b"", "text": b"hello\n", "cut": data[:-40]}
        path.write_bytes(choices.get(kind, bytes(flipped)))
    fails(f"cannot read {path} as an .npz", name=str(path))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("train_images.npy", "it holds train_images twice"),
        ("train_images", "it holds train_images twice"),
        ("notes.txt", "its member notes.txt is no array"),
    ],
)
def test_npz_with_a_member_too_many(tmp_path: pathlib.Path, member: str, message: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile's own, of the name that is there twice
        archive.writestr(member, b"hello")
    fails(f"cannot read {path} as an .npz", message, name=str(path))


def test_npz_whose_member_is_no_array(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{key: value for key, value in arrays().items() if key != "test_labels"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("test_labels", b"hello")
    fails(f"cannot read {path} as an .npz", "its member test_labels is no array", name=str(path))


def test_a_named_pipe_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    fails("not a regular file", name=str(tmp_path / "a.npz"))


def test_remote_data_dir() -> None:
    fails("data_dir must be a local directory, not 'gs://a/b'", name="mnist", data_dir="gs://a/b")


# The cache


class Decoder:
    """Stands in for `tfds.decode`."""

    def __init__(self, made: Arrays) -> None:
        self.made, self.seen = made, list[pathlib.Path]()

    def __call__(self, directory: pathlib.Path, held_out: bool, stream: bool) -> tuple[Arrays, int]:
        self.seen.append(directory)
        return dict(self.made), 5


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    fake = Decoder(arrays())
    module = types.ModuleType("ssm_jax.data.tfds")
    module.decode = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ssm_jax.data.tfds", module)
    monkeypatch.setattr(ssm_jax.data, "tfds", module, raising=False)
    return fake


def prepared(root: pathlib.Path, path: str, text: str = "{}") -> pathlib.Path:
    folder = root / path
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    return folder


def test_cache(tmp_path: pathlib.Path, decoder: Decoder, caplog: pytest.LogCaptureFixture) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache" / "deep"
    folder = prepared(root, "tiny/1.0.0")
    with caplog.at_level(logging.INFO, "ssm_jax"):
        first = datasets.load("tiny", str(root), cache_dir=str(cache))
    (file,) = cache.iterdir()
    assert [record.message for record in caplog.records] == [f"decoding {folder}", f"cached in {file}"]
    second = datasets.load("tiny", str(root), cache_dir=str(cache))
    assert decoder.seen == [folder]
    for dataset in (first, second):
        equal(dataset, decoder.made)
        assert (dataset.name, dataset.version, dataset.classes) == ("tiny", "1.0.0", 5)
        assert dataset.train_labels.dtype == np.int32


def test_cache_is_keyed_by_the_prepared_dataset(tmp_path: pathlib.Path, decoder: Decoder) -> None:
    cache = tmp_path / "cache"
    for number, (path, text) in enumerate(
        [("tiny/1.0.0", "{}"), ("tiny/2.0.0", "{}"), ("tiny/1.0.0", "{ }"), ("other/1.0.0", "{}")]
    ):
        root = tmp_path / str(number)
        prepared(root, path, text)
        datasets.load(path.split("/")[0], str(root), cache_dir=str(cache))
    assert len(decoder.seen) == len(list(cache.iterdir())) == 4
    # The same dataset elsewhere is the same.
    prepared(tmp_path / "copy", "tiny/1.0.0")
    datasets.load("tiny", str(tmp_path / "copy"), cache_dir=str(cache))
    assert len(decoder.seen) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny", "tiny/10.0.0"),
        ("tiny:2.0.0", "tiny/2.0.0"),
        ("many/b", "many/b/1.0.0"),
        ("many/b:1.0.0", "many/b/1.0.0"),
        ("many", "many/a/1.0.0"),
    ],
)
def test_prepared_datasets_are_found_by_path(
    tmp_path: pathlib.Path, decoder: Decoder, name: str, expected: str
) -> None:
    for path in ("tiny/2.0.0", "tiny/10.0.0", "tiny/9.1.0", "many/a/1.0.0", "many/b/1.0.0"):
        prepared(tmp_path, path)
    prepared(tmp_path, "tiny/11.0.0.incompleteABC")
    (tmp_path / "tiny" / "12.0.0").mkdir()
    (tmp_path / "many" / ".config").mkdir()
    (tmp_path / "many" / ".config" / "metadata.json").write_text(json.dumps({"default_config_name": "a"}))
    dataset = datasets.load(name, str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert decoder.seen == [tmp_path / expected]
    title, _, version = expected.rpartition("/")
    assert (dataset.name, dataset.version) == (title, version)


def test_default_cache_dir(tmp_path: pathlib.Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    datasets.load("tiny", str(tmp_path))
    assert list((tmp_path / "xdg" / "ssm_jax" / "datasets").glob("tiny-1.0.0-*.npz"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    datasets.load("tiny", str(tmp_path))
    assert list((tmp_path / ".cache" / "ssm_jax" / "datasets").glob("tiny-1.0.0-*.npz"))


def test_a_hit_imports_no_tfds(tmp_path: pathlib.Path, decoder: Decoder) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    datasets.load("tiny", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    np.savez(tmp_path / "own.npz", **arrays())
    heavy = "{'tensorflow_datasets', 'sklearn', 'jax', 'ssm_jax.data.tfds'} & set(sys.modules)"
    out = run(
        f"from ssm_jax.data import datasets; print({heavy});"
        f"datasets.load('tiny', {str(tmp_path)!r}, cache_dir={str(tmp_path / 'cache')!r}); print({heavy});"
        f"datasets.load('own.npz', {str(tmp_path)!r}); print({heavy})"
    )
    assert out.split("\n") == ["set()"] * 3 + [""]


@pytest.mark.parametrize("kind", ["empty", "cut", "bit", "lacking", "no classes", "classes"])
def test_damaged_cache(tmp_path: pathlib.Path, decoder: Decoder, kind: str) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    options = {"name": "tiny", "data_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    datasets.load(**options)
    (file,) = (tmp_path / "cache").iterdir()
    data = file.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    if kind == "lacking":
        np.savez(file, classes=5, train_images=decoder.made["train_images"])
    elif kind == "no classes":
        np.savez(file, **decoder.made)
    elif kind == "classes":
        np.savez(file, **decoder.made, classes=[2, 3])
    else:
        file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "bit": bytes(flipped)}[kind])
    fails(f"the cached dataset {file} is damaged, delete it", **options)
    file.unlink()
    equal(datasets.load(**options), decoder.made)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_full(
    tmp_path: pathlib.Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "savez", full)
    prepared(tmp_path, "tiny/1.0.0")
    with pytest.raises(RunError, match=r"^no space for the dataset cache .*tiny-1\.0\.0-.*\.npz: .*$"):
        datasets.load("tiny", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").iterdir())


def test_interrupted_writing_leaves_nothing(
    tmp_path: pathlib.Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def interrupted(file: Any, **arrays: np.ndarray) -> None:
        file.write(b"half of it")
        seen.extend(path.suffix for path in (tmp_path / "cache").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    prepared(tmp_path, "tiny/1.0.0")
    with pytest.raises(KeyboardInterrupt):
        datasets.load("tiny", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    # While it is written, the file has a name that no reader looks for.
    assert len(seen) == 1
    assert seen != [".npz"]
    assert not list((tmp_path / "cache").iterdir())


def test_unwritable_cache_is_a_warning(
    tmp_path: pathlib.Path, decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    (tmp_path / "file").touch()
    for _ in range(2):
        caplog.clear()
        dataset = datasets.load("tiny", str(tmp_path), cache_dir=str(tmp_path / "file" / "cache"))
        equal(dataset, decoder.made)
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.name == "ssm_jax"
        assert "cannot cache the dataset" in record.message
        assert "\n" not in record.message
    assert len(decoder.seen) == 2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"train_labels": np.full(10, 5)}, ["train_labels must be in [0, 5), not 5"]),
        ({"test_labels": np.full(4, -1)}, ["test_labels must be in [0, 5), not -1"]),
    ],
)
def test_decoded_labels_are_checked(
    tmp_path: pathlib.Path, decoder: Decoder, change: Arrays, parts: list[str]
) -> None:
    decoder.made |= change
    folder = prepared(tmp_path, "tiny/1.0.0")
    fails(str(folder), *parts, name="tiny", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_without_tfds_installed(tmp_path: pathlib.Path) -> None:
    out = run(
        "sys.modules['tensorflow_datasets'] = None\n"
        "from ssm_jax.data import datasets\n"
        f"try: datasets.load('mnist', {str(tmp_path)!r})\n"
        "except datasets.InputError as error: print(error)"
    )
    assert out.startswith("TFDS datasets need tensorflow-datasets, importlib_resources, pillow")
    assert out.count("\n") == 1


def test_classes_have_the_names_of_the_prepared_dataset(tmp_path: pathlib.Path) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    (tmp_path / "tiny" / "1.0.0" / "label.labels.txt").write_text("cat\ndog\n\n")
    assert datasets.class_names("tiny", str(tmp_path), classes=2) == ("cat", "dog")
    assert datasets.class_names("tiny:1.0.0", str(tmp_path), classes=2) == ("cat", "dog")
    # Of other classes than the network's.
    assert datasets.class_names("tiny", str(tmp_path), classes=3) == ("0", "1", "2")


def test_the_label_may_have_another_name(tmp_path: pathlib.Path) -> None:
    folder = prepared(tmp_path, "tiny/1.0.0")
    keys = [{"featureKey": "photo"}, {"featureKey": "animal"}]
    (folder / "dataset_info.json").write_text(json.dumps({"supervisedKeys": {"tuple": {"items": keys}}}))
    (folder / "animal.labels.txt").write_text("cat\ndog\n")
    assert datasets.class_names("tiny", str(tmp_path), classes=2) == ("cat", "dog")


def test_classes_without_names_are_numbers(tmp_path: pathlib.Path) -> None:
    prepared(tmp_path, "tiny/1.0.0")
    for name in ("digits", "own.npz", "tiny"):
        assert datasets.class_names(name, str(tmp_path), classes=2) == ("0", "1")


def test_nothing_is_downloaded_unless_it_may_be(tmp_path: pathlib.Path) -> None:
    fails(f"mnist is not prepared in {tmp_path}", name="mnist", data_dir=str(tmp_path), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_read_only_nothing_is_kept_in_the_cache(tmp_path: pathlib.Path, decoder: Decoder) -> None:
    # A stranger's folder could stand in for a dataset that is trained on later.
    prepared(tmp_path / "data", "tiny/1.0.0")
    options = {"data_dir": str(tmp_path / "data"), "cache_dir": str(tmp_path / "cache")}
    datasets.load("tiny", **options, read_only=True)
    assert not (tmp_path / "cache").exists()
    datasets.load("tiny", **options)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_a_home_only_the_cache_is_missing(
    tmp_path: pathlib.Path,
    decoder: Decoder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~nosuchuser/cache")
    monkeypatch.setenv("TFDS_DATA_DIR", "~nosuchuser/data")
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **arrays())
    datasets.load("a.npz")
    fails(
        "data_dir is '~nosuchuser/data': there is no home for ~nosuchuser; set config.data.dir", name="tiny"
    )
    prepared(tmp_path / "data", "tiny/1.0.0")
    with caplog.at_level(logging.WARNING, logger="ssm_jax"):
        datasets.load("tiny", str(tmp_path / "data"))
    assert caplog.messages == ["datasets are not cached: there is no home for ~nosuchuser"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "data"]
