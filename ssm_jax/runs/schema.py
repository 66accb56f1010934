"""JSON files whose content is a frozen dataclass: one reader and one writer, by the types of the fields.

A field is an int, float, str or bool, a config, another dataclass, or an optional one, a tuple or a
dictionary of these; `Annotated[int, Range(1, 10)]` is a number that is bounded. Every file has a `format`
number, which changes with the meaning of its fields; a field with a default may be missing in older files.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
import reprlib
import types
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from ssm_jax import config as configuration
from ssm_jax import errors, files


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high

    def __str__(self) -> str:
        return f"at least {self.low}" if self.high == math.inf else f"{self.low} to {self.high}"


# What is counted is counted in int32; weights of all layers together are not.
Count = Annotated[int, Range(1, 2**31 - 1)]
Size = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0, 2**31 - 1)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


class NewerFormatError(errors.InputError):
    """A sound file of a newer version of this library."""


class Stored(Protocol):
    """A frozen dataclass that is stored as a JSON file."""

    format: ClassVar[int]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Kind = TypeVar("Kind", bound=Stored)


def read(kind: type[Kind], path: pathlib.Path) -> Kind | None:
    """Read a JSON file and check it field by field.

    Returns:
      The checked content, or None where there is no file.

    Raises:
      InputError: A file that cannot be read, of another format (`NewerFormatError` where that is newer), or
        whose content does not fit; names the file, the field, what was found and what is allowed.
    """
    try:
        value = files.read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise errors.InputError(f"cannot read {path}: {files.reason(error)}") from error
    except ValueError as error:
        raise errors.InputError(f"{path} is damaged, it holds no JSON: {errors.one_line(error)}") from error
    try:
        if type(value) is not dict:
            raise errors.wrong_value("its content", value, "an object")
        _check_format(value.pop("format", None), kind.format)
        return decode(kind, value)
    except errors.InputError as error:
        raise type(error)(f"cannot use {path}: {error}") from error


def write(path: pathlib.Path, content: Stored) -> None:
    """Write a dataclass, of which every number is finite, as indented JSON, whole or not at all.

    Raises:
      RunError: The file cannot be written, for example because the disk is full.
    """
    value = {"format": content.format, **_encode(content)}
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with files.writing(path):
        files.write_text(path, text)


def _check_format(stored: object, ours: int) -> None:
    if stored == ours and type(stored) is int:
        return
    newer = type(stored) is int and stored > ours
    age = "as in an early" if type(stored) is not int else "of a newer" if newer else "of an older"
    raise (NewerFormatError if newer else errors.InputError)(
        f"its format is {reprlib.repr(stored)}, {age} version of ssm_jax; this one reads format {ours}"
    )


_NAMES = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}


def decode(kind: Any, value: Any, name: str = "") -> Any:
    """Check a value, as `json` reads it, against a type, such as a dataclass.

    Raises:
      InputError: It does not fit; says by `name` where, what was found and what is allowed.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        base, allowed = arguments
        number = decode(base, value, name)
        if number not in allowed:
            raise errors.out_of_range(name, value, str(allowed))
        return number
    if origin in (types.UnionType, Union):
        return None if value is None else decode(arguments[0], value, name)
    if kind is ConfigDict:
        return configuration.from_dict(value)
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, value, name)
    if origin is tuple:
        many = arguments[-1] is Ellipsis
        if type(value) is not list or not (many or len(value) == len(arguments)):
            raise errors.wrong_value(name, value, "a list" if many else f"a list of {len(arguments)}")
        inner = arguments[:1] * len(value) if many else arguments
        return tuple(decode(inner[i], entry, f"{name}[{i}]") for i, entry in enumerate(value))
    if origin is dict:
        if type(value) is not dict:
            raise errors.wrong_value(name, value, "an object")
        return {key: decode(arguments[1], entry, f"{name}.{key}") for key, entry in value.items()}
    # A float that is whole may have lost its point; an integer beyond 2**53 may be too large for one.
    if kind is float and type(value) is int and abs(value) <= 2**53:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise errors.wrong_value(name, value, _NAMES[kind])
    return value


def _decode_fields(kind: Any, value: Any, name: str) -> Any:
    kinds = _fields(kind)
    if type(value) is not dict:
        raise errors.wrong_value(name, value, "an object")
    for key in value:
        if key not in kinds:
            raise errors.unknown("field", f"{name}.{key[:60]}".lstrip("."), kinds)
    younger = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    missing = [key for key in kinds if key not in value and key not in younger]
    if missing:
        raise errors.InputError(f"{name or 'it'} lacks {', '.join(missing)}")
    return kind(
        **{
            key: decode(inner, value[key], f"{name}.{key}".lstrip("."))
            for key, inner in kinds.items()
            if key in value
        }
    )


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _encode(value: Any) -> Any:
    if isinstance(value, ConfigDict):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_encode(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _encode(entry) for key, entry in value.items()}
    return value
