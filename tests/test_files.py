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


def test_no_more_is_read_than_what_is_bearable(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert files.read_whole(tmp_path / "a", 3) == b"123"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        files.read_whole(tmp_path / "a", 2)
    with (tmp_path / "a").open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(OSError, match="larger than 67,108,864 bytes"):
        files.read_json(tmp_path / "a")


def test_json_that_is_none_is_a_value_error(tmp_path):
    for text in ("", "{", "[" * 100_000, "\xff"):
        (tmp_path / "a").write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError):
            files.read_json(tmp_path / "a")


def test_a_home_that_nobody_knows_is_an_error_and_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand_user("~/a") == tmp_path / "a" and str(files.expand_user("a/~b")) == "a/~b"
    with pytest.raises(OSError, match="there is no home for ~nosuchuser"):
        files.expand_user("~nosuchuser/x")
