"""Hold what all calls to shards share: the fleet in use, the deadline, the scope."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from reperio.collection.handle.scope import Scope
from reperio.embedding.contract import Settings
from reperio.errors import CollectionClosed, CollectionReadOnly, InvalidInput, ReperioError, ShardUnavailable
from reperio.forks import ForkSafeLock
from reperio.printable import logger
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.source import ShardsMoved
from reperio.types import Limits

Result = TypeVar("Result")
_log = logger("reperio.sharding")

QUICK = 2
"""Attempts before shards return the chunks with every list, so that nothing can move in between."""

_PATIENCE = 0.05  # seconds until shards that move on are asked again
_AGE = 1.0  # seconds for which the manifest is not looked at again
_CHILD = ForkSafeLock()  # of the threads of a forked child: one of them opens the shards again


class NoOrigin:
    """The origin of shards: they have none, so there is nothing to take over from it."""

    def refresh(self) -> None:
        """Do nothing."""


class ShardsHandle:
    """Hold what all calls of one sharded collection share, as `collection.handle.handle.Handle` does for others.

    Args:
        open_fleet: opens the shards that the manifest names by now; it is given the fleet in use, if there is one, and
            returns None where that is still the right one.
        name: the directory or the address.
        scope: what may be seen through it.
        limits: how much one call may ask for.
        deadline: seconds for one call.
        signature: returns what changes with the manifest, in microseconds; None to look once a second.
        ahead: open another fleet in a thread, and use the one before until it is there.
    """

    telemetry = None
    read_only = True

    def __init__(
        self,
        open_fleet: Callable[[Fleet | None], Fleet | None],
        name: str,
        *,
        scope: Scope,
        limits: Limits,
        deadline: float,
        signature: Callable[[], object] | None,
        ahead: bool,
    ) -> None:
        self._signature = signature
        self._seen = None if signature is None else signature()
        self._open_fleet = open_fleet
        self.name = name
        self.root = Path(name)
        self.scope = scope
        self.limits = limits
        self.deadline = deadline
        self.origin = NoOrigin()
        self.closed = False
        self._ahead = ahead
        self._inherited: list[Fleet] = []
        self._fleet = self._opened()

    def _opened(self) -> Fleet:
        """Open the shards in this process, for the first time."""
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._looked = time.monotonic()
        self._failed = False
        self._failure = ""
        fleet = self._open_fleet(None)
        assert fleet is not None  # there was none to be kept
        self._process = os.getpid()
        return fleet

    def steadily(self, attempt: Callable[[Fleet, float, int], Result]) -> Result:
        """Return what *attempt* returns, and try again where a shard has moved on during it.

        Args:
            attempt: called with the fleet, the deadline as `time.monotonic` has it, and the number of the attempt.

        Raises:
            ShardUnavailable: they moved until the deadline.
        """
        self.require_open()
        until, number = time.monotonic() + self.deadline, 0
        while True:
            fleet = self.fleet()
            try:
                with fleet.used():
                    if not fleet.is_retired:
                        return attempt(fleet, until, number)
                # Another one has taken its place just now, or none, where this was closed meanwhile.
                self.require_open()
                continue
            except ShardsMoved:
                number += 1
            except ShardUnavailable as error:
                if self._failed:  # it is not served any more, for example
                    error.args = (f"{error} [{self._failure}]", *error.args[1:])
                raise
            except CollectionClosed:
                # A shard is gone that was split or merged, and the others are not open yet.
                if self.closed or time.monotonic() + _PATIENCE >= until:
                    raise
                time.sleep(_PATIENCE)
            if number > QUICK:
                if time.monotonic() + _PATIENCE >= until:
                    raise ShardUnavailable(
                        f"the shards of {self.name} are being replaced, and an answer of one state was not to be had "
                        f"within {self.deadline:g} s; try again"
                    )
                time.sleep(_PATIENCE)

    def fleet(self) -> Fleet:
        """Return the fleet in use, and see to it that it is that of the manifest, soon."""
        now = time.monotonic()
        if self._is_due(now) and self._looking.acquire(blocking=False):
            self._looked = now
            if self._ahead:
                self._look_ahead()
            else:
                self._look()
        return self._fleet

    def _is_due(self, now: float) -> bool:
        if self._signature is not None and not self._failed:
            return self._signature() != self._seen
        return now - self._looked > _AGE

    def settings(self) -> Settings:
        """Return the settings of the shards."""
        return self.steadily(lambda fleet, until, _: fleet.space(until).settings)

    def require_open(self) -> None:
        """Raise `CollectionClosed` after `close`; in a forked child, open the shards again."""
        if self.closed:
            raise CollectionClosed(f"{self.name} was closed through this handle; open it again")
        if self._process != os.getpid():
            self._open_in_child()

    def require_writable(self) -> NoReturn:
        """Raise `CollectionReadOnly`."""
        self.require_open()
        raise CollectionReadOnly(f"{self.name} is served for reading; write with reperio.ShardWriter(DIR)")

    def require_no_turn(self) -> None:
        """Do nothing: here are no turns."""

    def close(self) -> None:
        """Release the shards. Doing so twice is no error."""
        if self._process != os.getpid():  # nothing was opened in this child yet
            self.closed = True
            return
        with self._lock:
            closed, self.closed = self.closed, True
        if not closed:
            self._fleet.retire()

    def _open_in_child(self) -> None:
        """Open the shards again, in a child that was forked from the process that had opened them."""
        with _CHILD:
            if self._process == os.getpid():
                return
            for group in self._fleet.router.groups:
                for member in group.members:
                    member.replica.require_inheritable()
            # Threads of the parent may hold its locks, and its files are not this child's to be closed: it is kept.
            self._inherited.append(self._fleet)
            self._fleet = self._opened()

    def _look_ahead(self) -> None:
        try:
            threading.Thread(target=self._look, name="reperio-shards", daemon=True).start()
        except RuntimeError as error:  # there are too many threads, or Python is ending
            self._looking.release()
            _log.warning("%s: the shards of before are used on: %s", self.name, error)

    def _look(self) -> None:
        """Open the fleet that the manifest names now, if it is another one; *_looking* is held."""
        try:
            seen = None if self._signature is None else self._signature()
            found = None if self.closed else self._open_fleet(self._fleet)
            self._seen, self._failed = seen, False
            if found is not None:
                with self._lock:  # `close` does not wait for this, which in a cluster may take a minute
                    old, self._fleet = (found, self._fleet) if self.closed else (self._fleet, found)
                old.retire()
        except Exception as error:  # of Reperio, or whatever a cluster raises
            self._failed, self._failure = True, str(error)
            whole = None if isinstance(error, ReperioError) else error
            _log.warning("%s: the shards of before are used on: %s", self.name, error, exc_info=whole)
        finally:
            self._looking.release()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise InvalidInput(f"{self.name} is sharded, and this works on one collection; do it for each of its shards")
