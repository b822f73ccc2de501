from __future__ import annotations

import signal
import time

import pytest

from recollect.store.checkpoints import Beside


def test_a_call_beside_is_waited_for_and_raises_what_it_raised() -> None:
    """`wait` returns after the call and raises its exception; `rest` only returns."""
    done: list[int] = []
    beside = Beside.begin(lambda: done.append(1), "beside")
    assert beside is not None
    beside.wait()
    assert done == [1]
    failing = Beside.begin(lambda: done.remove(2), "beside")
    assert failing is not None
    failing.rest()
    with pytest.raises(ValueError, match="not in list"):
        failing.wait()


def test_a_signal_handler_may_wait_amid_a_wait() -> None:
    """However often signals come, the waits of their handlers and the one that they interrupt end."""
    beside = Beside.begin(lambda: time.sleep(0.3), "beside")
    assert beside is not None
    waited: list[int] = []

    def handler(*_: object) -> None:
        waited.append(1)
        beside.rest()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        beside.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert waited
