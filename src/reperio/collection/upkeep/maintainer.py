"""Keep an index close behind its collection, in a background thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from reperio import index
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.upkeep.building import Built, cores, refresh_index
from reperio.errors import CollectionClosed, CollectionError, CollectionLocked, ReperioError
from reperio.printable import logger

_log = logger("reperio.collection")
_NOTHING, _EVERYTHING = -(1 << 62), 1 << 62  # rows covered by an unusable index, and by exact search

_REST = 4.0
"""After a background build the thread rests this many times its duration, so that it builds a fifth of the time."""

_QUIET_SECONDS, _PATIENCE_SECONDS = 0.1, 2.0
"""A build waits until a bulk load pauses: until no commit has come for the first of these, at most for the second."""


class Maintainer:
    """Build and extend the index of a writer's collection as it grows.

    Args:
        current: returns the generation in use. It is asked each time, because `compact` replaces the generation.
        maintaining: yields the generation to build for, with what other processes have committed; raises
            `CollectionLocked` where one of them builds.
        publish: puts what was built in use, under the lock that writing takes.
        enabled: False: build nothing unasked.

    Attributes:
        building: the lock under which indexes are built and collections rewritten, one at a time.
    """

    def __init__(
        self,
        current: Callable[[], OpenGeneration],
        maintaining: Callable[[], AbstractContextManager[OpenGeneration]],
        publish: Callable[[OpenGeneration, Built], None],
        *,
        enabled: bool,
    ) -> None:
        self.building = threading.RLock()
        self._current = current
        self._maintaining = maintaining
        self._publish = publish
        self._enabled = enabled
        self._closing = threading.Event()
        self._starting = threading.RLock()  # a signal handler may close the collection during `consider`
        self._thread: threading.Thread | None = None
        self._warned = False  # that no index can be built
        # Rows that need no attention, and in which generation. None: unknown, read the description of the index.
        self._covered: tuple[OpenGeneration, int] | None = None

    def forget(self) -> None:
        """Read the description of the index again: the index was changed."""
        self._covered = None

    def rebuild(self) -> None:
        """Build an index even if few rows are new: the one in use proved unusable."""
        self._covered = self._current(), _NOTHING
        self.consider()

    def consider(self) -> None:
        """Start a build if one is due. Cheap enough to be called after every commit."""
        if self._enabled and self._is_due() and not self._closing.is_set():
            with self._starting:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._work, name="reperio-build", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        """Begin no further build in the background."""
        self._closing.set()

    def close(self, *, finish: bool) -> None:
        """Wait for a build in progress.

        Args:
            finish: do a build that is due as well.
        """
        self.stop()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()
        if finish and self._enabled and self._is_due():
            self._build_quietly(cores())

    def _is_due(self) -> bool:
        generation, covered = self._current(), self._covered
        if covered is None or covered[0] is not generation:
            try:
                found = generation.description()
            except CollectionError as error:  # the commit succeeded; the next call reports what is wrong
                _log.info("%s: the state of its index cannot be read: %s", generation.paths.root, error)
                return False
            rows = 0 if found is None else _EVERYTHING if found.exact else found.rows
            self._covered = covered = generation, rows
        return index.extension_is_due(generation.store.state.rows, covered[1])

    def _is_still_due(self) -> bool:
        """Say whether a build is due after what another process may have built meanwhile."""
        if self._covered is not None and self._covered[1] != _NOTHING:
            self.forget()
        return self._is_due()

    def _work(self) -> None:
        while self._is_due() and not self._closing.is_set():
            self._wait_for_pause()
            took = None if self._closing.is_set() else self._build_quietly(max(1, cores() // 2), unless=self._closing)
            if took is None:
                return
            self._closing.wait(_REST * took)

    def _wait_for_pause(self) -> None:
        deadline, seen = time.monotonic() + _PATIENCE_SECONDS, -1
        while seen != (newest := self._current().store.state.seq) and time.monotonic() < deadline:
            seen = newest
            if self._closing.wait(_QUIET_SECONDS):
                return

    def _build_quietly(self, workers: int, *, unless: threading.Event | None = None) -> float | None:
        """Build an index, and only log a failure: without an index searches are slower, but right.

        Args:
            workers: threads for FAISS.
            unless: build nothing if this was set while the call waited for an `optimize`.

        Returns:
            Seconds that the build took, without the wait; None where nothing was built.
        """
        generation = self._current()
        try:
            with self._maintaining() as generation:
                if (unless is not None and unless.is_set()) or not self._is_still_due():
                    return None
                started = time.monotonic()
                built = refresh_index(generation, workers=workers)
                if built is not None:
                    self._publish(generation, built)
                self._covered = (generation, built.covered) if built is not None and built.covered else None
                return time.monotonic() - started
        except CollectionLocked as error:  # another builds: whether it saw what is new here, the next commit asks
            _log.info("no index is built now: %s", error)
            self.forget()
            return None
        except CollectionClosed as error:
            if not self._warned:
                self._warned = True
                _log.warning("no index is built through this handle: %s", error)
        except ReperioError as error:
            _log.warning("the index could not be built, searches stay exact beyond the one before: %s", error)
        self._covered = generation, generation.store.state.rows  # try again when as many rows have come again
        return None
