"""Files that a verb writes: checked before anything slow, and never lost unasked."""

from __future__ import annotations

import os
import pathlib

from ssm_jax import errors


def check_free(path: pathlib.Path, force: bool) -> None:
    """Check that a file can be written, and that it is not there unless it may be overwritten.

    Args:
      path: The file.
      force: Whether it may be overwritten.

    Raises:
      InputError: It can't be written, or is there.
    """
    if path.is_dir():
        raise errors.InputError(f"cannot write {path}: it is a folder")
    if path.exists() and not force:
        raise errors.InputError(f"{path} is there already: --force overwrites it, --output writes elsewhere")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise errors.InputError(f"cannot write {path}: {path.parent} is not a writable folder")
