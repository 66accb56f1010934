"""Files that a verb writes: checked before anything slow, and never lost unasked."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence

from ssm_jax import errors, files


def check_free(path: pathlib.Path, force: bool) -> None:
    """Check that a file can be written, and that it is not there unless it may be overwritten.

    Raises:
      InputError: It can't be written, or is there.
    """
    if os.path.isdir(path):
        raise errors.InputError(f"cannot write {path}: it is a folder")
    if os.path.exists(path) and not force:
        raise errors.InputError(f"{path} is there already: --force overwrites it, --output writes elsewhere")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise errors.InputError(f"cannot write {path}: {path.parent} is not a writable folder")


def write(paths: Sequence[pathlib.Path], force: bool, write: Callable[[pathlib.Path], object]) -> None:
    """Write files that belong together; all of them are there at the end, or none.

    Args:
      paths: The files, in one folder.
      write: Writes all of them, given a path in another folder that stands for the first.

    Raises:
      InputError: A file has appeared and may not be overwritten.
      RunError: They can't be written.
    """
    claimed: list[pathlib.Path] = []
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=paths[0].parent) as folder:
            try:
                write(pathlib.Path(folder) / paths[0].name)
            except errors.RunError as error:  # of the file that stands for the first
                written = pathlib.Path(folder) / paths[0].name
                raise errors.RunError(str(error).replace(str(written), str(paths[0]))) from error
            for path in () if force else paths:
                path.open("xb").close()
                claimed.append(path)
            for path in paths:
                os.replace(pathlib.Path(folder) / path.name, path)
    except FileExistsError as error:
        for path in claimed:
            path.unlink()
        raise errors.InputError(
            f"{error.filename} has appeared meanwhile: --force overwrites it, --output writes elsewhere"
        ) from error
    except OSError as error:
        raise errors.RunError(f"cannot write {paths[0]}: {files.reason(error)}") from error
