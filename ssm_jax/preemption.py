"""Being told to stop: SIGTERM, as clusters and preemptible machines send it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def sigterm() -> Iterator[threading.Event]:
    """While the context lasts, the first SIGTERM sets the event instead of ending the process.

    A second one ends it, in case the first is never looked at: a host may wait for one that is lost.
    Outside the main thread, where Python allows no handlers, the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
