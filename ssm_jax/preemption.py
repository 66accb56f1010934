"""Being told to stop: SIGTERM, as clusters and preemptible machines send it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def sigterm() -> Iterator[threading.Event]:
    """While the context lasts, SIGTERM sets the event instead of ending the process.

    Outside the main thread, where Python allows no handlers, the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def any_host(*flags: bool) -> tuple[bool, ...]:
    """Whether any host raises a flag, so that all of them act at the same step.

    Args:
      flags: of this host; every host calls with as many.
    """
    import jax

    if jax.process_count() == 1:
        return flags
    from jax.experimental import multihost_utils

    return tuple(bool(flag) for flag in multihost_utils.process_allgather(np.array(flags)).any(0))
