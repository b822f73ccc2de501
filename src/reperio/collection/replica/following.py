"""Take over what others commit at an origin, in the background."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

from reperio.collection.replica.replica import Replica
from reperio.errors import OriginUnavailable, ReperioError
from reperio.printable import logger

_log = logger("reperio.origin")
_STEP = 1.0  # seconds
_LONGEST = 60.0  # seconds between two attempts at an origin that is away


class Pulls(Protocol):
    """An origin that can be pulled from."""

    def pull(self) -> None:
        """Take over what others have committed."""
        ...


class Follows(Protocol):
    """A handle, as far as it takes over commits."""

    @property
    def origin(self) -> Pulls:
        """The origin of its collection."""
        ...


class Follower:
    """A thread that waits for news of an origin and has a handle take them over.

    It keeps no handle alive: one that nobody holds any more ends it.

    Args:
        handle: whose collection follows.
        replica: the way to the origin.
        every: seconds after which it asks, whatever the server has told.
    """

    def __init__(self, handle: Follows, replica: Replica, every: float) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=_follow, args=(weakref.ref(handle), replica, every, self._over), name="reperio-follow", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Let the thread end; it may still be waiting for a server."""
        self._over.set()


def _follow(handle: weakref.ref[Follows], replica: Replica, every: float, over: threading.Event) -> None:
    pause = every
    origin = known = None
    while not over.is_set():
        try:
            if origin is None:
                origin = replica.another()
            until = time.monotonic() + every
            while not (over.is_set() or handle() is None):  # in steps: it must end soon after its handle
                left = until - time.monotonic()
                if left <= 0 or origin.wait(min(left, _STEP), known):
                    break
            following = handle()
            if following is None or over.is_set():
                break
            following.origin.pull()
            del following
            known = None if replica.latest is None else replica.latest.position
            pause = every
        except ReperioError as error:
            if over.is_set():
                break
            # Once, and not every few seconds for as long as a server is away.
            level = "warning" if pause == every and not isinstance(error, OriginUnavailable) else "info"
            getattr(_log, level)("%s: nothing is taken over now: %s", replica.where, error)
            pause = min(_LONGEST, pause * 2)
            if handle() is None or over.wait(pause):
                break
    if origin is not None:
        with suppress(Exception):
            origin.close()
