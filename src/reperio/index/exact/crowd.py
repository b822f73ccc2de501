"""Know whether several threads compare vectors at a time: then each does so on one core."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from typing_extensions import Self

from reperio.forks import renew_in_children

_MEMORY = 0.1  # seconds for which threads that have met are expected to meet again


class Crowd:
    """Count the threads inside a block (``with crowd:``). A forked child begins with none."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget all threads."""
        self._lock = threading.Lock()
        self._inside = 0
        self._until = 0.0

    def __enter__(self) -> Self:
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                self._until = time.monotonic() + _MEMORY
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside = max(0, self._inside - 1)  # of a child that was forked inside, there is nobody

    def is_there(self) -> bool:
        """Say whether another thread is inside as well, or was a moment ago."""
        return self._inside > 1 or time.monotonic() < self._until
