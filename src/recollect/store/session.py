"""Reading: a session is one connection inside one read transaction, so everything it tells is of one commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import apsw
import orjson
from typing_extensions import Self

from recollect.errors import CollectionClosed
from recollect.layout import sync_file
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


def read_state(connection: apsw.Connection) -> State:
    """Read the committed state."""
    seq, rows, live, snapshot = (
        connection.execute("SELECT seq, rows, live, snapshot FROM state").fetchone() or [None] * 4
    )
    if not (isinstance(seq, int) and isinstance(rows, int) and isinstance(live, int) and 0 <= live <= rows):
        raise apsw.CorruptError(f"its state is {seq!r}, {rows!r}, {live!r}")
    return State(seq, rows, live, snapshot)


class Session:
    """A consistent view of the store, from `begin` to the end of a ``with`` block. Not for two threads at once."""

    __slots__ = ("_begun", "_connection", "_pool", "state")

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._connection = pool.take()
        self._begun = False
        self.state: State

    def begin(self) -> Self:
        """Begin the read transaction. `__enter__` does so too, unless it is done."""
        try:
            self._connection.execute("BEGIN")
            self.state = read_state(self._connection)
        except UNREADABLE as error:
            self._pool.discard(self._connection)
            raise translate(error, self._pool.database) from error
        self._begun = True
        return self

    def __enter__(self) -> Self:
        return self if self._begun else self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error:
            self._pool.discard(self._connection)
        else:
            self._pool.give_back(self._connection)
        if isinstance(error, UNREADABLE):
            raise translate(error, self._pool.database) from error

    def fetch(self, rows: Sequence[int]) -> dict[int, Chunk]:
        """Return the chunks of *rows*; a row that holds none is left out."""
        found: dict[int, Chunk] = {}
        for part in _parts(rows):
            sql = f"SELECT row, id, text, metadata FROM chunks WHERE row IN ({placeholders(len(part))})"
            found |= _hydrate(self._connection.execute(sql, part))
        return found

    def get(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Return the stored chunks with these ids; an id that is absent is left out."""
        return lookup(self._connection, ids)

    def scan(self, after: int = -1, limit: int = 1000) -> list[StoredChunk]:
        """Return up to *limit* chunks with a row beyond *after*, in row order."""
        sql = "SELECT row, id, text, metadata, crc FROM chunks WHERE row > ? ORDER BY row LIMIT ?"
        found: list[StoredChunk] = []
        for record in self._connection.execute(sql, (after, limit)):
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
        return self._connection.execute(sql, (after,)).fetchall()  # type: ignore[return-value]  # INTEGER columns

    def snapshot(self) -> SnapshotRecord | None:
        """Return the record of the index in use, if there is one."""
        # As bytes: a damaged record makes the index unusable, which is for the index room to say, and not the store.
        sql = "SELECT rows, CAST(record AS BLOB) FROM snapshots WHERE name = ?"
        found = self._connection.execute(sql, (self.state.snapshot,)).fetchone()
        if found is None or self.state.snapshot is None:
            return None
        rows, record = found
        return SnapshotRecord(self.state.snapshot, rows, bytes(record or b"").decode(errors="replace"))

    def problems(self) -> list[str]:
        """Check the database's own structure and counts; one line per problem."""
        found = [
            f"chunks.db: {line}; restore from a backup"
            for (line,) in self._connection.execute("PRAGMA integrity_check(20)")
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
        return found

    def _number(self, sql: str, default: int = 0) -> int:
        value = self._connection.execute(sql).get
        return value if isinstance(value, int) else default

    def copy_to(self, destination: Path) -> None:
        """Write the database of this very commit to a new file, durably."""
        target = apsw.Connection(str(destination))
        try:
            with target.backup("main", self._connection, "main") as copying:
                copying.step(-1)
        finally:
            target.close()
        sync_file(destination)


def _hydrate(records: Iterable[tuple[Any, ...]]) -> dict[int, Chunk]:
    return {row: Chunk(chunk_id, text, orjson.loads(metadata)) for row, chunk_id, text, metadata in records}


class SessionPool:
    """Connections for reading, one per concurrent session, kept open between sessions."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self._idle: list[apsw.Connection] = []
        self._closed = False

    def session(self) -> Session:
        """Return a new session, to be used in a ``with`` statement."""
        return Session(self)

    def fetch_at(self, seq: int, rows: Sequence[int]) -> list[tuple[Any, ...]] | None:
        """Return (id, text, metadata, seq) of *rows*, in their order, of one commit; None when that is not *seq*.

        One statement is its own transaction. A session around it would cost two more, and a third to read the state:
        half of what a search spends outside FAISS. A join with VALUES keeps the order and is quicker than IN, for which
        SQLite sorts the rows into a temporary tree.
        """
        sql = _FETCH_AT.get(len(rows))
        if sql is None:
            sql = _FETCH_AT[len(rows)] = (
                f"WITH wanted(row) AS (VALUES {','.join(['(?)'] * len(rows))}) "
                "SELECT id, text, metadata, (SELECT seq FROM state) FROM wanted CROSS JOIN chunks USING (row)"
            )
        connection = self.take()
        try:
            found = connection.execute(sql, rows).fetchall()
        except UNREADABLE as error:
            self.discard(connection)
            raise translate(error, self.database) from error
        self.give_back(connection)
        return found if len(found) == len(rows) and found[0][3] == seq else None

    def take(self) -> apsw.Connection:
        """Take an idle connection or open one."""
        if self._closed:
            raise CollectionClosed(
                f"{self.database.parent} is closed, or was compacted away; open the collection again"
            )
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return connect(self.database, read_only=True)
            if not isinstance(connection, Frozen) or connection.is_valid():
                return connection
            connection.close()

    def give_back(self, connection: apsw.Connection) -> None:
        """Keep a connection for the next session, unless the pool was closed meanwhile."""
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def discard(self, connection: apsw.Connection) -> None:
        """Close a connection that met an error."""
        connection.close(True)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def lookup(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, StoredChunk]:
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
        for record in connection.execute(sql, values):
            found[record[1]] = StoredChunk._make(record)
    return found


def _parts(values: Sequence[int] | Sequence[str]) -> Iterable[Sequence[int] | Sequence[str]]:
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
