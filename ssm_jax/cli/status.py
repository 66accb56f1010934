"""How a program ends: its exit status and its last line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from ssm_jax import errors


def run(
    program: Callable[[], None],
    interrupted: str = "interrupted; the last checkpoint, if there is one, is kept",
) -> int:
    """Run a program; every error that a user can mend is one line.

    Args:
      program: The program, without arguments.
      interrupted: What is said after Ctrl-C.

    Returns:
      The exit status: 0 done, 1 failed, 2 cannot be run, 143 or 130 stopped with the state saved.
    """
    # When one array of a damaged checkpoint can't be read, the reads of the others are left behind: they
    # fail as well, or find their event loop closed. The error of the first says it all.
    sys.unraisablehook = _report_unraisable
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        program()
        sys.stdout.flush()
    except errors.Preempted as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_status
    except (errors.InputError, errors.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read the output has left, as `head` does; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        sys.stdout.flush()
        print(interrupted, file=sys.stderr, flush=True)
        os._exit(130)  # The threads of a save that was interrupted may never end.
    return 0


def set_up_logging() -> None:
    """Let the library say what it is at, and other libraries not repeat what arrives as an error."""
    # What takes long before training starts, such as waiting for hosts or decoding a dataset, says so.
    logging.basicConfig(format="%(message)s", force=True)
    logging.getLogger("ssm_jax").setLevel(logging.INFO)
    # Orbax logs the traceback of a failed save, which arrives here as an error of one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def _report_unraisable(what: sys.UnraisableHookArgs) -> None:
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)
