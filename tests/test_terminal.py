"""What is printed cannot steer a terminal, is printed in any encoding, or fails in one line."""

import io
import sys

import pytest

from ssm_jax import terminal


class Full(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("a\nb\tc\r\x9b", r"a\nb\tc\r\x9b"),
        ("\u202etxt.exe\u2028", r"\u202etxt.exe\u2028"),
        ("\udcff", r"\udcff"),  # of a file name that is not UTF-8
        ("Käse 猫 ± \xa0\u202f", "Käse 猫 ± \xa0\u202f"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, shown):
    assert terminal.printable(text) == shown == terminal.printable(shown)


def test_lines_stay_lines(capsys):
    terminal.say("one\ntwo\x1b[31m")
    terminal.complain("error: a\nb")
    assert capsys.readouterr() == ("one\ntwo\\x1b[31m\n", "error: a\\nb\n")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"9 +- 1 \\u732b\n"), ("cp1252", b"9 +- 1 \\u732b\n")]
)
def test_what_an_encoding_lacks_is_replaced(monkeypatch, encoding, shown):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    terminal.say("9 ± 1 猫")
    assert raw.getvalue() == shown


def test_output_that_fails_is_one_error_of_the_run(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream, why in (
        (Full(), "No space left on device"),
        (closed, "it is closed"),
        (None, "it is closed"),
    ):
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(terminal.OutputError, match=f"cannot print the output: {why}"):
            terminal.say("text")
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.complain("nobody reads this")
