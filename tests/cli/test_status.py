"""Every end of a program has its exit status and one line."""

import asyncio
import gc
import logging
import signal
import sys

import pytest

from ssm_jax import errors
from ssm_jax.cli import status


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    logger = logging.getLogger("asyncio")
    level = logger.level
    yield
    logger.setLevel(level)


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


def test_what_else_failed_in_a_read_that_failed_is_not_said(capsys, caplog):
    # Orbax reads all arrays at once, raises the first error and leaves the others to the garbage collector.
    def program():
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(ValueError("another array"))
        loop.close()
        gc.collect()
        raise errors.InputError("an array")

    assert status.run(program) == 2
    assert capsys.readouterr().err == "error: an array\n" and not caplog.records


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
