"""The system's compilers of C and C++: how they are found, and a shared library made by them."""

from __future__ import annotations

import ctypes
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from ssm_jax import errors

# By language, the variable of the environment that names the compiler, and what is tried without it.
_NAMES = {"C": ("CC", ("cc", "gcc", "clang")), "C++": ("CXX", ("c++", "g++", "clang++"))}


def find(language: str) -> list[str]:
    """Find the system's compiler: the environment's CC (or CXX), or cc, gcc or clang (c++, g++, clang++).

    Args:
      language: `C` or `C++`.

    Returns:
      The command's words.

    Raises:
      InputError: There is none.
    """
    variable, names = _NAMES[language]
    try:
        command = shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise errors.InputError(
            f"{variable} is {os.environ[variable]!r}: {errors.one_line(error)}"
        ) from error
    for words in [command] if command else [[name] for name in names]:
        if shutil.which(words[0]):
            return words
    missing = f"there is no {', '.join(names[:-1])} or {names[-1]}"
    what = f"{variable} is {command[0]!r}, which is not found" if command else missing
    raise errors.InputError(f"a {language} compiler is needed; {what}")


def build(
    words: Sequence[str],
    sources: Mapping[str, str],
    flags: Sequence[Sequence[str]],
    options: Sequence[str] = (),
    *,
    what: str,
    target: pathlib.Path | None = None,
) -> ctypes.CDLL:
    """Compile a shared library and load it.

    Args:
      words: The compiler's command.
      sources: The texts of files by name; the first one is compiled.
      flags: What is tried in order, until the compiler knows all of one.
      options: What follows the flags every time.
      what: What is compiled, for messages.
      target: Where the library is kept, whole or not at all, in a folder that exists; None keeps none.

    Raises:
      RunError: The compiler failed or can't be run, or what it made can't be loaded.
    """
    failed = f"{shlex.join(words)} can't compile {what}"
    try:
        with tempfile.TemporaryDirectory(dir=target.parent if target else None) as folder:
            for name, text in sources.items():
                pathlib.Path(folder, name).write_text(text)
            main, library = pathlib.Path(folder, next(iter(sources))), pathlib.Path(folder, "made.so")
            for choice in flags:
                command = [*words, *choice, "-shared", "-fPIC", "-o", str(library), str(main), *options]
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
                if not done.returncode:
                    loaded = _load(library, words, what, "XDG_CACHE_HOME" if target else "TMPDIR")
                    if target:
                        os.replace(library, target)
                    return loaded
    except OSError as error:  # no program, one that compiles for another machine, no room for its files
        raise errors.RunError(f"{failed}: {errors.one_line(error)}") from error
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    faults = [line for line in lines if "error: " in line]
    raise errors.RunError(f"{failed}: {(faults or lines)[-1]}")


def _load(path: pathlib.Path, words: Sequence[str], what: str, variable: str) -> ctypes.CDLL:
    """The library of a file, which outlives it; `variable` is what decides where the file lies."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # no library, or one in a folder that is mounted noexec
        raise errors.RunError(
            f"{shlex.join(words)} compiled {what} into a library that can't be loaded: "
            f"{errors.one_line(error)}; "
            f"if {path.parents[1]} forbids programs, set {variable} to a folder that doesn't"
        ) from error
