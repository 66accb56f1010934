"""Files read and written whole."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import pathlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ssm_jax import errors

# The most bytes of text that are read: far more than a run writes, and 0.5 GB as JSON in memory.
MOST_TEXT = 2**26


def cache_home() -> pathlib.Path:
    """Return where this package caches: `ssm_jax` in the environment's XDG_CACHE_HOME, or in ~/.cache.

    Raises:
      OSError: The user has no home.
    """
    return expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ssm_jax"


def check_regular(path: pathlib.Path) -> None:
    """Check that a path, if it exists, is a file: to open a named pipe would mean to wait for ever.

    Raises:
      OSError: The path is a folder, a named pipe, a socket or a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_whole(path: pathlib.Path, most: int | None = None) -> bytes:
    """Read a regular file.

    Args:
      most: The most bytes that it may have; a sparse file of any size costs nothing to make.

    Raises:
      OSError: The file does not exist, is no regular one, is too large or cannot be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        if most is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)  # it may have grown
        if max(size, len(content)) > most:
            raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
        return content


def read_json(path: pathlib.Path) -> Any:
    """Read a JSON file of at most `MOST_TEXT` bytes.

    Raises:
      OSError: The file cannot be read, see `read_whole`.
      ValueError: It holds no JSON.
    """
    try:
        return json.loads(read_whole(path, MOST_TEXT))
    except RecursionError as error:
        raise ValueError(str(error)) from error


def write_whole(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that it is there whole or not at all, whoever else writes it at the same time.

    Raises:
      OSError: The file cannot be written; whatever was there before still is.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file of text in UTF-8, see `write_whole`."""
    write_whole(path, lambda file: file.write(text.encode()))


def remove_leftovers(path: pathlib.Path) -> None:
    """Remove what a killed `write_whole` of a file has left; nobody else is writing that file."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}"):
        leftover.unlink(missing_ok=True)


def open_to_append(path: pathlib.Path) -> BinaryIO:
    """Open a file to add to its end; makes it where there is none.

    Others may have access to its folder: what a link points to isn't theirs to have written to.

    Raises:
      OSError: It is a symbolic link or no regular file, or cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link", str(path))
    check_regular(path)
    return open(path, "ab", opener=opener)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Turn an error of the operating system into one of the run that names what it could not write.

    Raises:
      RunError: It cannot be written, for example because the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise errors.RunError(f"cannot write {path}: {reason(error)}") from error


def expand_user(path: str) -> pathlib.Path:
    """Replace `~` or `~name` at the beginning of a path by the user's home.

    Raises:
      OSError: Nobody knows that user's home.
    """
    expanded = pathlib.Path(os.path.expanduser(path))
    if path.startswith("~") and expanded == pathlib.Path(path):
        raise OSError(errno.ENOENT, f"there is no home for {path.partition('/')[0]}", path)
    return expanded


def reason(error: OSError) -> str:
    """Say why a file cannot be read or written, without its name.

    Examples:
      >>> reason(FileNotFoundError(2, "No such file or directory", "x"))
      'No such file or directory'
    """
    return error.strerror or str(error)
