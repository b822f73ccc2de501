"""Define what an origin keeps and answers: the newest version of every chunk, and the number of the commit it came in.

A replica that knows the state of commit N asks for what has changed since, and takes it over in one transaction of its
own. So no log of commits grows, and a new replica reads every live chunk once (docs/decisions/0015-an-origin.md).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from reperio.store import Entry, NewChunk
from reperio.vectors import StoredMatrix


class Position(NamedTuple):
    """A state of an origin.

    Attributes:
        origin: its identity, which another database does not have, not even one of the same name.
        number: of the last commit in it; 0 before the first.
        token: of that commit. A server that was set back and went on has other commits with the same numbers.
    """

    origin: str
    number: int
    token: str

    def next(self) -> Position:
        """Return the position after one more commit, whose token is new."""
        return Position(self.origin, self.number + 1, new_token())


class OriginState(NamedTuple):
    """The state that an origin tells of.

    Attributes:
        position: of its newest commit.
        committed: when that was, in seconds since the epoch, by the clock of the server.
        settings: as `Settings.to_json` returns them.
        chunks: that can be found in it.
    """

    position: Position
    committed: float
    settings: Mapping[str, Any]
    chunks: int


class ForgottenRecord(NamedTuple):
    """The names of a record that was deleted."""

    scope: str
    space: str
    key: str


@dataclass(frozen=True, slots=True)
class Change:
    """The content of one commit, made against the state before it.

    Attributes:
        chunks: added, or instead of older versions.
        vectors: one each, as they are stored, shape (n, d); None without chunks.
        replaced: ids of those among them that were there before.
        deleted: ids of chunks that go.
        records: of the ledger, put.
        forgotten: records that go.
        settings: where the commit changes them; it does when it records the first embedder.
    """

    chunks: Sequence[NewChunk] = ()
    vectors: StoredMatrix | None = None
    replaced: Sequence[str] = ()
    deleted: Sequence[str] = ()
    records: Sequence[Entry] = ()
    forgotten: Sequence[ForgottenRecord] = ()
    settings: Mapping[str, Any] | None = field(default=None)


class Block(NamedTuple):
    """Some chunks as an origin has them, the vector of each, and the commit that the last of them came in."""

    chunks: list[NewChunk]
    vectors: StoredMatrix
    number: int


class Pulled(Protocol):
    """All that has changed since a commit, as of one later state. What was deleted is applied before what was put."""

    @property
    def state(self) -> OriginState:
        """The state of the origin to which all of it leads."""
        ...

    @property
    def chunks(self) -> int:
        """How many chunks `blocks` yields."""
        ...

    def deleted(self) -> Iterator[list[str]]:
        """Yield ids of chunks that were deleted; a chunk stored under one since then is among `blocks`."""
        ...

    def forgotten(self) -> Iterator[list[ForgottenRecord]]:
        """Yield names of records that were deleted."""
        ...

    def records(self) -> Iterator[list[Entry]]:
        """Yield records that were put."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield the chunks that were put, by the numbers of their commits."""
        ...

    def token_of(self, number: int) -> str:
        """Return the token of a commit before the state's."""
        ...


class Origin(Protocol):
    """The ordered commits of a collection, on a server. For one thread at a time.

    Each method raises:
        OriginUnavailable: the server cannot be reached, or has not answered in time.
        OriginRefused: it was reached, and may not or cannot be used.
        OriginNotFound: it has no such collection.
    """

    where: str
    """Its address without the password, for messages."""

    def state(self) -> OriginState:
        """Ask for the newest state."""
        ...

    def append(self, change: Change, after: Position, to: Position) -> None:
        """Make a commit, durably, and return when it is made. Doing so twice makes one commit.

        Args:
            change: made against the state *after*.
            after: the position that the origin must be at.
            to: the position that this leads to.

        Raises:
            Outdated: the origin is at another position; nothing was changed.
            InvalidChunk: it cannot keep a chunk; nothing was changed.
        """
        ...

    def changes(self, after: Position) -> AbstractContextManager[Pulled]:
        """Yield what has changed since a position; all of it for one with the number 0.

        Raises:
            OriginDiverged: that position is none that it has ever been at.
        """
        ...

    def wait(self, seconds: float, known: Position | None) -> bool:
        """Return True when the origin is not at a known position, or may have left it; False when the time is over."""
        ...

    def close(self) -> None:
        """End the connection; doing so twice is no error."""
        ...

    def abandon(self) -> None:
        """Forget the connection without a word to the server: it is the parent's, after a fork."""
        ...


def new_token() -> str:
    """Return a token that no other commit has."""
    return str(uuid.uuid4())


def vectors_of(state: OriginState) -> tuple[np.dtype[Any], int]:
    """Return the type and the length of the vectors that an origin keeps."""
    return np.dtype("<f2" if state.settings.get("dtype") == "float16" else "<f4"), int(state.settings["dimension"])
