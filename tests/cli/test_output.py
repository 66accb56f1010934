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
