"""Being told to stop: SIGTERM, as clusters and preemptible machines send it, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from ssm_jax import errors

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest(threading.Event):
    """Set when the process is asked to stop.

    Attributes:
      signum: The signal that asked; SIGTERM where another host was asked.
      failure: Why the run can't go on, where it was not a signal.
    """

    signum: signal.Signals = signal.SIGTERM
    failure: errors.RunError | None = None

    def fail(self, failure: errors.RunError) -> None:
        """Ask the run to save and stop, because something failed that leaves its state sound."""
        self.failure = failure
        self.set()

    def error(self, who: str, where: str) -> Exception:
        """Make the error with which a run that has saved its state ends."""
        if self.failure is not None:
            return type(self.failure)(f"{self.failure}; {who} stopped {where}, which is saved")
        return errors.Preempted(f"{who} stopped by {self.signum.name} {where}, which is saved", self.signum)


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
        for number in SIGNALS:
            signal.signal(number, before[number] if number == signal.SIGINT else signal.SIG_DFL)

    for signum in SIGNALS:
        signal.signal(signum, ask)
    try:
        yield asked
    finally:
        for signum in SIGNALS:
            signal.signal(signum, before[signum])
