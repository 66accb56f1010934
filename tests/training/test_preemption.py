import os
import signal
import threading

import pytest

from ssm_jax.training import preemption


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_and_the_handlers_are_put_back(signum):
    before = signal.getsignal(signal.SIGTERM)
    with preemption.stop_requests() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signum)
        assert asked.wait(5)
        assert asked.signum == signum
        # The next one would end the process.
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_installed():
    seen = []

    def body():
        with preemption.stop_requests() as asked:
            seen.append(asked.is_set())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) is before
