import os

import pytest

from ssm_jax import errors
from ssm_jax.runs import folder as workdir


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    workdir.write_json(path, {"a": 1})
    assert workdir.read_json(path) == {"a": 1}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(errors.RunError, match="No space left on device"):
        workdir.write_json(path, {"a": 2})
    assert workdir.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_that_is_not_there_is_none_and_a_damaged_one_an_error(tmp_path):
    assert workdir.read_json(tmp_path / "run.json") is None
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(errors.InputError, match="delete"):
        workdir.read_json(tmp_path / "run.json")


def test_checking_makes_nothing(tmp_path):
    workdir.check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(errors.InputError, match="a is not a writable folder"):
        workdir.check_writable(tmp_path / "a" / "b")
    with pytest.raises(errors.InputError, match="cannot make the workdir"):
        workdir.make(tmp_path / "a" / "b")


def test_a_workdir_has_one_run_at_a_time(tmp_path):
    claim = workdir.claimed(tmp_path)
    with claim, pytest.raises(errors.InputError, match="another run is using"), workdir.claimed(tmp_path):
        pass
    with workdir.claimed(tmp_path):
        pass
