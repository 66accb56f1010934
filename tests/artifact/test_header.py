"""Headers are read strictly: every text is one value, or one error of one line."""

from __future__ import annotations

import pytest

from ssm_jax import errors
from ssm_jax.artifact import header


def test_a_value_comes_back_and_its_text_is_always_the_same():
    value = {"b": [1, 0.1, None, True], "a": {"ç": "\n"}}
    assert header.dump(value) == '{"a":{"ç":"\\n"},"b":[1,0.1,null,true]}'.encode()
    assert header.load(header.dump(value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "Expecting value"),
        (b'{"a":1', "Expecting"),
        (b"\xff", "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a":1,"a":2}', "a key is there twice"),
        (b"NaN", "not finite"),
        (b"-Infinity", "not finite"),
        (b"1e999", "not finite"),
        (b"9" * 100_000, "an integer has 100000 digits"),
        (b'"\\ud800"', "surrogates"),
        (b'{"\\ud800":1}', "surrogates"),
        (b"[" * 33 + b"]" * 33, "nested more than 32 deep"),
        (b"[" * 1_000_000, "recursion"),
        (b'{"a":' * 200_000, "recursion"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_strict_json_is_refused_in_one_line(text, said):
    with pytest.raises(errors.InputError, match=said) as caught:
        header.load(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), 10**30, "\ud800", {"a": [[]] * 2 + [object()]}])
def test_what_json_cannot_hold_is_not_written(value):
    with pytest.raises(errors.InputError):
        header.dump(value)


def test_fields_names_what_is_missing_and_what_is_unknown():
    assert header.fields({"a": 1}, "it", ("a",), ("b",)) == {"a": 1}
    with pytest.raises(errors.InputError, match="it lacks b"):
        header.fields({"a": 1}, "it", ("a", "b"))
    with pytest.raises(errors.InputError, match="a key of it is 'c'; it must be one of a, b"):
        header.fields({"a": 1, "c": 1}, "it", ("a",), ("b",))
    with pytest.raises(errors.InputError, match="it is 3; it must be an object"):
        header.fields(3, "it", ())


@pytest.mark.parametrize("value", [True, 1.0, "1", None, -1, 2**31])
def test_integers_are_integers(value):
    with pytest.raises(errors.InputError, match=r"n is .*; it must be an integer from 0 to 2147483647"):
        header.integer(value, "n")


@pytest.mark.parametrize("value", [True, 1, "1.0", None, float("inf")])
def test_real_numbers_are_written_as_such(value):
    with pytest.raises(errors.InputError, match="must be a finite number"):
        header.real(value, "x")


@pytest.mark.parametrize(
    "value", ["", "a b", "a\n", "*/", "x" * 201, 1, "../a", "a/..", "/a", "a/", "a//b", "./a"]
)
def test_paths_of_layers_are_harmless(value):
    assert header.path("blocks/0/conv-1.x_y", "name") == "blocks/0/conv-1.x_y"
    with pytest.raises(errors.InputError, match="name is"):
        header.path(value, "name")


def test_texts_are_printable_and_short():
    assert header.text("Ankle boot, ça", "name") == "Ankle boot, ça"
    for value in ("a\nb", "\x1b[0m", "x" * 201, 1):
        with pytest.raises(errors.InputError, match="name is"):
            header.text(value, "name")


def test_lists_have_a_length():
    assert header.items([1], "it", 2) == [1]
    for value in ([], [1, 2, 3], (1,), "ab"):
        with pytest.raises(errors.InputError, match="must be a list of 1 to 2"):
            header.items(value, "it", 2)
