"""Strict JSON, and checks of what it holds: whoever wrote it, the answer is a value or one error."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ssm_jax import errors

LONGEST_NAME = 200
LARGEST = 2**31 - 1
_NAME = re.compile(rf"[A-Za-z0-9_./-]{{1,{LONGEST_NAME}}}")
_DEEPEST = 32
_MOST_DIGITS = 19


def dump(value: Any) -> bytes:
    """Write a value as the one text that `load` would read as it.

    Args:
      value: What JSON can hold.

    Raises:
      InputError: The value is nothing that `load` would read.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InputError(f"the header can't be written as JSON: {errors.one_line(error)}") from error
    load(text)
    return text


def load(text: bytes) -> Any:
    """Read JSON without a key twice, deep nesting, numbers that are not finite and texts that are no Unicode.

    Args:
      text: UTF-8.

    Raises:
      InputError: It is no such JSON.
    """
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_pairs,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_finite,
        )
        _check_nesting(value)
    except (ValueError, RecursionError) as error:
        raise errors.InputError(f"its header is no JSON as it must be: {errors.one_line(error)}") from error
    return value


def _check_nesting(value: Any) -> None:
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        inner: list[Any] = []
        for item in layer:
            if isinstance(item, str):
                item.encode()  # fails on half a pair of surrogates
            elif isinstance(item, dict):
                inner += item
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        layer = inner


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is there twice")
    return entries


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def fields(value: Any, name: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check that a value is an object of some keys.

    Args:
      value: The value.
      name: What it is called.
      needed: Keys that are there.
      optional: Keys that may be there.
    """
    if type(value) is not dict:
        raise errors.wrong_value(name, value, "an object")
    missing, more = set(needed) - set(value), set(value) - {*needed, *optional}
    if missing:
        raise errors.InputError(f"{name} lacks {', '.join(sorted(missing))}")
    if more:
        raise errors.wrong_value(f"a key of {name}", min(more), f"one of {', '.join((*needed, *optional))}")
    return value


def items(value: Any, name: str, most: int, least: int = 1) -> list[Any]:
    """Check that a value is a list of `least` to `most` values."""
    if type(value) is not list or not least <= len(value) <= most:
        raise errors.wrong_value(name, value, f"a list of {least} to {most}")
    return value


def integer(value: Any, name: str, least: int = 0, most: int = LARGEST) -> int:
    """Check that a value is an integer from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise errors.wrong_value(name, value, f"an integer from {least} to {most}")
    return value


def real(value: Any, name: str) -> float:
    """Check that a value is a finite floating point number."""
    if type(value) is not float or not math.isfinite(value):
        raise errors.wrong_value(name, value, "a finite number, written with a point or an exponent")
    return value


def text(value: Any, name: str) -> str:
    """Check that a value is a short text that can be printed on one line."""
    if type(value) is not str or len(value) > LONGEST_NAME or not value.isprintable():
        raise errors.wrong_value(name, value, f"a printable text of up to {LONGEST_NAME} characters")
    return value


def path(value: Any, name: str) -> str:
    """Check that a value is the path of a layer, which source code and names of files may hold."""
    if type(value) is not str or not _NAME.fullmatch(value) or {"", ".", ".."} & set(value.split("/")):
        raise errors.wrong_value(
            name, value, f"1 to {LONGEST_NAME} letters, digits and ._-, parted by single /"
        )
    return value
