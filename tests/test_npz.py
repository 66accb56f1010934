"""Arrays of .npz files are read when they are asked for, and not before their sizes are known."""

import io
import zipfile

import numpy as np
import pytest

from ssm_jax import npz

ARRAYS = {
    "a": np.arange(6, dtype=np.int8).reshape(2, 3),
    "b": np.float32([0.5]),
    "names": np.array(["x", "yz"]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    members = npz.members(tmp_path / "a.npz")
    assert members == {name: npz.Member(array.shape, array.dtype) for name, array in ARRAYS.items()}
    assert [members[name].size for name in ARRAYS] == [6, 4, 16]
    found = npz.read(tmp_path / "a.npz", ["names", "a"])
    assert list(found) == ["names", "a"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_members_that_are_not_asked_for_are_not_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    read, one = [], np.lib.format.read_array
    monkeypatch.setattr(np.lib.format, "read_array", lambda *a, **k: read.append(one(*a, **k)) or read[-1])
    npz.members(tmp_path / "a.npz")
    npz.read(tmp_path / "a.npz", ["b"])
    assert [array.shape for array in read] == [(1,)]


def header(shape, dtype="|u1"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"a.npy": header((2**40,)) + bytes(8)}, "its member a has not the size that its header says"),
        ({"a.npy": header((2,), "|O")}, "its member a holds Python objects"),
        ({"a.txt": b"text"}, "its member a.txt is no array"),
        ({"a.npy": b"\x93NUMPY\x03\x00" + bytes(20)}, "of a version of .npy that is not read"),
    ],
)
def test_what_is_no_array_is_refused_before_it_is_read(tmp_path, members, why):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(npz.DAMAGE, match=why):
        npz.members(tmp_path / "a.npz")
