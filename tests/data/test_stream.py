"""Images that stay on disk: chosen lazily, read ahead batch by batch."""

import sys
import threading

import numpy as np
import pytest

from ssm_jax.data import datasets, stream
from ssm_jax.errors import InputError, RunError

pytest.importorskip("grain")

SHAPE = (3, 2, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (150, *SHAPE), np.uint8)
LABELS = np.arange(150, dtype=np.int32) % 7


class Disk:
    """What images are read from; knows which were read, and by which threads."""

    def __init__(self):
        self.read, self.threads, self.broken = [], set(), None

    def __call__(self, places):
        self.threads.add(threading.current_thread())
        for place in places:
            if place == self.broken:
                raise InputError("image 7 is damaged")
            self.read.append(int(place))
            yield PIXELS[place]


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def images(disk):
    return stream.Images(disk, SHAPE, np.arange(150))


def test_an_index_reads_nothing_and_an_array_reads_what_was_chosen(disk, images):
    chosen = np.arange(150) % 3 == 1
    some = images[chosen][5:30]
    assert (some.shape, some.ndim, some.size, some.dtype) == ((25, *SHAPE), 4, 150, np.uint8)
    assert not disk.read
    np.testing.assert_array_equal(np.asarray(some), PIXELS[chosen][5:30])
    assert len(disk.read) == len(some) == 25
    np.testing.assert_array_equal(np.asarray(images), PIXELS)


ORDER = np.random.default_rng(1).permutation(150)[:144]


@pytest.mark.parametrize(
    "shape", [(4, 36), (1, 12, 12), (2, 3, 3, 8)], ids=["no slots", "one slot", "two by three slots"]
)
@pytest.mark.parametrize("first", [0, 1])
def test_batches_are_read_in_order_whatever_the_calls(images, shape, first):
    """A call takes some batches, a later one those that follow: each is one slot's images in its order."""
    order = ORDER.reshape(shape)
    split = stream.Split(images, LABELS)
    for start in range(first, shape[-2], 2):
        count = min(2, shape[-2] - start)
        read = split.read(order, start, count)
        assert read["first"].shape == shape[:-2] and (read["first"] == start).all()
        for slot in np.ndindex(shape[:-2]):
            expected = order[slot][start : start + count].reshape(-1)
            np.testing.assert_array_equal(read["images"][slot], PIXELS[expected])
            np.testing.assert_array_equal(read["labels"][slot], LABELS[expected])
    split.close()


def test_a_batch_is_completed_by_empty_images_without_a_label(images):
    split = stream.Split(images, LABELS)
    read = split.read(np.array([[3, -1]]), 0, 1)
    np.testing.assert_array_equal(read["images"][0], PIXELS[3])
    assert not read["images"][1].any() and read["labels"].tolist() == [LABELS[3], -1]
    assert read["labels"].dtype == np.int32


def test_threads_read_ahead_and_no_further_than_a_bound(disk, images, monkeypatch):
    monkeypatch.setattr(stream, "_PIECE", 2)
    monkeypatch.setattr(stream, "_CHUNK", 24)  # 2 pieces of 2 images of 6 bytes
    monkeypatch.setattr(stream.os, "cpu_count", lambda: 3)
    split = stream.Split(images, LABELS)
    assert split.at_once(2) == 2 and split.at_once(100) == 1
    split.read(ORDER.reshape(72, 2), 0, 1)
    split.close()  # what is under way ends
    for thread in disk.threads:
        thread.join()
    assert threading.current_thread() not in disk.threads
    assert 2 <= len(disk.read) <= 2 * (1 + 4)
    assert set(disk.read) <= set(ORDER[:10].tolist())


def test_an_image_that_cannot_be_read_ends_the_run_in_one_line(disk, images):
    disk.broken = 7
    split = stream.Split(images, LABELS)
    with pytest.raises(RunError, match=r"^image 7 is damaged$"):
        split.read(np.arange(8).reshape(1, 8), 0, 1)
    split.close()


@pytest.mark.parametrize("name", ["digits", "data.npz"])
def test_what_is_read_at_once_is_not_streamed(name):
    with pytest.raises(InputError, match=r"reads folders of images and TFDS datasets; 'd.*' is read at once"):
        datasets.load(name, stream=True)


def test_without_grain_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(InputError, match=r'needs grain: pip install "ssm_jax\[stream\]"$'):
        datasets.load("photos/", stream=True)
