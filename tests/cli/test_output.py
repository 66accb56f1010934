"""Files that a verb writes."""

import pytest

from ssm_jax import errors
from ssm_jax.cli import output


def test_a_new_file_is_free_and_one_that_is_there_with_force(tmp_path):
    output.check_free(tmp_path / "new", force=False)
    (tmp_path / "old").touch()
    output.check_free(tmp_path / "old", force=True)
    with pytest.raises(errors.InputError, match="old is there already: --force overwrites it"):
        output.check_free(tmp_path / "old", force=False)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_place_for_a_file_is_refused(tmp_path, force):
    (tmp_path / "file").touch()
    for path, text in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "new", "no is not a writable folder"),
    ):
        with pytest.raises(errors.InputError, match=text):
            output.check_free(path, force)


def files_of(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def both(path):
    """Write two files that belong together."""
    path.write_text("new")
    path.with_suffix(".h").write_text("new")


@pytest.mark.parametrize("name", ["a.c", "a.h"])
def test_a_file_that_appears_meanwhile_is_kept_and_nothing_is_written_beside_it(tmp_path, name):
    def write(path):
        both(path)
        (tmp_path / name).write_text("theirs")

    paths = [tmp_path / "a.c", tmp_path / "a.h"]
    with pytest.raises(errors.InputError, match=f"{name} has appeared meanwhile: --force overwrites it"):
        output.write(paths, False, write)
    assert files_of(tmp_path) == {name: "theirs"}
    output.write(paths, True, write)
    assert files_of(tmp_path) == {"a.c": "new", "a.h": "new"}


def test_files_that_cannot_be_written_leave_nothing(tmp_path):
    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(errors.RunError, match=r"cannot write .*a\.c: No space left on device"):
        output.write([tmp_path / "a.c"], False, full)
    assert files_of(tmp_path) == {}
