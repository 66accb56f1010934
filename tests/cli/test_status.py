"""Every end of a program has its exit status and one line."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
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


@pytest.mark.parametrize(("redirection", "why"), [(">/dev/full", "No space left"), (">&-", "it is closed")])
def test_output_that_fails_is_one_line_and_status_1(redirection, why):
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m ssm_jax --version {redirection}'],
        capture_output=True,
        text=True,
        timeout=300,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: cannot print the output: ") and why in line


def test_the_places_of_closed_standard_files_are_taken(tmp_path):
    code = (
        "from ssm_jax.cli import status; import os;"
        f"status.run(lambda: os.write(1, b'x') and open({str(tmp_path / 'a')!r}, 'w').write('data'))"
    )
    subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "{code}" >&- 2>&-'], timeout=300)
    assert (tmp_path / "a").read_text() == "data"


def test_names_cannot_steer_a_terminal(capsys):
    def program():
        raise errors.InputError("no file \x1b[2J\nerror: another")

    status.run(program)
    assert capsys.readouterr().err == "error: no file \\x1b[2J\\nerror: another\n"


def test_warnings_of_the_library_are_lines_without_control_characters(capsys):
    root, ours = logging.getLogger(), logging.getLogger("ssm_jax")
    before = root.handlers[:], ours.level, logging.getLogger("absl").level
    try:
        root.handlers = []
        status.set_up_logging()
        ours.warning("a file %s", "\x1b[2J\n")
    finally:
        root.handlers = before[0]
        ours.setLevel(before[1])
        logging.getLogger("absl").setLevel(before[2])
    assert capsys.readouterr().err == "a file \\x1b[2J\\n\n"


@pytest.mark.parametrize("setting", ["JAX_PLATFORMS=cuda", "JAX_DEFAULT_MATMUL_PRECISION=junk"])
def test_a_setting_with_which_jax_does_not_start_is_named(setting, tmp_path):
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "ssm_jax", "train", "digits", f"--workdir={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, name: value},
    )
    assert done.returncode == 2 and done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert name in line and value in line
    assert "Traceback" not in done.stderr
