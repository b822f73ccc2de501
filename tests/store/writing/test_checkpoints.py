from __future__ import annotations

import signal
import threading
import time

import pytest

from reperio.store.writing.checkpoints import BackgroundCall


def test_a_call_is_made_once_and_raises_what_it_raised() -> None:
    """By the thread or by who waits, whichever comes first; `wait` raises its exception, `rest` does not."""
    for begins in (True, False):
        made: list[str] = []
        call = BackgroundCall(lambda made=made: made.append(threading.current_thread().name))
        if begins:
            call.begin("beside")
        call.wait()
        call.wait()
        assert len(made) == 1
    failing = BackgroundCall(lambda: made.remove("nothing"))
    failing.begin("beside")
    with pytest.raises(ValueError, match="not in list"):
        failing.wait()
    failing.rest()


def test_a_call_that_nobody_has_begun_is_not_made_after_rest() -> None:
    """What Ctrl-C left behind does nothing later; what is going on is waited for."""
    made: list[int] = []
    left = BackgroundCall(lambda: made.append(1))
    left.rest()
    left.begin("beside")
    left.wait()
    assert made == []
    begun = threading.Event()
    going = BackgroundCall(lambda: (begun.set(), time.sleep(0.2), made.append(2)))
    going.begin("beside")
    begun.wait()
    going.rest()
    assert made == [2]


def test_a_signal_handler_may_wait_amid_a_wait() -> None:
    """However often signals come, the waits of their handlers and the one that they interrupt end."""
    call = BackgroundCall(lambda: time.sleep(0.3))
    waited: list[int] = []

    def handler(*_: object) -> None:
        waited.append(1)
        call.rest()

    call.begin("beside")
    time.sleep(0.05)
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        call.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert waited
