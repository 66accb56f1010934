"""Where compiled programs are kept, and that a place which is none costs one line."""

import logging
import os

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ssm_jax.training.cache import use_compilation_cache


@pytest.fixture(autouse=True)
def restored():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def chosen():
    return jax.config.values["jax_compilation_cache_dir"]


def test_a_folder_is_made(tmp_path, monkeypatch):
    use_compilation_cache("")
    assert chosen() is None
    use_compilation_cache(str(tmp_path / "a" / "b"))
    assert chosen() == str(tmp_path / "a" / "b") and (tmp_path / "a" / "b").is_dir()


def test_auto_is_in_the_cache_directory_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_compilation_cache("auto")
    assert chosen() == str(tmp_path / "ssm_jax" / "compiled")


def test_a_later_choice_replaces_an_earlier_one(tmp_path):
    for i, folder in enumerate((tmp_path / "a", tmp_path / "b")):
        use_compilation_cache(str(folder))
        assert chosen() == str(folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.jit(lambda x, i=i: x * (3 + i))(np.float32(2))
        assert list(folder.iterdir())
    use_compilation_cache("")
    assert chosen() is None


@pytest.mark.parametrize("folder", ["{}", "gs://bucket/cache"])
def test_what_was_set_by_other_means_stays(tmp_path, folder):
    folder = folder.format(tmp_path)
    jax.config.update("jax_compilation_cache_dir", folder)
    use_compilation_cache("auto")
    assert chosen() == folder


@pytest.mark.parametrize("by_jax", [False, True])
def test_a_folder_that_cannot_be_used_is_one_warning(tmp_path, caplog, by_jax):
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "cache")
    if by_jax:
        jax.config.update("jax_compilation_cache_dir", folder)
    use_compilation_cache("auto" if by_jax else folder)
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert folder in record.message and "Not a directory" in record.message
    assert chosen() is None


def compiled_anew(folder, caplog):
    """Run two programs as a new process would; returns what was warned of."""
    caplog.clear()
    jax.clear_caches()
    compilation_cache.reset_cache()
    use_compilation_cache(str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    assert jax.jit(lambda x: x * 3)(np.float32(2)) == 6
    assert jax.jit(lambda x, y: (x + y, x - y))(np.arange(3.0), np.ones(3))[1].tolist() == [-1, 0, 1]
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("damage", ["torn", "swapped", "a bit"])
def test_a_program_that_is_damaged_or_of_another_key_is_compiled_anew(tmp_path, caplog, damage):
    assert compiled_anew(tmp_path, caplog) == []
    first, second = sorted(tmp_path.glob("*lambda*"))
    sound = first.read_bytes(), second.read_bytes()
    if damage == "torn":
        for path, content in zip((first, second), sound):
            path.write_bytes(content[: len(content) // 2])
    elif damage == "swapped":
        first.write_bytes(sound[1])
        second.write_bytes(sound[0])
    else:
        second.write_bytes(sound[1][:-1] + bytes([sound[1][-1] ^ 1]))
    (warning,) = compiled_anew(tmp_path, caplog)
    assert str(tmp_path) in warning and "damaged or of another program" in warning
    assert compiled_anew(tmp_path, caplog) == []


def test_a_program_that_cannot_be_kept_is_one_warning(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    (warning,) = compiled_anew(tmp_path, caplog)
    assert "No space left on device" in warning and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["auto", "~nosuchuser/compiled"])
def test_without_a_home_there_is_one_warning_and_no_cache(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nosuchuser/cache")
    with caplog.at_level(logging.WARNING, logger="ssm_jax"):
        use_compilation_cache(folder)
    assert caplog.messages == ["compiled programs are not kept: there is no home for ~nosuchuser"]
    assert chosen() is None and not list(tmp_path.iterdir())
