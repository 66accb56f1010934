"""How far a verb is that takes long, on standard error."""

from __future__ import annotations

import time

from ssm_jax import terminal

_SECONDS = 3


class Counter:
    """A line every few seconds, and none of what is quick.

    Args:
      total: What it counts to.
      what: What it counts, in the plural.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._count, self._next = 0, time.monotonic() + _SECONDS

    def add(self, count: int) -> None:
        """Count on, and say how far it is if it is time to.

        Args:
          count: How many more are done.
        """
        self._count += count
        if time.monotonic() >= self._next and self._count < self._total:
            terminal.complain(f"{self._count:,} of {self._total:,} {self._what}")
            self._next = time.monotonic() + _SECONDS
