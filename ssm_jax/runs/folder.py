"""The folder of a run: reading and writing its files whole, and finding out whether it is usable."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from ssm_jax import errors


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
      RunError: nothing can be written, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise errors.RunError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all.

    Raises:
      RunError: nothing can be written.
    """
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """A JSON file, or None if there is none.

    Raises:
      InputError: it can't be read.
    """
    if not os.path.exists(path):
        return None
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        return value
    except (OSError, ValueError) as error:
        raise errors.InputError(
            f"cannot read {path} ({error}): delete {path.parent} to begin again"
        ) from error


def check_writable(workdir: pathlib.Path) -> None:
    """Find out, without making anything, whether a workdir can be made and written to.

    Raises:
      InputError: it can't; names the folder that stands in the way.
    """
    folder = workdir.absolute()
    while not os.path.exists(folder):
        folder = folder.parent
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise errors.InputError(f"cannot write to the workdir {workdir}: {folder} is not a writable folder")


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
    """Keep other runs out of a workdir while the context lasts.

    Raises:
      InputError: another process is using it.
    """
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.InputError(f"another run is using the workdir {workdir}") from error
        except OSError:
            pass  # A file system without locks.
        yield


def make(workdir: pathlib.Path) -> None:
    """Make a workdir and its parents.

    Raises:
      InputError: it can't be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.InputError(f"cannot make the workdir {workdir}: {error.strerror}") from error
