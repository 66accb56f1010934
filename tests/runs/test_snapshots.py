"""The masks over training come back as they were written."""

import zipfile

import numpy as np
import pytest

from ssm_jax import errors
from ssm_jax.runs.snapshots import Snapshots

MASKS = {"denses/0": np.array([[1, 0], [-1, 3]], np.int8), "file": np.array([[0.25]], np.float32)}


def test_masks_come_back_with_names_and_dtypes(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.write(3, 40, MASKS)
    found = snapshots.read(3, 40, MASKS)
    assert list(found) == list(MASKS)
    for name, mask in MASKS.items():
        assert found[name].dtype == mask.dtype
        np.testing.assert_array_equal(found[name], mask)


def test_a_user_reads_them_with_numpy_alone(tmp_path):
    Snapshots(tmp_path).write(3, 40, MASKS)
    with np.load(tmp_path / "masks" / "3" / "40.npz") as arrays:
        np.testing.assert_array_equal(arrays["denses/0"], MASKS["denses/0"])


def test_the_same_masks_are_the_same_bytes(tmp_path):
    for seed in (1, 2):
        Snapshots(tmp_path).write(seed, 40, MASKS)
    first, second = ((tmp_path / "masks" / name / "40.npz").read_bytes() for name in "12")
    assert first == second


def test_steps_are_in_order_and_a_seed_without_masks_has_none(tmp_path):
    snapshots = Snapshots(tmp_path)
    for step in (100, 0, 20):
        snapshots.write(3, step, MASKS)
    (tmp_path / "masks" / "3" / ".40.npz.torn").touch()
    assert snapshots.steps(3) == [0, 20, 100] and snapshots.steps(4) == []


def test_what_was_written_after_a_step_is_discarded_of_these_seeds_alone(tmp_path):
    snapshots = Snapshots(tmp_path)
    for seed in (3, 4):
        for step in (0, 20, 40):
            snapshots.write(seed, step, MASKS)
    (tmp_path / "masks" / "3" / ".20.npz.torn").touch()
    snapshots.discard_after([3], 20)
    assert {path.name for path in (tmp_path / "masks" / "3").iterdir()} == {"0.npz", "20.npz"}
    assert snapshots.steps(3) == [0, 20] and snapshots.steps(4) == [0, 20, 40]
    snapshots.discard_after([4, 5], 0)
    assert snapshots.steps(4) == []


def test_what_cannot_be_deleted_is_named(tmp_path):
    (tmp_path / "masks" / "3" / "40.npz").mkdir(parents=True)
    with pytest.raises(errors.RunError, match=r"cannot write .*masks/3: "):
        Snapshots(tmp_path).discard_after([3], 20)


def test_a_damaged_file_is_named(tmp_path):
    snapshots = Snapshots(tmp_path)
    snapshots.write(3, 40, MASKS)
    path = tmp_path / "masks" / "3" / "40.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(errors.InputError, match=r"cannot read .*40\.npz, remove it"):
        snapshots.read(3, 40, MASKS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("denses/0.npy", b"no array")
    with pytest.raises(errors.InputError, match=r"cannot read .*40\.npz, remove it"):
        snapshots.read(3, 40, MASKS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("denses/0.npy", b"\x93NUMPY\x01\x00\x0a\x00{'descr': (")  # numpy: a TokenError
    with pytest.raises(errors.InputError, match=r"cannot read .*40\.npz, remove it"):
        snapshots.read(3, 40, MASKS)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "masks").touch()
    with pytest.raises(errors.RunError, match=r"cannot write .*40\.npz: "):
        Snapshots(tmp_path).write(3, 40, MASKS)


def test_masks_of_another_network_are_not_read(tmp_path, monkeypatch):
    # Five megabytes of file can hold five gigabytes of zeros.
    snapshots = Snapshots(tmp_path)
    snapshots.write(3, 40, {**MASKS, "denses/0": np.zeros((3, 2), np.int8)})
    monkeypatch.setattr("ssm_jax.npz.read", lambda *_: pytest.fail("they were read"))
    with pytest.raises(errors.InputError, match=r"40\.npz, .*: its masks are those of another network"):
        snapshots.read(3, 40, MASKS)
