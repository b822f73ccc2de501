"""Tell the handles of this process when it forks, and when Python ends."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Protocol

_LAST_SECONDS = 10.0  # that the end of Python waits for builds under way


class Told(Protocol):
    """A handle, as far as it is told of what its process does."""

    def before_fork(self) -> None:
        """Close what a child must not inherit."""
        ...

    def after_fork(self) -> None:
        """Go on in the parent."""
        ...

    def rest(self, until: float) -> None:
        """Wait for a build under way, and begin no other."""
        ...


HANDLES: weakref.WeakSet[Told] = weakref.WeakSet()
"""The handles of this process. Each adds itself."""


def _handles() -> list[Told]:
    while True:
        try:
            return list(HANDLES)
        except RuntimeError:  # a daemon thread opens or drops one meanwhile
            continue


def _before_fork() -> None:
    for handle in _handles():
        handle.before_fork()


def _after_fork() -> None:
    for handle in _handles():
        handle.after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)


@atexit.register
def _rest_all() -> None:
    """Let no daemon thread, the builder or a user's, build an index when Python ends without `close`.

    FAISS writes files through a callback into Python: in a thread that is stopped during it, that aborts the process (1
    of 120 ends during builds). Nothing is lost by it, but it leaves a core dump. SQLite, in C, is stopped unharmed.
    """
    until = time.monotonic() + _LAST_SECONDS
    for handle in _handles():
        handle.rest(until)
