"""A dataclass comes back from its JSON; any other content is one line that names file, field and fault."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from typing import Annotated, ClassVar

import pytest
from ml_collections import ConfigDict

from ssm_jax import config, errors
from ssm_jax.runs import schema


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    share: schema.Share


@dataclasses.dataclass(frozen=True)
class Whole:
    format: ClassVar[int] = 2
    count: Annotated[int, schema.Range(1, 9)]
    pair: tuple[int, int]
    ratio: float
    exact: bool
    note: str | None
    parts: tuple[Part, ...]
    versions: dict[str, str]
    config: ConfigDict
    younger: dict[str, str] | None = None


def whole() -> Whole:
    part = Part("a", 0.25)
    return Whole(3, (4, 5), 0.5, True, None, (part, part), {"jax": "1"}, config.default())


def write(path, **changes):
    """Write a whole, changed; returns the path."""
    schema.write(path, whole())
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    return path


def fault(path) -> str:
    with pytest.raises(errors.InputError) as caught:
        schema.read(Whole, path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 300 + len(str(path))
    return text


def test_what_was_written_comes_back(tmp_path):
    schema.write(tmp_path / "a.json", whole())
    assert schema.read(Whole, tmp_path / "a.json") == whole()
    assert json.loads((tmp_path / "a.json").read_text())["format"] == 2


def test_a_field_with_a_default_may_be_missing(tmp_path):
    assert schema.read(Whole, write(tmp_path / "a.json", younger=...)) == whole()
    assert schema.read(Whole, write(tmp_path / "a.json", younger={"a": "b"})).younger == {"a": "b"}


def test_no_file_is_none(tmp_path):
    assert schema.read(Whole, tmp_path / "a.json") is None


def test_a_whole_number_is_a_float_where_one_is_wanted(tmp_path):
    ratio = schema.read(Whole, write(tmp_path / "a.json", ratio=1)).ratio
    assert type(ratio) is float and ratio == 1.0


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        schema.write(tmp_path / "a.json", dataclasses.replace(whole(), ratio=math.nan))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": ...}, "it lacks count"),
        ({"count": ..., "ratio": ...}, "it lacks count, ratio"),
        ({"cuont": 1}, "unknown field 'cuont'; did you mean 'count'?"),
        ({"x" * 5000: 1}, "unknown field 'xxx"),
        ({"count": "3"}, "count is '3'; it must be an integer"),
        ({"count": 2.5}, "count is 2.5; it must be an integer"),
        ({"count": True}, "count is True; it must be an integer"),
        ({"count": 1e9}, "count is 1000000000.0; it must be an integer"),
        ({"count": None}, "count is None; it must be an integer"),
        ({"count": 0}, "count is 0; allowed is 1 to 9"),
        ({"count": -1}, "count is -1; allowed is 1 to 9"),
        ({"count": 10**400}, "allowed is 1 to 9"),
        ({"pair": 4}, "pair is 4; it must be a list of 2"),
        ({"pair": [4]}, "pair is [4]; it must be a list of 2"),
        ({"pair": [4, "5"]}, "pair[1] is '5'; it must be an integer"),
        ({"ratio": math.nan}, "ratio is nan; it must be a finite number"),
        ({"ratio": -math.inf}, "ratio is -inf; it must be a finite number"),
        ({"ratio": 10**400}, "it must be a finite number"),
        ({"ratio": "0.5"}, "ratio is '0.5'; it must be a finite number"),
        ({"exact": 1}, "exact is 1; it must be true or false"),
        ({"note": 3}, "note is 3; it must be a text"),
        ({"parts": {}}, "parts is {}; it must be a list"),
        ({"parts": [3]}, "parts[0] is 3; it must be an object"),
        ({"parts": [{"name": "a"}]}, "parts[0] lacks share"),
        ({"parts": [{"name": "a", "share": 1.5}]}, "parts[0].share is 1.5; allowed is 0 to 1"),
        ({"parts": [{"name": "a", "share": 1, "n": 0}]}, "unknown field 'parts[0].n'"),
        ({"versions": []}, "versions is []; it must be an object"),
        ({"versions": {"jax": 1}}, "versions.jax is 1; it must be a text"),
        ({"config": 3}, "config is 3"),
        ({"config": {"seed": "0"}}, "config.seed is '0'; it must be of type int"),
        ({"config": {"seed": -1}}, "config.seed is -1; allowed is"),
        ({"format": ...}, "its format is None, as in an early version of ssm_jax; this one reads format 2"),
        ({"format": "2"}, "its format is '2'"),
        ({"format": 1}, "its format is 1, of an older version of ssm_jax; this one reads format 2"),
        ({"format": 3}, "its format is 3, of a newer version of ssm_jax; this one reads format 2"),
    ],
)
def test_content_that_does_not_fit(tmp_path, changes, message):
    assert message in fault(write(tmp_path / "a.json", **changes))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b'{"format": 2, "count": ' + b"[" * 100_000, b'{"count": 1'],
)
def test_what_is_no_json(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    assert "is damaged, it holds no JSON" in fault(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["3", "[]", "null", '"text"', "NaN", "[" * 500 + "]" * 500])
def test_json_that_is_no_object(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert "its content is" in fault(tmp_path / "a.json")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        assert "not a regular file" in fault(tmp_path / name)


def test_a_config_of_an_older_version_gets_the_defaults_of_what_it_lacks(tmp_path):
    values = config.default().to_dict()
    del values["schedule"], values["mask"]["threshold"]
    assert schema.read(Whole, write(tmp_path / "a.json", config=values)) == whole()
