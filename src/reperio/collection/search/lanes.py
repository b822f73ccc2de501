"""Let as many threads search at a time as there are cores: more of them only fight for Python's lock.

A search gives the lock away several times, to FAISS and to SQLite. With eight threads on two cores it must then be won
back from seven others each time, and the unlucky wait for twenty times as long as a search takes.
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


class Lanes:
    """As many lanes as there are cores, given in the order of asking (``with lanes:``).

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
        self._waiting: deque[tuple[threading.Lock, int]] = deque()
        self._pause_until = 0.0

    def __enter__(self) -> None:
        own = threading.get_ident()
        with self._lock:
            if own in self._holders:  # left over from a search that an interrupt has ended in between
                return
            if len(self._holders) < self._number and not self._waiting:
                self._holders.add(own)
                return
            if time.monotonic() < self._pause_until:
                return
            turn = threading.Lock()
            turn.acquire()
            mine = turn, own
            self._waiting.append(mine)
        try:
            given = turn.acquire(timeout=_PATIENCE)
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

    def _forgo(self, mine: tuple[threading.Lock, int]) -> bool:
        """Wait no longer; False where the lane was given at that very moment."""
        with self._lock:
            try:
                self._waiting.remove(mine)
            except ValueError:
                return False
            return True

    def _leave(self, own: int) -> None:
        with self._lock:
            if own not in self._holders:
                return
            self._holders.remove(own)
            if self._waiting and len(self._holders) < self._number:
                turn, other = self._waiting.popleft()
                self._holders.add(other)
                turn.release()


LANES = Lanes()
