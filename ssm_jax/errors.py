"""The errors a user meets, and the exit status that `train.py` gives each of them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Entry = TypeVar("Entry")


class InputError(ValueError):
    """What the user gave cannot be run; nothing was started. One line; exit status 2."""

    exit_status = 2


class RunError(RuntimeError):
    """A run that had started could not go on. One line; exit status 1."""

    exit_status = 1


class Preempted(RuntimeError):
    """The run was asked to stop and has saved its state.

    Args:
      message: One line of text.
      signum: The signal; the exit status is 128 more, 143 for SIGTERM and 130 for SIGINT.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


def unknown(what: str, given: object, allowed: Iterable[str]) -> InputError:
    """Make the error for a name that is not among the allowed ones.

    Its one line holds what was given, the nearest name and what is allowed, if that is not a long list.

    Examples:
      >>> print(unknown("network", "conv9", ["fcn", "conv8"]))
      unknown network 'conv9'; did you mean 'conv8'? (allowed: fcn, conv8)
    """
    allowed = [str(name) for name in allowed]
    nearest = _nearest(str(given), allowed)
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    # A list that nobody reads would only hide the hint.
    within = [name for name in allowed if name.startswith(f"{given}.")] or allowed
    listed = "" if nearest and len(allowed) > 12 else f" (allowed: {', '.join(within)})"
    return InputError(f"unknown {what} {given!r}{hint}{listed}")


def _nearest(given: str, allowed: Sequence[str]) -> str | None:
    """Find the name that was meant: by its last part, since many names begin alike."""

    def last(name: str) -> str:
        return name if "/" in name else name.rpartition(".")[2]

    def initials(name: str) -> str:
        return "".join(word[:1] for word in last(name).split("_"))

    short = [name for name in allowed if len(last(given)) > 1 and initials(name) == last(given)]
    alike = set(difflib.get_close_matches(last(given), map(last, allowed), n=9, cutoff=0.5))
    among = short or [name for name in allowed if last(name) in alike]
    return next(iter(difflib.get_close_matches(given, among, n=1, cutoff=0)), None)


def choose(what: str, given: str, table: Mapping[str, Entry]) -> Entry:
    """Look up a name in a family's table.

    Raises:
      InputError: The name is unknown; names the nearest.

    Examples:
      >>> choose("rule", "signed", {"signed": 1, "binary": 2})
      1
    """
    if given not in table:
        raise unknown(what, given, table)
    return table[given]


def out_of_range(name: str, given: object, allowed: str) -> InputError:
    """Make the error for a value outside its range.

    Examples:
      >>> print(out_of_range("config.mask.threshold", 2.0, "0 to 1"))
      config.mask.threshold is 2.0; allowed is 0 to 1
    """
    return InputError(f"{name} is {reprlib.repr(given)}; allowed is {allowed}")


def wrong_value(name: str, found: object, allowed: str) -> InputError:
    """Make the error for a value in a file that is not what it must be.

    Examples:
      >>> print(wrong_value("seeds[0]", "one", "a whole number"))
      seeds[0] is 'one'; it must be a whole number
    """
    return InputError(f"{name} is {reprlib.repr(found)}; it must be {allowed}")


def one_line(error: BaseException, limit: int = 200) -> str:
    r"""Make one line of bearable length of any exception.

    Returns:
      Its message, or the name of its type where it has none.

    Examples:
      >>> one_line(ValueError("first\n  second"))
      'first second'
      >>> one_line(KeyboardInterrupt())
      'KeyboardInterrupt'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
