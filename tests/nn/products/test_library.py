"""Sparse products are compiled once, and only what nobody else could have written is loaded."""

from __future__ import annotations

import os
import pathlib

import pytest

from ssm_jax import compilers, errors
from ssm_jax.nn.products import library

SMALL = 'extern "C" __attribute__((visibility("default"))) int ssm_jax_forward() { return %d; }'


@pytest.fixture
def cache(monkeypatch, tmp_path) -> pathlib.Path:
    """A cache of the test's own; nothing is registered with XLA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        compilers.find("C++")
    except errors.InputError as error:
        pytest.skip(str(error))
    # What is compiled does not matter here, and this is quick.
    monkeypatch.setattr(library, "SOURCES", {"small.cc": SMALL % 1})
    return tmp_path / "ssm_jax" / "products"


def test_a_second_start_compiles_nothing(cache, monkeypatch):
    assert library._load().ssm_jax_forward() == 1
    (kept,) = cache.iterdir()
    monkeypatch.setattr(compilers, "build", lambda *_, **__: pytest.fail("compiled again"))
    assert library._load().ssm_jax_forward() == 1
    assert [kept] == list(cache.iterdir())
    assert cache.stat().st_mode & 0o777 == 0o700


def test_another_source_is_another_library(cache, monkeypatch):
    library._load()
    monkeypatch.setattr(library, "SOURCES", {"small.cc": SMALL % 2})
    assert library._load().ssm_jax_forward() == 2
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_library_is_made_again(cache):
    library._load()
    (kept,) = cache.iterdir()
    kept.unlink()
    kept.write_bytes(b"damaged")
    assert library._load().ssm_jax_forward() == 1
    assert kept.stat().st_size > 1000


def test_what_others_may_write_is_not_loaded(cache):
    library._load()
    (kept,) = cache.iterdir()
    cache.chmod(0o777)
    kept.unlink()  # not what this process has loaded
    kept.write_bytes(b"anything")
    assert library._load().ssm_jax_forward() == 1
    assert kept.read_bytes() == b"anything"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_can_not_be_written_is_done_without(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    assert library._load().ssm_jax_forward() == 1
    assert not list(cache.iterdir())


def test_no_compiler_is_one_line(cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    library.register.cache_clear()
    with pytest.raises(errors.InputError, match=r"CXX is 'no-such-compiler', which is not found$"):
        library.register()


def test_a_source_that_does_not_compile_is_one_line(cache, monkeypatch):
    monkeypatch.setattr(library, "SOURCES", {"small.cc": "int main("})
    library.register.cache_clear()
    with pytest.raises(errors.InputError, match=r"can't compile sparse products: .*error"):
        library.register()


def test_windows_has_none(monkeypatch):
    monkeypatch.setattr(library.sys, "platform", "win32")
    library.register.cache_clear()
    with pytest.raises(errors.InputError, match="need Linux or macOS"):
        library.register()
