"""Being told to stop: SIGTERM, as clusters and preemptible machines send it, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest(threading.Event):
    """Set when the process is asked to stop.

    Attributes:
      signum: The signal that asked; SIGTERM where another host was asked.
    """

    signum: signal.Signals = signal.SIGTERM


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Let the first SIGTERM or SIGINT within the context set the event instead of ending the process.

    A second one ends it, in case the first is never looked at: a host may wait for one that is lost.
    Outside the main thread, where Python allows no handlers, the event is never set.
    """
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def ask(signum: int, _: object) -> None:
        asked.signum = signal.Signals(signum)
        asked.set()
        for other in SIGNALS:
            signal.signal(other, before[other] if other == signal.SIGINT else signal.SIG_DFL)

    for signum in SIGNALS:
        signal.signal(signum, ask)
    try:
        yield asked
    finally:
        for signum in SIGNALS:
            signal.signal(signum, before[signum])
