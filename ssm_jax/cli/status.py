"""How a program ends: its exit status and its last line."""

from __future__ import annotations

import io
import logging
import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from ssm_jax import errors, terminal

_INTERRUPTED = "interrupted; the last checkpoint, if there is one, is kept"


def program(
    interrupted: str = _INTERRUPTED,
) -> Callable[[Callable[[list[str]], None]], Callable[[Sequence[str]], int]]:
    """Make a program of a function of arguments: it returns the exit status, see `run`."""

    def decorate(main: Callable[[list[str]], None]) -> Callable[[Sequence[str]], int]:
        return lambda argv: run(lambda: main(list(argv)), interrupted)

    return decorate


def run(program: Callable[[], None], interrupted: str = _INTERRUPTED) -> int:
    """Run a program; every error that a user can mend is one line.

    Returns:
      The exit status: 0 done, 1 failed, 2 cannot be run, 143 or 130 stopped with the state saved.
    """
    _keep_standard_files()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set while the program was loaded
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # When one array of a damaged checkpoint can't be read, the reads of the others are left behind: they
    # fail as well, or find their event loop closed. The error of the first says it all.
    sys.unraisablehook = _report_unraisable
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        program()
        terminal.write(sys.stdout, "")
    except errors.Preempted as stopped:
        terminal.complain(str(stopped))
        return stopped.exit_status
    except (errors.InputError, errors.RunError) as error:
        # Whoever read the output may have left, as `head` does.
        if not isinstance(error.__cause__, BrokenPipeError):
            terminal.complain(f"error: {error}")
        if isinstance(error, terminal.OutputError):
            _discard_output()
        return error.exit_status
    except Exception as error:
        fault = _environment_fault(error)
        if fault is None:
            raise
        terminal.complain(f"error: {fault}")
        return errors.InputError.exit_status
    except KeyboardInterrupt:
        terminal.complain(interrupted)
        os._exit(130)  # The threads of a save that was interrupted may never end.
    return 0


def set_up_logging() -> None:
    """Let the library say what it is at, and other libraries not repeat what arrives as an error."""
    # What takes long before training starts, such as waiting for hosts or decoding a dataset, says so.
    logging.basicConfig(handlers=[_Complaining()], force=True)
    logging.getLogger("ssm_jax").setLevel(logging.INFO)
    # Orbax logs the traceback of a failed save, which arrives here as an error of one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)


class _Complaining(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        terminal.complain(record.getMessage())


def _environment_fault(error: Exception) -> str | None:
    """Say which setting of JAX in the environment is wrong; None where an error tells of none."""
    flag = re.search(r"for JAX flag jax_(\w+)", str(error))
    name = f"JAX_{flag[1].upper()}" if flag else "JAX_PLATFORMS"
    frames = traceback.extract_tb(error.__traceback__)
    no_device = bool(frames) and pathlib.Path(frames[-1].filename).name == "xla_bridge.py"
    if os.environ.get(name) is None or not (flag or no_device):
        return None
    why = f": {errors.one_line(error)}" if str(error) else ""
    return f"JAX does not start with {name}={os.environ[name]} in the environment{why}"


def _keep_standard_files() -> None:
    """Open closed standard files: the next file would be one, and what is printed would end in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _discard_output() -> None:
    """Forget what could not be printed: Python would try again, and complain, at its end."""
    try:
        place = sys.stdout.fileno()
    except (AttributeError, ValueError, OSError, io.UnsupportedOperation):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), place)


def _report_unraisable(what: sys.UnraisableHookArgs) -> None:
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)
