"""Datasets of a dozen images, made here; the only network is 127.0.0.1."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import pathlib
import shutil
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from ssm_jax.data import datasets
from ssm_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")
from tensorboardX.record_writer import masked_crc32c
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import checksums, downloader

from ssm_jax.data import tfds as source
from ssm_jax.data import tfds_prepare

Split = tuple[np.ndarray, np.ndarray]


def make_split(count: int, seed: int, shape: tuple[int, ...] = (5, 4, 3), classes: int = 7) -> Split:
    """Random images; the first pixel holds the index, which survives TFDS's shuffling."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images, rng.integers(0, classes, count)


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


# Reading


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


# Names


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


# Preparing

GREY = {"train": make_split(12, 2, (28, 28, 1), 10), "test": make_split(6, 3, (28, 28, 1), 10)}
COLOR = {"train": make_split(15, 4, (32, 32, 3), 10), "test": make_split(6, 5, (32, 32, 3), 10)}
CLASSES = [f"class{number}" for number in range(10)]
COARSE = [f"group{number}" for number in range(20)]


def idx_archives() -> dict[str, bytes]:
    files = {}
    for name, (images, labels) in zip(("train", "t10k"), GREY.values()):
        head = struct.pack(">4I", 2051, len(images), 28, 28)
        files[f"{name}-images-idx3-ubyte.gz"] = gzip.compress(head + images.tobytes())
        head = struct.pack(">2I", 2049, len(labels))
        files[f"{name}-labels-idx1-ubyte.gz"] = gzip.compress(head + labels.astype(np.uint8).tobytes())
    return files


def cifar_archive(layout: Any) -> bytes:
    """The archive of CIFAR-10 or CIFAR-100, whose coarse label is the fine one plus one."""
    heads = len(layout.label_keys)

    def rows(images: np.ndarray, labels: np.ndarray) -> bytes:
        columns = [labels + 1, labels][-heads:]
        pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return np.column_stack([*columns, pixels]).astype(np.uint8).tobytes()

    parts = np.array_split(np.arange(15), len(layout.train_files))
    train = {name: rows(*(a[part] for a in COLOR["train"])) for name, part in zip(layout.train_files, parts)}
    files = train | {layout.test_files[0]: rows(*COLOR["test"]), "readme.html": b"\0"}
    fine = CLASSES if heads == 1 else [f"class{number}" for number in range(100)]
    names = [COARSE, fine][-heads:]
    files |= {name: ("\n".join(list_) + "\n\n").encode() for name, list_ in zip(layout.label_files, names)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(layout.prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def register(monkeypatch: pytest.MonkeyPatch, official: Any, url: str, files: dict[str, bytes]) -> None:
    infos = {
        url + name: checksums.UrlInfo(
            size=tfds.core.utils.Size(len(data)), checksum=hashlib.sha256(data).hexdigest(), filename=name
        )
        for name, data in files.items()
    }
    monkeypatch.setattr(official, "url_infos", infos)


@pytest.fixture
def mnist_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, bytes]]:
    """Moves MNIST, with tiny archives, to another URL."""

    def move(url: str) -> dict[str, bytes]:
        official, files = tfds.image_classification.MNIST, idx_archives()
        monkeypatch.setattr(official, "URL", url)
        register(monkeypatch, official, url, files)
        return files

    return move


def manual(root: pathlib.Path, files: dict[str, bytes]) -> None:
    folder = root / "downloads" / "manual"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def load(name: str, root: pathlib.Path) -> datasets.Dataset:
    return datasets.load(name, str(root), cache_dir=str(root.parent / "cache"))


def check_nothing_left(root: pathlib.Path) -> None:
    """No dataset, finished or not, no unfinished download, no empty folder: only what a user put there."""
    manual = root / "downloads" / "manual"
    assert set(root.rglob("*")) <= {manual.parent, manual, *manual.glob("*")}
    assert root.exists() == manual.exists()
    assert downloader.MAX_RETRIES == 10
    assert downloader._open_url.__module__ == downloader.__name__


def test_mnist_from_manual_archives(
    tmp_path: pathlib.Path, mnist_at: Callable[[str], dict[str, bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    manual(tmp_path / "data", mnist_at("http://nowhere.invalid/"))
    dataset = load("mnist", tmp_path / "data")
    check_exact(vars(dataset), GREY)
    assert (dataset.version, dataset.classes) == ("3.0.1", 10)
    # Anyone's TFDS can read it.
    again = tfds.builder("mnist", data_dir=tmp_path / "data")
    assert again.is_prepared()
    assert len(again.as_data_source("train")) == 12
    assert json.loads((tmp_path / "data/mnist/3.0.1/dataset_info.json").read_text())["moduleName"] == (
        "tensorflow_datasets.image_classification.mnist"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "official"), [("cifar10", "Cifar10"), ("cifar100", "Cifar100")])
def test_cifar_from_manual_archives(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str, official: str
) -> None:
    official_class = getattr(tfds.image_classification, official)
    # The property needs nothing of its instance but the name.
    layout = official_class._cifar_info.fget(official_class)
    url, _, file = layout.url.rpartition("/")
    files = {file: cifar_archive(layout)}
    register(monkeypatch, official_class, f"{url}/", files)
    manual(tmp_path / "data", files)
    try:
        dataset = load(name, tmp_path / "data")
    finally:
        # TFDS keeps every checksum it has seen for the life of the process.
        checksums.get_all_url_infos().update(checksums.load_url_infos(_checksums(name)))
    check_exact(vars(dataset), COLOR)
    assert dataset.classes == (10 if name == "cifar10" else 100)
    prepared = tfds.builder_from_directory(tmp_path / "data" / name / "3.0.2")
    assert prepared.info.features["label"].names[:10] == CLASSES
    first = prepared.as_data_source("train")[0]
    assert first["id"].decode() == f"train_{first['image'][0, 0, 0]:05d}"
    if name == "cifar100":
        assert prepared.info.features["coarse_label"].names == COARSE
        assert first["coarse_label"] == first["label"] + 1


def _checksums(name: str) -> pathlib.Path:
    return pathlib.Path(tfds.__file__).parent / "url_checksums" / f"{name}.txt"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"])
def test_own_builders_keep_the_official_checksums(tmp_path: pathlib.Path, name: str) -> None:
    builder = tfds_prepare.builder(name, tmp_path)
    assert builder.url_infos == checksums.load_url_infos(_checksums(name))
    assert builder.name == name
    assert tfds.builder_cls(name) is not type(builder)


def test_wrong_archive(tmp_path: pathlib.Path, mnist_at: Callable[[str], dict[str, bytes]]) -> None:
    files = mnist_at("http://nowhere.invalid/wrong/")
    files["t10k-labels-idx1-ubyte.gz"] += b"x"
    manual(tmp_path / "data", files)
    fails(
        lambda: load("mnist", tmp_path / "data"),
        "cannot prepare mnist",
        "t10k-labels-idx1-ubyte.gz, has wrong checksum",
        str(tmp_path / "data" / "downloads" / "manual"),
        "replace or delete that file",
    )
    assert not (tmp_path / "data" / "mnist").exists()


class Handler(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        data = self.files.get(self.path[1:])
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data or b"")

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "files", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_download(
    tmp_path: pathlib.Path,
    server: str,
    mnist_at: Callable[[str], dict[str, bytes]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    Handler.files = mnist_at(server)
    check_exact(vars(load("mnist", tmp_path / "data")), GREY)
    assert capfd.readouterr() == ("", "")


def test_archives_downloaded_before_need_no_network(
    tmp_path: pathlib.Path, server: str, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    Handler.files = mnist_at(server)
    load("mnist", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "mnist")
    Handler.files = {}
    check_exact(vars(load("mnist", tmp_path / "data")), GREY)


def test_missing_file_on_the_server(
    tmp_path: pathlib.Path, server: str, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    mnist_at(server)
    fails(lambda: load("mnist", tmp_path / "data"), "cannot download mnist", "HTTP code: 404")
    check_nothing_left(tmp_path / "data")


def test_damaged_download(
    tmp_path: pathlib.Path, server: str, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    Handler.files = {name: data[:-1] for name, data in mnist_at(server).items()}
    fails(lambda: load("mnist", tmp_path / "data"), "cannot prepare mnist", "has wrong checksum")
    assert not (tmp_path / "data" / "mnist").exists()


def offline(root: pathlib.Path, url: str, reason: str) -> None:
    """Preparing MNIST must fail within 5 s and say how to do without a network."""
    start = time.monotonic()
    message = fails(
        lambda: load("mnist", root),
        f"cannot download mnist: {reason}",
        f"into {root}/downloads/manual/",
        f"a prepared copy into {root}/mnist/3.0.1",
    )
    assert time.monotonic() - start < 5
    for name in idx_archives():
        assert ((url + name) in message) == (not (root / "downloads" / "manual" / name).exists())
    check_nothing_left(root)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_connection_refused(
    tmp_path: pathlib.Path, closed_port: int, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    url = f"http://127.0.0.1:{closed_port}/"
    mnist_at(url)
    offline(tmp_path / "data", url, f"no connection to 127.0.0.1:{closed_port} (ConnectionError)")


def test_only_missing_archives_are_asked_for(
    tmp_path: pathlib.Path, closed_port: int, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    url = f"http://127.0.0.1:{closed_port}/"
    files = mnist_at(url)
    name = "train-images-idx3-ubyte.gz"
    manual(tmp_path / "data", {name: files[name]})
    with pytest.raises(InputError) as caught:
        load("mnist", tmp_path / "data")
    assert url + name not in str(caught.value)
    assert url + "train-labels-idx1-ubyte.gz" in str(caught.value)


def test_server_that_never_answers(
    tmp_path: pathlib.Path, mnist_at: Callable[[str], dict[str, bytes]]
) -> None:
    # The kernel completes the connection, nobody accepts it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        mnist_at(url)
        offline(tmp_path / "data", url, "no ")


def test_name_not_resolved(tmp_path: pathlib.Path, mnist_at: Callable[[str], dict[str, bytes]]) -> None:
    mnist_at("http://nowhere.invalid/")
    offline(tmp_path / "data", "http://nowhere.invalid/", "no connection to nowhere.invalid")


def test_name_resolution_hangs(
    tmp_path: pathlib.Path,
    mnist_at: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hang(*args: object, **options: object) -> None:
        release.wait(20)
        raise socket.gaierror("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    mnist_at("http://nowhere.invalid/")
    try:
        offline(tmp_path / "data", "http://nowhere.invalid/", "no answer from nowhere.invalid within 2.5 s")
    finally:
        release.set()


def test_builder_that_needs_tensorflow(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, manager: Any) -> None:
        raise ModuleNotFoundError("No module named\n'tensorflow'")

    monkeypatch.setattr(tfds.builder_cls("emnist"), "_split_generators", broken)
    root = tmp_path / "data"
    fails(
        lambda: load("emnist/digits", root),
        "cannot prepare emnist/digits: No module named 'tensorflow'",
        f"a copy prepared elsewhere goes to {root}/emnist/digits/3.1.0",
    )
    check_nothing_left(root)


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
