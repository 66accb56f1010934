"""The arguments of a command line: flag files replaced, and what is wrong with them in one line."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from ssm_jax import config, errors, files
from ssm_jax.cli import configs

_MOST_FILES = 100
_MOST_BYTES = 2**20


def expand(argv: Sequence[str]) -> list[str]:
    """Replace every `--flagfile` by the arguments that its file holds, one a line.

    Returns:
      Arguments without flag files.

    Raises:
      InputError: A flag file does not exist, cannot be read or holds itself, or there are too many.
    """
    return list(_expanded(argv, (), itertools.count(1)))


def _expanded(argv: Iterable[str], within: tuple[pathlib.Path, ...], numbers: Iterator[int]) -> Iterator[str]:
    rest = iter(argv)
    for argument in rest:
        name, given, value = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            yield argument
            continue
        path = pathlib.Path(os.path.expanduser(value if given else next(rest, "")))
        if path in within:
            raise errors.InputError(f"--flagfile={path} holds itself")
        # Few files that name each other often would be read for ever.
        if next(numbers) > _MOST_FILES:
            raise errors.InputError(f"--flagfile={path} is one of more than {_MOST_FILES} flag files")
        try:
            text = files.read_whole(path, _MOST_BYTES).decode()
        except OSError as error:
            raise errors.InputError(f"cannot read --flagfile={path}: {files.reason(error)}") from error
        except UnicodeDecodeError as error:
            raise errors.InputError(f"--flagfile={path} is no text: {errors.one_line(error)}") from error
        lines = map(str.strip, text.splitlines())
        inner = (line for line in lines if line and not line.startswith(("#", "//")))
        yield from _expanded(inner, (*within, path), numbers)


def value_of(name: str, argv: Sequence[str]) -> str | None:
    """Return the last value that expanded arguments give a flag, or None."""
    return take(name, argv)[0]


def take(name: str, argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the last value that the arguments give a flag, or None, and the arguments without it."""
    value, others, rest = None, [], iter(argv)
    for argument in rest:
        flag, given, text = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = text if given else next(rest, "")
        else:
            others.append(argument)
    return value, others


def explain(error: BaseException, argv: Sequence[str]) -> errors.InputError:
    """Say in one line why arguments were refused: flags and config files raise whatever they like."""
    try:
        configs.load(value_of("config", argv) or "")
    except errors.InputError as fault:
        return fault
    default = config.default()
    fields = dict(config.fields(default))
    for argument in argv:
        flag = argument.lstrip("-").partition("=")[0]
        name = flag.removeprefix("config.")
        if flag != name and name not in fields and not hasattr(default, name):
            return errors.unknown("config field", name, fields)
    message = str(error.args[0] if error.args else "") or type(error).__name__
    return errors.InputError(" - ".join(filter(None, map(str.strip, message.splitlines()))))
