"""Reading: a session is one connection inside one read transaction, so everything it tells is of one commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import apsw
import numpy as np
import numpy.typing as npt
import orjson
from typing_extensions import Self

from recollect.errors import CollectionClosed
from recollect.filters.matching import MISSING
from recollect.filters.matching import lookup as lookup_path
from recollect.layout import sync_file
from recollect.store import ledger, lexical
from recollect.store.recent import Payload, RecentChunks
from recollect.store.schema import Frozen, connect, translate
from recollect.types import Chunk

MAX_PARAMETERS = 1000
"""Values bound to one statement; SQLite's own limit is 32,766, beyond a thousand nothing is gained."""

UNREADABLE = (apsw.Error, UnicodeDecodeError, orjson.JSONDecodeError)
"""What reading a damaged database raises: text that is no UTF-8, metadata that is no JSON."""

_FEW_IDS = 20
_LOOKUP_MANY = (
    "WITH wanted(id) AS MATERIALIZED (SELECT value FROM json_each(?)) "
    "SELECT row, id, text, metadata, crc FROM wanted CROSS JOIN chunks USING (id)"
)
_ROWS_OF = "SELECT row FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
_FETCH_AT: dict[int, str] = {}  # statement by number of rows; there are at most MAX_PARAMETERS


class State(NamedTuple):
    """The committed state: what `SCHEMA` says of the table of that name."""

    seq: int
    rows: int
    live: int
    snapshot: str | None


class StoredChunk(NamedTuple):
    """A chunk as it lies in the database: metadata still JSON text."""

    row: int
    id: str
    text: str
    metadata: str
    crc: int

    def to_chunk(self) -> Chunk:
        """Parse the metadata."""
        return Chunk(self.id, self.text, orjson.loads(self.metadata))


class SnapshotRecord(NamedTuple):
    """Which index file to trust; *record* is the index room's own JSON."""

    name: str
    rows: int
    record: str


def placeholders(count: int) -> str:
    """Return ``?,?,…``."""
    return ",".join("?" * count)


def read_state(reading: apsw.Connection | apsw.Cursor) -> State:
    """Read the committed state."""
    found: list[Any] = reading.execute("SELECT seq, rows, live, snapshot FROM state").fetchall()
    seq, rows, live, snapshot = found[0] if found else [None] * 4
    if not (isinstance(seq, int) and isinstance(rows, int) and isinstance(live, int) and 0 <= live <= rows):
        raise apsw.CorruptError(f"its state is {seq!r}, {rows!r}, {live!r}")
    return State(seq, rows, live, snapshot)


class Session:
    """A consistent view of the store, from `begin` to the end of a ``with`` block. Not for two threads at once."""

    __slots__ = ("_begun", "_cursor", "_pool", "state")

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._cursor = pool.take()
        self._begun = False
        self.state: State

    def begin(self) -> Self:
        """Begin the read transaction. `__enter__` does so too, unless it is done."""
        try:
            self._cursor.execute("BEGIN")
            self.state = read_state(self._cursor)
        except UNREADABLE as error:
            self._pool.discard(self._cursor)
            raise translate(error, self._pool.database) from error
        self._begun = True
        return self

    def __enter__(self) -> Self:
        return self if self._begun else self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._cursor.execute("ROLLBACK")
        except apsw.Error:
            self._pool.discard(self._cursor)
        else:
            self._pool.give_back(self._cursor)
        if isinstance(error, UNREADABLE):
            raise translate(error, self._pool.database) from error

    def fetch(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return the chunks of *rows*, which are live in this commit; a row that holds none is left out."""
        found = dict(zip(rows, self._pool.recent.get(rows), strict=True))
        for part in _parts([row for row, payload in found.items() if payload is None]):
            sql = f"SELECT id, text, CAST(metadata AS BLOB), row FROM chunks WHERE row IN ({placeholders(len(part))})"
            records: list[Any] = self._cursor.execute(sql, part).fetchall()
            kept = [record[3] for record in records]
            self._pool.recent.offer(kept, records)
            found |= zip(kept, records, strict=True)
        return {
            row: Chunk(payload[0], payload[1], orjson.loads(payload[2])) for row, payload in found.items() if payload
        }

    def get(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Return the stored chunks with these ids; an id that is absent is left out."""
        return lookup(self._cursor, ids)

    def read(self, rows: Sequence[int]) -> list[Chunk]:
        """Return the chunks of *rows* in row order, and keep none in memory; a row that holds none is left out."""
        found: list[Chunk] = []
        for part in _parts(rows):
            sql = f"SELECT id, text, metadata FROM chunks WHERE row IN ({placeholders(len(part))}) ORDER BY row"
            records: list[Any] = self._cursor.execute(sql, part).fetchall()
            found += [Chunk(chunk_id, text, orjson.loads(metadata)) for chunk_id, text, metadata in records]
        return found

    def ids_of(self, rows: Sequence[int]) -> list[str]:
        """Return the ids of the chunks of *rows*, in row order; a row that holds none is left out."""
        found: list[str] = []
        for part in _parts(rows):
            sql = f"SELECT id FROM chunks WHERE row IN ({placeholders(len(part))}) ORDER BY row"
            found += [chunk_id for (chunk_id,) in self._cursor.execute(sql, part)]
        return found

    def rows_of(self, ids: Sequence[str]) -> list[int]:
        """Return the rows of the chunks with these ids; an id that is absent is left out."""
        return [
            row for part in _parts(ids) for (row,) in self._cursor.execute(_ROWS_OF, (orjson.dumps(part).decode(),))
        ]

    def scan(self, after: int = -1, limit: int = 1000) -> list[StoredChunk]:
        """Return up to *limit* chunks with a row beyond *after*, in row order."""
        sql = "SELECT row, id, text, metadata, crc FROM chunks WHERE row > ? ORDER BY row LIMIT ?"
        found: list[StoredChunk] = []
        for record in self._cursor.execute(sql, (after, limit)):
            chunk = StoredChunk._make(record)
            if chunk.row <= after:  # a damaged tree may lead in a circle
                raise apsw.CorruptError(f"row {chunk.row} comes after row {after}")
            after = chunk.row
            found.append(chunk)
        return found

    def scan_all(self) -> Iterator[list[StoredChunk]]:
        """Yield every chunk, in blocks, in row order."""
        after = -1
        while block := self.scan(after):
            yield block
            after = block[-1].row

    def tombstones(self, after: int = 0) -> list[tuple[int, int]]:
        """Return (number, row) of the tombstones with a number beyond *after*, in order."""
        sql = "SELECT number, row FROM tombstones WHERE number > ? ORDER BY number"
        return self._cursor.execute(sql, (after,)).fetchall()  # type: ignore[return-value]  # INTEGER columns

    def snapshot(self) -> SnapshotRecord | None:
        """Return the record of the index in use, if there is one."""
        # As bytes: a damaged record makes the index unusable, which is for the index room to say, and not the store.
        sql = "SELECT rows, CAST(record AS BLOB) FROM snapshots WHERE name = ?"
        found = self._cursor.execute(sql, (self.state.snapshot,)).fetchone()
        if found is None or self.state.snapshot is None:
            return None
        rows, record = found
        return SnapshotRecord(self.state.snapshot, rows, bytes(record or b"").decode(errors="replace"))

    def problems(self) -> list[str]:
        """Check the database's own structure and counts; one line per problem."""
        lexical.refresh(self._cursor)
        found = [
            f"chunks.db: {line}; restore from a backup"
            for (line,) in self._cursor.execute("PRAGMA integrity_check(20)")
            if line != "ok"
        ]
        live, top = self._number("SELECT count(*) FROM chunks"), self._number("SELECT max(row) FROM chunks", -1)
        dead = self._number("SELECT count(*) FROM tombstones")
        overlap = self._number("SELECT count(*) FROM tombstones JOIN chunks USING (row)")
        if live != self.state.live or top >= self.state.rows or live + dead != self.state.rows or overlap:
            found.append(
                f"chunks.db: {live} chunks up to row {top} and {dead} tombstones ({overlap} on live rows) "
                f"do not make up {self.state.live} of {self.state.rows} rows; restore from a backup"
            )
        return found + ledger.problems(self._cursor)

    def _number(self, sql: str, default: int = 0) -> int:
        value = self._cursor.execute(sql).get
        return value if isinstance(value, int) else default

    def copy_to(self, destination: Path) -> None:
        """Write the database of this very commit to a new file, durably."""
        target = apsw.Connection(str(destination))
        try:
            with target.backup("main", self._cursor.connection, "main") as copying:
                copying.step(-1)
        finally:
            target.close()
        sync_file(destination)

    def ledger(self, scope: str, space: str) -> ledger.Ledger:
        """Return the records of a space: see `ledger.Ledger`."""
        return ledger.Ledger(self._cursor, scope, space)

    def copy_records_to(self, target: apsw.Connection) -> None:
        """Copy the records of all spaces, inside the transaction of *target*."""
        ledger.copy(self._cursor, target)

    def match(self, text: str, *, count: int, allowed: npt.NDArray[np.uint8] | None = None) -> lexical.Found:
        """Return the rows that the words of *text* find, and their scores: see `lexical.search`."""
        corpus = lexical.Corpus(self.state.rows, self.state.live)
        return lexical.search(
            self._cursor, text, count=count, corpus=corpus, counted=self._pool.counted, allowed=allowed
        )

    def metadata_at(self, path: Sequence[str], first: int, last: int) -> Iterator[tuple[int, str | None]]:
        """Yield (row, JSON text of the metadata's value at *path*) of the chunks in rows [first, last), in row order.

        None where a chunk has no such field; a row that holds no chunk is left out. A path leads through objects only.
        """
        # As a path of quoted keys it is data: SQLite reads the escapes of JSON in it, and finds `$`, `.`, `[` and `"`.
        # But to SQLite a key ends at a NUL: "tenant\0x" would be "tenant". What may hold one is looked up in Python.
        nul = any("\0" in step for step in path)
        at = None if nul else "$" + "".join(f".{orjson.dumps(step).decode()}" for step in path)
        sql = (
            "SELECT row, CASE WHEN metadata GLOB '*\\u0000*' THEN CAST(metadata AS BLOB) ELSE metadata -> ? END "
            "FROM chunks WHERE row >= ? AND row < ? ORDER BY row"
        )
        try:
            for row, found in self._cursor.execute(sql, (at, first, last)):
                yield row, _text_at(found, path) if isinstance(found, bytes) else found
        except apsw.SQLError as error:
            raise apsw.CorruptError(f"the metadata of a chunk cannot be read: {error}") from error


class SessionPool:
    """Connections for reading, one per concurrent session, kept open between sessions.

    They are handed out as their cursor: making one anew is a fifth of what a search asks of SQLite when its chunks are
    in memory.
    """

    def __init__(self, database: Path) -> None:
        self.database = database
        self.recent = RecentChunks()
        self.counted = lexical.Counted()
        self._idle: list[apsw.Cursor] = []
        self._closed = False

    def session(self) -> Session:
        """Return a new session, to be used in a ``with`` statement."""
        return Session(self)

    def fetch_at(self, seq: int, rows: Sequence[int], *, newest: bool) -> Sequence[Payload] | None:
        """Return (id, text, metadata JSON, …) of *rows*, in their order, of one commit; None when that is not *seq*.

        Some are in memory. The others, or, when there are none, the commit number alone, are read with one statement,
        which is its own transaction. A session around it would cost two more, and a third to read the state.

        Args:
            seq: a commit in which all of *rows* are live.
            rows: distinct, at most `MAX_PARAMETERS`.
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
        self.recent.offer(missing, records)
        if absent == len(rows):
            return records
        rest = iter(records)
        return [payload or next(rest) for payload in found]

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
            raise CollectionClosed(
                f"{self.database.parent} is closed, or was compacted away; open the collection again"
            )
        while True:
            try:
                cursor = self._idle.pop()
            except IndexError:
                return connect(self.database, read_only=True).cursor()
            connection = cursor.connection
            if not isinstance(connection, Frozen) or connection.is_valid():
                return cursor
            connection.close()

    def give_back(self, cursor: apsw.Cursor) -> None:
        """Keep a connection for the next session, unless the pool was closed meanwhile."""
        if self._closed:
            cursor.connection.close()
        else:
            self._idle.append(cursor)

    def discard(self, cursor: apsw.Cursor) -> None:
        """Close the connection, which met an error."""
        cursor.connection.close(True)

    def close(self) -> None:
        """Close the idle connections, and forget the chunks; connections in use are closed when they come back."""
        self._closed = True
        self.recent.drop()
        while self._idle:
            self._idle.pop().connection.close()


def _fetch_at(count: int) -> str:
    """Return the statement for *count* rows.

    A join with VALUES keeps the order and is quicker than IN, for which SQLite sorts the rows into a temporary tree.
    """
    sql = _FETCH_AT.get(count)
    if sql is None:
        sql = _FETCH_AT[count] = (
            f"WITH wanted(row) AS (VALUES {','.join(['(?)'] * count)}) "
            "SELECT id, text, CAST(metadata AS BLOB), (SELECT seq FROM state) FROM wanted CROSS JOIN chunks USING (row)"
        )
    return sql


def lookup(reading: apsw.Connection | apsw.Cursor, ids: Sequence[str]) -> dict[str, StoredChunk]:
    """Return the stored chunks with these ids."""
    found: dict[str, StoredChunk] = {}
    for part in _parts(ids):
        if len(part) < _FEW_IDS:
            sql, values = (
                f"SELECT row, id, text, metadata, crc FROM chunks WHERE id IN ({placeholders(len(part))})",
                part,
            )
        else:  # binding a thousand parameters costs three times what parsing one JSON array does
            sql, values = _LOOKUP_MANY, (orjson.dumps(part).decode(),)
        for record in reading.execute(sql, values):
            found[record[1]] = StoredChunk._make(record)
    return found


def _text_at(metadata: bytes, path: Sequence[str]) -> str | None:
    value = lookup_path(orjson.loads(metadata), tuple(path))
    return None if value is MISSING else orjson.dumps(value).decode()


def _parts(values: Sequence[int] | Sequence[str]) -> Iterable[Sequence[int] | Sequence[str]]:
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
