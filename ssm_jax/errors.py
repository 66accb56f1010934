"""The errors a user meets, and the exit status that `train.py` gives each of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be run; nothing was started. One line; exit status 2."""

    exit_status = 2


class RunError(RuntimeError):
    """A run that had started could not go on. One line; exit status 1."""

    exit_status = 1


class Preempted(RuntimeError):
    """The run was asked to stop and has saved its state.

    Args:
      message: one line.
      signum: the signal; the exit status is 128 more, 143 for SIGTERM and 130 for SIGINT.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


def unknown(what: str, given: object, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not among the allowed ones.

    Args:
      what: the kind of thing that was named, for example `network`.
      given: what the user wrote.
      allowed: every valid name.

    Returns:
      An `InputError` whose one line holds what was given, the nearest name and what is allowed (unless
      that is a long list and there is a nearest name).

    Examples:
      >>> print(unknown("network", "conv9", ["fcn", "conv8"]))
      unknown network 'conv9'; did you mean 'conv8'? (allowed: fcn, conv8)
    """
    allowed = [str(name) for name in allowed]
    nearest = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    # A list that nobody reads would only hide the hint.
    listed = "" if nearest and len(allowed) > 12 else f" (allowed: {', '.join(allowed)})"
    return InputError(f"unknown {what} {given!r}{hint}{listed}")
