"""Take over what others commit at an origin, in the background."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

from reperio.collection.replica.replica import Replica
from reperio.errors import OriginUnavailable, ReperioError
from reperio.origins import Origin
from reperio.printable import logger

_log = logger("reperio.origin")
_STEP = 1.0  # seconds: so soon after its handle the thread ends
_FIRST = 0.5  # seconds before the second attempt at an origin that is away
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
    origin: Origin | None = None
    pause = _FIRST
    while not over.is_set() and handle() is not None:
        try:
            origin = origin or replica.another()
            known = None if replica.latest is None else replica.latest.position
            until = time.monotonic() + every
            while not _is_over(handle, over) and (left := until - time.monotonic()) > 0:
                if origin.wait(min(left, _STEP), known):
                    break
            _pull(handle, over)
            pause = _FIRST
        except ReperioError as error:
            # Once, and not every few seconds for as long as a server is away.
            level = logging.WARNING if pause == _FIRST and not isinstance(error, OriginUnavailable) else logging.INFO
            _log.log(level, "%s: nothing is taken over now: %s", replica.where, error)
            until = time.monotonic() + pause
            pause = min(_LONGEST, pause * 2)
        else:
            continue
        # Outside the handling of the error, whose traceback keeps the handle alive.
        while not _is_over(handle, over) and (left := until - time.monotonic()) > 0:
            over.wait(min(left, _STEP))
    if origin is not None:
        with suppress(Exception):
            origin.close()


def _is_over(handle: weakref.ref[Follows], over: threading.Event) -> bool:
    return over.is_set() or handle() is None


def _pull(handle: weakref.ref[Follows], over: threading.Event) -> None:
    """Have the handle take over what is new, in a frame of its own: a name here would keep it alive."""
    following = handle()
    if following is not None and not over.is_set():
        following.origin.pull()
