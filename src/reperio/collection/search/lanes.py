"""Let as many threads search at a time as there are cores: more of them only fight for Python's lock.

A search gives the lock away several times, to FAISS and to SQLite. With eight threads on two cores it must then be won
back from seven others each time, and the unlucky wait for twenty times as long as a search takes.

To wake another thread takes as long as a quick search. So a thread that comes straight back with its next question
keeps its lane for some of them, while one that goes elsewhere with its answer hands it on at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from types import TracebackType

from reperio.forks import renew_in_children

_PATIENCE = 0.02  # seconds to wait for a lane, at most: they may be held by what reads a disk
_PAUSE = 0.1  # seconds for which nobody waits after one has waited in vain
_STRAIGHT_BACK = 0.0005  # seconds within which a thread is back that does nothing but search; it may wait for Python
_STINT = 0.001  # seconds for which it keeps a lane, at most, while others wait
_ROUND = 0.008  # seconds within which stints give all who wait a lane; where they are more, there are no stints
_LOOK = 0.002  # seconds after which the first of those who wait looks whether nobody has come back to a lane


class _Waiting:
    """A thread that waits for a lane."""

    __slots__ = ("given", "own", "signal", "watches")

    def __init__(self, own: int) -> None:
        self.own = own
        self.signal = threading.Lock()
        self.signal.acquire()
        self.given = False  # the lane
        self.watches = False  # for a lane that nobody comes back to

    def wake(self) -> None:
        """Let it look what there is, once; called under the lock of the lanes."""
        if self.signal.locked():
            self.signal.release()


class Lanes:
    """As many lanes as there are cores, given in the order of asking; a stint counts as one question (``with lanes:``).

    Whoever gets none in time goes on without: it is no lock. A thread is in it once at a time.

    Args:
        number: of lanes; None for the cores that this process may use.
    """

    def __init__(self, number: int | None = None) -> None:
        self._number = number or len(os.sched_getaffinity(0))
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Free all lanes."""
        self._lock = threading.Lock()
        self._holders: set[int] = set()
        self._waiting: deque[_Waiting] = deque()
        self._left: dict[int, float] = {}  # when threads went, while others waited
        self._back: set[int] = set()  # threads that came straight back
        self._since: dict[int, float] = {}  # when threads got the lane for which they had waited
        self._pause_until = 0.0

    def __enter__(self) -> None:
        own = threading.get_ident()
        with self._lock:
            if own in self._holders:  # left over from a search that an interrupt has ended in between
                return
            back = bool(self._left) and self._is_back(own)  # others waited when this thread left
            if len(self._holders) < self._number and (back or not self._waiting):
                self._holders.add(own)
                return
            if time.monotonic() < self._pause_until:
                return
            mine = _Waiting(own)
            self._waiting.append(mine)
        try:
            given = self._wait(mine)
        except BaseException:  # an interrupt
            self._forgo(mine)
            self._leave(own)
            raise
        if not given and self._forgo(mine):
            self._pause_until = time.monotonic() + _PAUSE

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(threading.get_ident())

    def _is_back(self, own: int) -> bool:
        """Say whether a thread has come straight back, and remember it."""
        left = self._left.pop(own, None)
        if left is not None and time.monotonic() - left < _STRAIGHT_BACK:
            self._back.add(own)
            return True
        self._back.discard(own)
        return False

    def _wait(self, mine: _Waiting) -> bool:
        """Wait for a lane, and say whether one was given, or was found free."""
        until = time.monotonic() + _PATIENCE
        while (left := until - time.monotonic()) > 0:
            woken = mine.signal.acquire(timeout=min(_LOOK, left) if mine.watches else left)
            with self._lock:
                is_next = bool(self._waiting) and self._waiting[0] is mine
                if is_next and not woken and len(self._holders) < self._number:
                    self._give_next()  # a thread for which a lane was kept may have gone for good
                if mine.given:
                    return True
        return False

    def _forgo(self, mine: _Waiting) -> bool:
        """Wait no longer; False where the lane was given at that very moment."""
        with self._lock:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
            return True

    def _leave(self, own: int) -> None:
        with self._lock:
            if own not in self._holders:
                return
            self._holders.remove(own)
            if not self._waiting:
                for each in (self._left, self._back, self._since):
                    each.clear()
                return
            if len(self._waiting) * _STINT <= _ROUND * self._number:
                self._left[own] = now = time.monotonic()
                if own in self._back and now - self._since.get(own, 0.0) < _STINT:
                    self._keep()
                    return
            if len(self._holders) < self._number:
                self._give_next()

    def _keep(self) -> None:
        """Leave a lane free until its thread is back, in a few µs; one of those who wait sees to it that it is."""
        first = self._waiting[0]
        if not first.watches:
            first.watches = True
            first.wake()

    def _give_next(self) -> None:
        following = self._waiting.popleft()
        self._holders.add(following.own)
        self._since[following.own] = time.monotonic()
        following.given = True
        following.wake()


LANES = Lanes()
