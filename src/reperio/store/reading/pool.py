"""Connections for reading, and the quick way to read a few chunks of a commit that is known."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from reperio.errors import CollectionClosed
from reperio.store.checksums import Verified
from reperio.store.committed import UNREADABLE
from reperio.store.reading.recent import Payload, RecentChunks, Watched
from reperio.store.schema import Frozen, connect, open_log, require_tables, translate
from reperio.store.words import postings
from reperio.store.words.counts import Counts
from reperio.vectors import StoredMatrix

_FORK_SECONDS = 0.2  # that a fork waits for reading in other threads
_FETCH_AT: dict[int, str] = {}  # statement by number of rows; there are at most MAX_PARAMETERS


class SessionPool:
    """Connections for reading, one per concurrent session, kept open between sessions.

    They are handed out as their cursor: making a new one is a fifth of what a search asks of SQLite when its chunks are
    in memory.

    Args:
        database: chunks.db.
        idle: how many are kept open.
        watch: called with how many chunks a search has found in memory, and how many it has not.
        require: raises where another database is at that path by now.
    """

    def __init__(
        self,
        database: Path,
        idle: int = 64,
        watch: Callable[[int, int], None] | None = None,
        *,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self.database = database
        self._require = require
        self._most = idle
        self.recent = RecentChunks() if watch is None else Watched(watch)
        self.verified = Verified(database.parent)
        self.counted = Counts()
        self._idle: list[apsw.Cursor] = []
        self._open: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._opening: set[int] = set()  # threads that open a connection
        self._closed = False  # or suspended
        self._resumed: threading.Event | None = None

    def fetch_at(
        self, seq: int, rows: Sequence[int], matrix: StoredMatrix, *, newest: bool
    ) -> Sequence[Payload] | None:
        """Return (id, text, metadata JSON, …) of *rows*, in their order, of one commit; None when that is not *seq*.

        Some are in memory. The others, or, when there are none, the commit number alone, are read with one statement,
        which is its own transaction. A session around it would cost two more, and a third to read the state.

        Args:
            seq: a commit in which all of *rows* are live.
            rows: distinct, at most `MAX_PARAMETERS`.
            matrix: the vectors of that commit, by which the rows were found.
            newest: *seq* is known to be the newest commit: where nothing is missing, nothing is read.
        """
        found = self.recent.get(rows)
        absent = found.count(None)
        if not absent:
            return found if newest or self._read("SELECT seq FROM state") == [(seq,)] else None  # type: ignore[return-value]  # none is None
        missing = rows if absent == len(rows) else [row for row, one in zip(rows, found, strict=True) if one is None]
        records = self._read(_fetch_at(absent), missing)
        if len(records) < absent or records[0][3] != seq:
            return None
        self.keep(missing, records, matrix)
        if absent == len(rows):
            return records
        rest = iter(records)
        return [payload or next(rest) for payload in found]

    def keep(self, rows: Sequence[int], records: Sequence[tuple[Any, ...]], matrix: StoredMatrix) -> None:
        """Offer what was read, (id, text, metadata, …, crc), to the chunks in memory, once it has proved whole.

        Raises:
            CollectionDamaged: a chunk is not what was stored.
        """
        self.verified.require(rows, records, matrix)
        try:
            self.recent.offer(rows, records)
        except TypeError as error:  # a field has become NULL since its row was compared
            raise translate(apsw.CorruptError(str(error)), self.database) from error

    def _read(self, sql: str, values: Sequence[int] = ()) -> list[Any]:
        cursor = self.take()
        try:
            records: list[Any] = cursor.execute(sql, values).fetchall()
        except UNREADABLE as error:
            self.discard(cursor)
            raise translate(error, self.database) from error
        self.give_back(cursor)
        return records

    def take(self) -> apsw.Cursor:
        """Take the cursor of an idle connection, or open one."""
        if self._closed:
            self._require_going()
        while True:
            try:
                cursor = self._idle.pop()
            except IndexError:
                return self._connected().cursor()
            connection = cursor.connection
            if not isinstance(connection, Frozen) or connection.is_valid():
                return cursor
            connection.close()

    def suspend(self) -> bool:
        """Close the idle connections, open no other until `resume`, and say whether that were all: before a fork."""
        if self._closed:
            return True
        self._resumed, self._closed = threading.Event(), True
        until = time.monotonic() + _FORK_SECONDS
        while True:
            while self._idle:
                self._idle.pop().connection.close()
            if not self._opening and not any(map(_is_open, list(self._open))):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(_FORK_SECONDS / 100)

    def resume(self) -> None:
        """Go on after `suspend`."""
        if self._resumed is not None:
            resumed, self._resumed, self._closed = self._resumed, None, False
            resumed.set()

    def _require_going(self) -> None:
        """Wait while suspended; raise when closed."""
        while self._closed:
            resumed = self._resumed
            if resumed is None:
                raise CollectionClosed(
                    f"{self.database.parent} is closed, or was compacted away; open the collection again"
                )
            resumed.wait()

    def _connected(self) -> apsw.Connection:
        own = threading.get_ident()
        while True:
            self._opening.add(own)  # before it is looked whether a fork is about to come
            try:
                if not self._closed:
                    return self._connect()
            finally:
                self._opening.discard(own)
            self._require_going()

    def _connect(self) -> apsw.Connection:
        connection = connect(self.database, read_only=True)
        self._open.add(connection)
        try:
            postings.prepare(connection)
            open_log(connection)
            self._require()
            require_tables(connection)
        except UNREADABLE as error:
            connection.close(True)
            raise translate(error, self.database) from error
        except BaseException:
            connection.close(True)
            raise
        return connection

    def give_back(self, cursor: apsw.Cursor) -> None:
        """Keep a connection for the next session, unless the pool was closed meanwhile."""
        if self._closed or len(self._idle) >= self._most:
            cursor.connection.close()
        else:
            self._idle.append(cursor)

    def discard(self, cursor: apsw.Cursor) -> None:
        """Close the connection, which met an error."""
        cursor.connection.close(True)

    def close(self) -> None:
        """Close the idle connections, and forget the chunks; connections in use are closed when they come back."""
        resumed, self._resumed, self._closed = self._resumed, None, True
        if resumed is not None:
            resumed.set()
        self.recent.drop()
        while self._idle:
            self._idle.pop().connection.close()


def _is_open(connection: apsw.Connection) -> bool:
    try:
        _ = connection.in_transaction
    except apsw.ConnectionClosedError:
        return False
    except apsw.ThreadingViolationError:  # another thread is in the middle of a call
        return True
    return True


def _fetch_at(count: int) -> str:
    """Return the statement for *count* rows.

    A join with VALUES keeps the order and is quicker than IN, for which SQLite sorts the rows into a temporary tree.
    """
    sql = _FETCH_AT.get(count)
    if sql is None:
        sql = _FETCH_AT[count] = (
            f"WITH wanted(row) AS (VALUES {','.join(['(?)'] * count)}) "
            "SELECT id, text, CAST(metadata AS BLOB), (SELECT seq FROM state), crc "
            "FROM wanted CROSS JOIN chunks USING (row)"
        )
    return sql
