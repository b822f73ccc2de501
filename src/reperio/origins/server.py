"""Connect to a server again where a connection has ended, and make each commit once."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import suppress

from reperio.errors import CollectionExists, OriginDiverged, OriginNotFound, OriginUnavailable
from reperio.origins.address import Address, parse, resolved
from reperio.origins.protocol import Change, OriginState, Position
from reperio.store import Outdated

_PER_SECOND = 1000  # chunks that a slow server takes at least
_ATTEMPTS = 3  # to make one commit, over connections that are cut
_ABANDONED: list[object] = []  # connections of a parent process


class ServerOrigin(ABC):
    """An origin on a server: see `Origin`. All kinds of servers have this in common.

    Args:
        address: of the server, with ``?collection=name``.
        timeout: seconds for a connection, and for each answer.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._parsed = parse(resolved(address))
        self.where = self._parsed.where
        self._process = os.getpid()
        self._was_silent = False  # the last question was given up

    def state(self) -> OriginState:
        """Ask for the newest state."""
        kept, self._was_silent = self._connection_held() is not None, False
        try:
            return self._ask()
        except OriginUnavailable:
            if not kept or self._was_silent:
                raise
        return self._ask()  # over a new connection: the server, or what lies between, has ended the one that was kept

    def append(self, change: Change, after: Position, to: Position) -> None:
        """Make a commit: see `Origin.append`."""
        until = time.monotonic() + self._timeout + len(change.chunks) / _PER_SECOND
        for attempt in range(_ATTEMPTS):
            try:
                self._append(change, after, to, until - time.monotonic())
                return
            except OriginUnavailable:
                # Whether it was made is told by its token.
                if attempt + 1 == _ATTEMPTS or time.monotonic() > until:
                    raise

    def close(self) -> None:
        """End the connection. In a forked child it is the parent's: the server would be told that it has ended."""
        if os.getpid() == self._process:
            self._disconnect()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Leave the connection to the parent, and never end it here."""
        if (held := self._connection_held()) is not None:
            _ABANDONED.append(held)
            self._forget_connection()

    def __del__(self) -> None:
        """End the connection of a handle that nobody has closed."""
        with suppress(Exception):
            self.close()

    @abstractmethod
    def _ask(self) -> OriginState:
        """Ask for the newest state, over the connection that is kept or a new one."""

    @abstractmethod
    def _append(self, change: Change, after: Position, to: Position, seconds: float) -> None:
        """Try once to make a commit."""

    @abstractmethod
    def _connection_held(self) -> object | None:
        """Return the connection that is kept."""

    @abstractmethod
    def _forget_connection(self) -> None:
        """Keep no connection, without a word to the server."""

    @abstractmethod
    def _disconnect(self) -> None:
        """End the connection that is kept."""

    def _require_at(self, after: Position, theirs: Position) -> None:
        """Refuse a commit that was made against another state than the newest."""
        if theirs.origin != after.origin or theirs.number < after.number:
            raise self._diverged(after, theirs)
        if theirs != after:
            raise Outdated(f"{self.where}: commit {theirs.number} has come after {after.number}; try again")

    def _silent(self) -> OriginUnavailable:
        self._was_silent = True
        return OriginUnavailable(
            f"{self.where} has not answered within {self._timeout:g} s; searches go on, try again later"
        )

    def _not_found(self) -> OriginNotFound:
        return OriginNotFound(f"{self.where}: there is no origin of that name; make one: reperio origin create URL KB")

    def _exists(self) -> CollectionExists:
        return CollectionExists(f"{self.where} is there already; clone it with reperio pull, or take another name")

    def _diverged(self, ours: Position, theirs: Position) -> OriginDiverged:
        return diverged(self.where, ours, theirs)


def diverged(where: str, ours: Position, theirs: Position) -> OriginDiverged:
    """Build the error for a directory whose position the origin has never been at."""
    if ours.origin != theirs.origin:
        return OriginDiverged(
            f"{where} is another origin than the one this directory was made from (it was created again, or its name "
            "was used for something else); clone it into another directory, or give this one up: reperio pull KB "
            "--origin URL --reset"
        )
    return OriginDiverged(
        f"{where} is at commit {theirs.number}, and lacks commit {ours.number} of this directory as it was made: the "
        "server was set back to an older state. Bring its newer state back, or give up what only this directory has: "
        "reperio pull KB --origin URL --reset"
    )
