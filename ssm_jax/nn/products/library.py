"""The handlers of `products.cc`, compiled by the system's C++ compiler once per machine and known to XLA."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import stat
import subprocess
import sys

import jax

from ssm_jax import compilers, errors, files
from ssm_jax.core import selection

HANDLERS = ("forward", "of_inputs", "of_kernel", "of_pool", "select")
# The first one includes the others.
SOURCES = {
    name: pathlib.Path(__file__).with_name(name).read_text()
    for name in ("products.cc", "base.h", "convolve.h", "gradient.h", "pages.h", "pool.h", "select.h")
}

OPTIONS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fvisibility=hidden", "-w")
FLAGS = ((*OPTIONS, "-march=native"), OPTIONS)


def target(handler: str) -> str:
    """The name by which XLA knows a handler, one of `HANDLERS`."""
    return f"ssm_jax_{handler}"


@functools.cache
def register() -> None:
    """Compile the handlers, unless that was done before, and make them known to XLA.

    Raises:
      InputError: There is no C++ compiler, or it doesn't compile them, or the system is Windows.
    """
    if sys.platform == "win32":
        raise errors.InputError("sparse products need Linux or macOS")
    try:
        loaded = _load()
    except errors.RunError as error:
        raise errors.InputError(str(error)) from error
    for handler in HANDLERS:
        function = getattr(loaded, target(handler))
        jax.ffi.register_ffi_target(target(handler), jax.ffi.pycapsule(function), platform="cpu")
    selection.use_handler(target("select"))


def _load() -> ctypes.CDLL:
    words = compilers.find("C++")
    kept = _kept(words)
    if kept is not None and _is_ours(kept):
        try:
            return ctypes.CDLL(str(kept))
        except OSError:  # damaged: it is made again
            pass
    return compilers.build(
        words,
        SOURCES,
        FLAGS,
        [f"-I{jax.ffi.include_dir()}"],
        what="sparse products",
        target=kept,
    )


def _kept(words: list[str]) -> pathlib.Path | None:
    """Where the library is kept: named by all that it depends on; None where nothing can be."""
    # The compiler's own macros tell its version and what the processor knows.
    command = [*words, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    try:
        macros = subprocess.run(command, capture_output=True, check=False).stdout
        folder = files.cache_home() / "products"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    if not _is_ours(folder) or not os.access(folder, os.W_OK):
        return None
    parts = (SOURCES, macros, words, FLAGS, importlib.metadata.version("jaxlib"))
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return folder / f"{digest[:32]}.so"


def _is_ours(path: pathlib.Path) -> bool:
    """Whether nobody else could have written a file or folder: what it holds is run."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
