"""Every end of a program has its exit status and one line."""

import signal
import sys

import pytest

from ssm_jax import errors
from ssm_jax.cli import status


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.InputError("no such thing"), 2, "error: no such thing\n"),
        (errors.RunError("it failed"), 1, "error: it failed\n"),
        (errors.Preempted("stopped", signal.SIGTERM), 143, "stopped\n"),
        (errors.Preempted("stopped", signal.SIGINT), 130, "stopped\n"),
    ],
)
def test_an_error_of_ours_is_one_line(capsys, error, code, line):
    def program():
        raise error

    assert status.run(program) == code
    assert capsys.readouterr().err == line


def test_a_program_that_ends_well_has_status_0(capsys):
    assert status.run(lambda: print("done")) == 0
    assert capsys.readouterr().out == "done\n"


def test_an_interruption_is_said_in_the_programs_own_words(capsys, monkeypatch):
    def program():
        raise KeyboardInterrupt

    left = []
    monkeypatch.setattr("os._exit", left.append)
    status.run(program, interrupted="nothing was written")
    assert left == [130] and capsys.readouterr().err == "nothing was written\n"


def test_an_error_of_the_program_itself_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        status.run(lambda: 1 / 0)
