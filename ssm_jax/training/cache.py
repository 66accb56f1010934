"""Compiled programs kept on disk, so that a second start is quick."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile

import jax
from jax.experimental.compilation_cache import compilation_cache

from ssm_jax import files
from ssm_jax.data import datasets

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
        chosen = str(datasets.cache_home() / "compiled") if folder == "auto" else os.path.expanduser(folder)
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
