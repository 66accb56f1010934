"""Archives of a dozen images made here, put by hand or served; the only network is 127.0.0.1."""

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
from data.tiny import check_exact, fails, make_split

from ssm_jax.data import datasets
from ssm_jax.errors import InputError

tfds = pytest.importorskip("tensorflow_datasets")
from tensorflow_datasets.core.download import checksums, downloader

from ssm_jax.data import tfds_prepare

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
    """Preparing MNIST must fail within 30 s, not in the 204 of TFDS, and say how to do without a network."""
    start = time.monotonic()
    message = fails(
        lambda: load("mnist", root),
        f"cannot download mnist: {reason}",
        f"into {root}/downloads/manual/",
        f"a prepared copy into {root}/mnist/3.0.1",
    )
    assert time.monotonic() - start < 30
    for name in idx_archives():
        assert ((url + name) in message) == (not (root / "downloads" / "manual" / name).exists())
    check_nothing_left(root)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as probe:  # bound, so that nobody else takes it, and not listening
        probe.bind(("127.0.0.1", 0))
        yield int(probe.getsockname()[1])


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


def test_name_not_resolved(
    tmp_path: pathlib.Path,
    mnist_at: Callable[[str], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*address: object, **settings: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
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
    ("name", "why"),
    [
        ("deep_weeds", "deep_weeds needs the splits train and test (or validation), and has train"),
        ("ag_news_subset", "ag_news_subset is no image classification dataset: it needs an image and"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_it_is_fetched(tmp_path, monkeypatch, name, why):
    monkeypatch.setattr("socket.socket", None)
    fails(lambda: datasets.load(name, str(tmp_path / "data")), why)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "splits"),
    [("svhn_cropped", {"train", "test", "extra"}), ("mnist", {"train", "test"}), ("cifar10", set())],
)
def test_a_builder_tells_its_splits_without_its_archives(tmp_path, name, splits):
    assert tfds_prepare._splits(tfds_prepare.builder(name, tmp_path)) == splits
