"""Let as many threads search at a time as there are cores: more of them only fight for Python's lock.

A search gives the lock away several times, to FAISS and to SQLite. With eight threads on two cores it must then be won
back from seven others each time, and the unlucky wait for twenty times as long as a search takes.

To wake another thread takes as long as a quick search. So a thread that asks one question after the other, as a loop
does, keeps its lane for a stint, while one that goes elsewhere with its answer hands it on at once.
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
_STRAIGHT_BACK = 0.0003  # seconds within which a loop is back with its next question; it may wait for Python
_LOOP = 32  # comebacks after which a thread is taken for a loop: no request of a service asks so many questions
_PASSES = 64  # questions of a thread that is no loop until it is looked at again
_STINT = 0.001  # seconds for which a loop keeps a lane, at most, while others wait
_ROUND = 0.008  # seconds within which stints give all who wait a lane; where they are more, there are no stints
_MOST_LOOPS = 1 << 12  # threads of which something is remembered
_LOOK = 0.001  # seconds after which the first of those who wait looks for a lane that its loop has not come back to


class _Loop:
    """Remember how a thread comes back to its lane. Only that thread touches it."""

    __slots__ = ("comebacks", "left", "passes", "since")

    def __init__(self) -> None:
        self.left = 0.0  # when it left its lane; 0 where nobody has looked at the clock
        self.comebacks = 0  # straight ones, nearly in a row
        self.passes = 0  # questions until the next look: a clock for each would cost a service one in thirty
        self.since = 0.0  # when it got the lane for which it had waited

    def note(self) -> None:
        """Count a comeback. One that is late is half forgiven: Python may have run another thread meanwhile."""
        late = time.monotonic() - self.left > _STRAIGHT_BACK
        self.comebacks = self.comebacks // 2 if late else min(self.comebacks + 1, 2 * _LOOP)
        self.left = 0.0
        if late and self.comebacks < _LOOP // 2:
            self.comebacks, self.passes = 0, _PASSES

    def leave(self) -> bool:
        """Note that the thread leaves, and say whether its lane is kept for it."""
        if self.passes:
            self.passes -= 1
            return False
        self.left = time.monotonic()
        return self.comebacks >= _LOOP and self.left - self.since < _STINT


class _Waiting:
    """A thread that waits for a lane."""

    __slots__ = ("given", "own", "signal", "watches")

    def __init__(self, own: int) -> None:
        self.own = own
        self.signal = threading.Lock()
        self.signal.acquire()
        self.given = False  # the lane
        self.watches = False  # whether there is a lane that nobody comes back to

    def wake(self) -> None:
        """Let it look what there is, once; called under the lock of the lanes."""
        if self.signal.locked():
            self.signal.release()


class Lanes:
    """As many lanes as there are cores, given in the order of asking (``with lanes:``). A stint counts as one question.

    A thread that gets none in time goes on without: it is no lock. A thread is in it once at a time.

    Args:
        number: of lanes; None for the cores that this process may use.
    """

    def __init__(self, number: int | None = None) -> None:
        self._number = number or len(os.sched_getaffinity(0))
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Free all lanes."""
        self._lock = threading.Lock()  # held briefly: a thread that waits for it loses Python's lock as well
        self._holders: set[int] = set()
        self._waiting: deque[_Waiting] = deque()
        self._kept: dict[int, float] = {}  # until when a lane is kept for a loop, which is to be back by then
        self._loops: dict[int, _Loop] = {}  # of threads that left while others waited
        self._pause_until = 0.0

    def __enter__(self) -> None:
        own = threading.get_ident()
        loop = self._loops.get(own)
        if loop is not None and loop.left:
            loop.note()
        with self._lock:
            if own in self._holders:  # left over from a search that an interrupt has ended in between
                return
            if (self._kept and self._kept.pop(own, None) is not None) or (not self._waiting and self._free() > 0):
                self._holders.add(own)
                return
            if self._pause_until and time.monotonic() < self._pause_until:
                return
            mine = _Waiting(own)
            mine.watches = bool(self._kept) and not self._waiting
            self._waiting.append(mine)
        try:
            given = self._wait(mine)
        except BaseException:  # an interrupt
            self._forgo(mine)
            self._leave(own)
            raise
        if given:
            if loop is not None:
                loop.since = time.monotonic()
        elif self._forgo(mine):
            self._pause_until = time.monotonic() + _PAUSE

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = threading.get_ident()
        self._leave(own, keeps=bool(self._waiting) and self._keeps(own))

    def _keeps(self, own: int) -> bool:
        """Say whether the lane of a thread that leaves is kept for it, while others wait."""
        if len(self._waiting) * _STINT > _ROUND * self._number:
            return False
        loop = self._loops.get(own)
        if loop is None:
            if len(self._loops) >= _MOST_LOOPS:  # threads that are gone, mostly
                self._loops.clear()
            loop = self._loops[own] = _Loop()
        return loop.leave()

    def _wait(self, mine: _Waiting) -> bool:
        """Wait for a lane, and say whether one was given, or was found free."""
        until = time.monotonic() + _PATIENCE
        while (left := until - time.monotonic()) > 0:
            mine.signal.acquire(timeout=min(_LOOK, left) if mine.watches else left)
            if mine.given or self._look(mine):
                return True
        return False

    def _look(self, mine: _Waiting) -> bool:
        with self._lock:
            self._hand_on()
        return mine.given

    def _forgo(self, mine: _Waiting) -> bool:
        """Wait no longer; False where the lane was given at that very moment."""
        with self._lock:
            if mine not in self._waiting:
                return False
            self._waiting.remove(mine)
            return True

    def _leave(self, own: int, *, keeps: bool = False) -> None:
        with self._lock:
            if own not in self._holders:
                return
            self._holders.remove(own)
            if not self._waiting:
                if self._kept:
                    self._kept.clear()
                return
            if keeps:
                self._kept[own] = time.monotonic() + _STRAIGHT_BACK
            self._hand_on()

    def _free(self) -> int:
        """Return how many lanes are free, those among them that were kept in vain."""
        if self._kept:
            now = time.monotonic()
            for own in [own for own, until in self._kept.items() if until < now]:
                del self._kept[own]
        return self._number - len(self._holders) - len(self._kept)

    def _hand_on(self) -> None:
        """Give the free lanes to those who have waited longest."""
        free = self._free()
        while free > 0 and self._waiting:
            free -= 1
            following = self._waiting.popleft()
            self._holders.add(following.own)
            following.given = True
            following.wake()
        if self._kept and self._waiting and not self._waiting[0].watches:
            # It looks from time to time: nobody else may be there to find a lane that was kept in vain.
            self._waiting[0].watches = True
            self._waiting[0].wake()


LANES = Lanes()
