"""Files appear whole or not at all, and what is no file is not waited for."""

import os

import pytest

from ssm_jax import files


def test_what_was_written_is_read(tmp_path):
    files.write_whole(tmp_path / "a", lambda file: file.write(b"one"))
    files.write_whole(tmp_path / "a", lambda file: file.write(b"two"))
    assert files.read_whole(tmp_path / "a") == b"two"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, error):
    files.write_whole(tmp_path / "a", lambda file: file.write(b"one"))

    def interrupted(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(type(error)):
        files.write_whole(tmp_path / "a", interrupted)
    assert files.read_whole(tmp_path / "a") == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_whole(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        files.read_whole(tmp_path / "absent")
    files.check_regular(tmp_path / "absent")
