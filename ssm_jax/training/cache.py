"""Compiled programs kept on disk, so that a second start is quick."""

from __future__ import annotations

import hashlib
import logging
import pathlib
import tempfile
from typing import Any

import jax
from jax._src import compilation_cache as internals
from jax.experimental.compilation_cache import compilation_cache

from ssm_jax import files

_log = logging.getLogger("ssm_jax")
_ours: str | None = None  # the folder that was chosen here last, which isn't the caller's


def use_compilation_cache(folder: str) -> None:
    """Keep compiled programs on disk; where that cannot be, warn once and go on without.

    A folder that the caller has set by JAX's own means stays; that of an earlier call does not.

    Args:
      folder: `auto` is `ssm_jax/compiled` in the user's cache directory; an empty string is off.
    """
    global _ours
    before = jax.config.values["jax_compilation_cache_dir"]
    if before and before != _ours:
        chosen = before
    elif not folder:
        chosen = _ours = None
    else:
        try:
            home = files.cache_home() / "compiled" if folder == "auto" else None
            chosen = str(home or (folder if "://" in folder else files.expand_user(folder)))
        except OSError as error:
            _log.warning("compiled programs are not kept: %s", files.reason(error))
            chosen = None
        _ours = chosen
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    if chosen and (fault := _fault(chosen)):  # JAX would say so for every program.
        _log.warning("compiled programs are not kept, %s cannot be used: %s", chosen, fault)
        chosen = None
    if chosen != before:
        jax.config.update("jax_compilation_cache_dir", chosen)
        compilation_cache.reset_cache()  # JAX looks at its setting once


def _fault(folder: str) -> str:
    """Say why a folder cannot hold the cache; the empty string where it can."""
    if "://" in folder:  # A bucket, which JAX knows how to reach.
        return ""
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return files.reason(error)
    return ""


class _Programs:
    """Compiled programs in files, each with a digest of it and its key, in the place of JAX's own cache.

    JAX reads whatever a file holds: half a program is warned of at every start and stays, and the program
    of another key ends in an assertion, or runs.
    """

    def __init__(self, folder: str) -> None:
        self._path = pathlib.Path(folder)
        self._warned = False

    def _file(self, key: str) -> pathlib.Path:
        return self._path / f"{key}-program"

    def get(self, key: str) -> bytes | None:
        try:
            stored = files.read_whole(self._file(key))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read: {files.reason(error)}")
            return None
        program = stored[hashlib.sha256().digest_size :]
        if stored != _signed(key, program):
            self._warn("was damaged or of another program: it is compiled anew")
            return None
        return program

    def put(self, key: str, program: bytes) -> None:
        try:
            files.write_whole(self._file(key), lambda file: file.write(_signed(key, program)))
        except OSError as error:
            self._warn(f"cannot be written: {files.reason(error)}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            _log.warning("a compiled program in %s %s", self._path, text)
        self._warned = True


def _signed(key: str, program: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + program).digest() + program


_jax_file_cache = internals.get_file_cache


def _file_cache(path: str) -> tuple[Any, str] | None:
    # The caller's own folder, or one with a limit of size, is JAX's affair.
    if path != _ours or jax.config.values["jax_compilation_cache_max_size"] != -1:
        return _jax_file_cache(path)
    return _Programs(path), path


internals.get_file_cache = _file_cache  # JAX has no public place for a cache of one's own
