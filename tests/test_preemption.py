import os
import signal
import threading

from ssm_jax import preemption


def test_sigterm_sets_the_event_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.sigterm() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.wait(5)
        # The next one would end the process.
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_installed():
    seen = []

    def body():
        with preemption.sigterm() as asked:
            seen.append(asked.is_set())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) is before
