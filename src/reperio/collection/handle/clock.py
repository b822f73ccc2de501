"""Tell a time that never runs backwards, whatever the system's clock does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class Clock:
    """Tells the times of puts, and times between puts.

    Each put is later than every put before it and than every time told before it began; each time told is later than
    every put that was durable by then. So a time taken between two puts parts them, also when both fall into one tick
    of the system's clock, and when that is set back: then this one goes on in steps of 0.24 µs until it is overtaken.

    What a handle has told is known to that handle; what was put, to every process.

    Args:
        system: the system's clock, in seconds since the epoch.
    """

    def __init__(self, system: Callable[[], float] = time.time) -> None:
        self._system = system
        self._told = -math.inf
        self._lock = threading.Lock()

    def now(self, last_put: float) -> float:
        """Return the time, beyond that of the last put."""
        with self._lock:
            self._told = max(self._system(), _next(last_put), self._told)
            return self._told

    def tick(self, last_put: float) -> float:
        """Return the time of a new put, beyond the last one and beyond all that was told."""
        with self._lock:
            return max(self._system(), _next(last_put), _next(self._told))


def _next(moment: float) -> float:
    return math.nextafter(moment, math.inf)
