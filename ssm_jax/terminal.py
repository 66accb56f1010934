"""Text for people: what files and names hold can neither steer a terminal nor end a program."""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from typing import TextIO

from ssm_jax import errors, files


class OutputError(errors.RunError):
    """Standard output can't be written to: it is closed, its reader has left, or its disk is full."""


def printable(text: str) -> str:
    r"""Escape what a terminal would obey, the ends of lines too, and what no encoding can write.

    Args:
      text: A text from anywhere, such as a file's name.

    Returns:
      One line.

    Examples:
      >>> print(printable("a\n\x1b[2Jb"))
      a\n\x1b[2Jb
    """
    return "".join(char if _is_harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _is_harmless(char: str) -> bool:
    # Not: control characters, directions of writing, halves of characters, separators of lines.
    category = unicodedata.category(char)
    return category[0] != "C" and category not in ("Zl", "Zp")


def say(text: str = "") -> None:
    """Print lines on standard output, at once.

    Args:
      text: One or more lines.

    Raises:
      OutputError: They cannot be printed.
    """
    write(sys.stdout, "\n".join(map(printable, text.split("\n"))) + "\n")


def complain(text: str) -> None:
    """Print one line on standard error; where that can't be, nobody reads it.

    Args:
      text: The line.
    """
    with contextlib.suppress(OutputError):
        write(sys.stderr, f"{printable(text)}\n")


def write(stream: TextIO | None, text: str) -> None:
    """Write a text as it is, but for characters that the stream's encoding lacks.

    Args:
      stream: Standard output, for example; None where it was closed when the program started.
      text: The text.

    Raises:
      OutputError: It cannot be written.
    """
    if stream is None:
        raise OutputError("cannot print the output: it is closed")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.replace("±", "+-").encode(encoding, "backslashreplace").decode(encoding)
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise OutputError(f"cannot print the output: {files.reason(error)}") from error
    except ValueError as error:  # of a closed file
        raise OutputError("cannot print the output: it is closed") from error
