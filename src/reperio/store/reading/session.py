"""Reading: a session is one connection inside one read transaction, so everything it tells is of one commit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt
import orjson
from typing_extensions import Self

from reperio.filters.matching import MISSING
from reperio.filters.matching import lookup as lookup_path
from reperio.layout import create_file, storage_errors, sync_file
from reperio.store import ledger
from reperio.store.committed import (
    UNREADABLE,
    SnapshotEntry,
    State,
    StoredChunk,
    in_parts,
    lookup,
    placeholders,
    read_state,
    require_ends,
    require_held,
)
from reperio.store.ledger import Entry
from reperio.store.reading.pool import SessionPool
from reperio.store.schema import translate
from reperio.store.words import lexical, sharing
from reperio.store.words.counts import Corpus
from reperio.store.words.merging import Counting, Listing, Totals
from reperio.types import Chunk, Problem
from reperio.vectors import StoredMatrix

_SELECT = "SELECT row, id, text, metadata, crc FROM chunks"
_LOCATED = "SELECT row, id FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
_ROWS_OF = "SELECT row FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
# What a copy meets where it is written to, unless it is met by reading: a new file is neither damaged nor in use.
_UNWRITABLE = (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)
_READS = {apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ}


class Session:
    """A consistent view of the store, from `begin` to the end of a ``with`` block. Not for two threads at once."""

    __slots__ = ("_begun", "_cursor", "_pool", "_scope", "state")

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._cursor = pool.take()
        self._begun = False
        self._scope: npt.NDArray[np.uint8] | None = None
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

    def require_ends(self) -> None:
        """Raise for a state that does not fit the tables: see `committed.require_ends` and `committed.require_held`."""
        require_ends(self._cursor, self.state)
        require_held(self._cursor, self.state)

    def fetch(self, rows: Sequence[int], matrix: StoredMatrix) -> dict[int, Chunk]:
        """Return the chunks of *rows*, which are live in this commit; a row that holds none is left out.

        Args:
            rows: distinct.
            matrix: the vectors of this commit.

        Raises:
            CollectionDamaged: one of the chunks is not what was stored.
        """
        found = dict(zip(rows, self._pool.recent.get(rows), strict=True))
        for part in in_parts([row for row, payload in found.items() if payload is None]):
            sql = (
                "SELECT id, text, CAST(metadata AS BLOB), row, crc FROM chunks "
                f"WHERE row IN ({placeholders(len(part))})"
            )
            records: list[Any] = self._cursor.execute(sql, part).fetchall()
            kept = [record[3] for record in records]
            self._pool.keep(kept, records, matrix)
            found |= zip(kept, records, strict=True)
        return {
            row: Chunk(payload[0], payload[1], orjson.loads(payload[2])) for row, payload in found.items() if payload
        }

    def get(self, ids: Sequence[str]) -> dict[str, StoredChunk]:
        """Return what is stored under these ids, as it is: `require` says whether it is whole."""
        return lookup(self._cursor, ids)

    def require(self, chunks: Sequence[StoredChunk], matrix: StoredMatrix) -> None:
        """Raise `CollectionDamaged` for a chunk of this commit that is not what was stored.

        Args:
            chunks: from this session.
            matrix: the vectors of this commit.
        """
        self._pool.verified.require([chunk.row for chunk in chunks], [chunk[1:] for chunk in chunks], matrix)

    def require_rows(self, rows: Sequence[int], matrix: StoredMatrix) -> None:
        """Raise as `require` does, for the chunks of *rows*; what was compared before is not read again.

        Args:
            rows: distinct, and live in this commit.
            matrix: as in `require`.
        """
        for part in in_parts(self._pool.verified.unknown(rows)):
            sql = (
                "SELECT id, text, CAST(metadata AS BLOB), row, crc FROM chunks "
                f"WHERE row IN ({placeholders(len(part))})"
            )
            records: list[Any] = self._cursor.execute(sql, part).fetchall()
            if len(records) < len(part):
                raise apsw.CorruptError(f"{len(part) - len(records)} live rows hold no chunk")
            self._pool.verified.require([record[3] for record in records], records, matrix)

    def read(self, rows: Sequence[int], matrix: StoredMatrix) -> list[Chunk]:
        """Return the chunks of *rows* in row order, and keep none in memory; a row that holds none is left out.

        Args:
            rows: distinct.
            matrix: as in `require`.

        Raises:
            CollectionDamaged: one of the chunks is not what was stored.
        """
        found: list[Chunk] = []
        for part in in_parts(rows):
            chunks = self.stored(part)
            self.require(chunks, matrix)
            found += [chunk.to_chunk() for chunk in chunks]
        return found

    def stored(self, rows: Sequence[int]) -> list[StoredChunk]:
        """Return what is stored in *rows*, distinct, in row order, as it is; a row that holds none is left out."""
        found: list[StoredChunk] = []
        for part in in_parts(rows):
            sql = f"{_SELECT} WHERE row IN ({placeholders(len(part))}) ORDER BY row"
            found += [StoredChunk._make(record) for record in self._cursor.execute(sql, part)]
        return found

    def texts(self, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yield (row, text) of the chunks of *rows*, in any order, not compared with their checksums.

        What damage has made something else than a text is left out.
        """
        for part in in_parts(rows):
            sql = f"SELECT row, text FROM chunks WHERE row IN ({placeholders(len(part))}) AND typeof(text) = 'text'"
            yield from self._cursor.execute(sql, part)

    def lengths(self, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield (row, characters of the text) of the chunks of *rows*, in any order, not compared with checksums."""
        for part in in_parts(rows):
            marks = placeholders(len(part))
            sql = f"SELECT row, length(text) FROM chunks WHERE row IN ({marks}) AND typeof(text) = 'text'"
            yield from self._cursor.execute(sql, part)

    def ids_of(self, rows: Sequence[int]) -> list[str]:
        """Return the ids of the chunks of *rows*, in row order; a row that holds none is left out."""
        found: list[str] = []
        for part in in_parts(rows):
            sql = f"SELECT id, row FROM chunks WHERE row IN ({placeholders(len(part))}) ORDER BY row"
            for chunk_id, row in self._cursor.execute(sql, part):
                if type(chunk_id) is not str:
                    raise apsw.CorruptError(f"the id of the chunk in row {row} is not what was stored")
                found.append(chunk_id)
        return found

    def located(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the row of each of these ids that there is, from the index of ids alone: no chunk is read."""
        return {
            chunk_id: row
            for part in in_parts(ids)
            for row, chunk_id in self._cursor.execute(_LOCATED, (orjson.dumps(part).decode(),))
        }

    def rows_of(self, ids: Sequence[str]) -> list[int]:
        """Return the rows of the chunks with these ids; an id that is absent is left out."""
        return [
            row for part in in_parts(ids) for (row,) in self._cursor.execute(_ROWS_OF, (orjson.dumps(part).decode(),))
        ]

    def scan(self, after: int = -1, limit: int = 1000) -> list[StoredChunk]:
        """Return up to *limit* chunks with a row beyond *after*, in row order."""
        sql = f"{_SELECT} WHERE row > ? ORDER BY row LIMIT ?"
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

    def snapshot(self) -> SnapshotEntry | None:
        """Return the record of the index in use, if there is one."""
        # As bytes: a damaged record makes the index unusable, which is for the index room to say, and not the store.
        sql = "SELECT rows, CAST(record AS BLOB) FROM snapshots WHERE name = ?"
        found = self._cursor.execute(sql, (self.state.snapshot,)).fetchone()
        if found is None or self.state.snapshot is None:
            return None
        rows, record = found
        return SnapshotEntry(self.state.snapshot, rows, bytes(record or b"").decode(errors="replace"))

    def problems(self) -> list[Problem]:
        """Check the database's own structure and counts."""
        lexical.refresh(self._cursor)
        found = [
            Problem("damage", f"chunks.db: {line}", "restore from a backup")
            for (line,) in self._cursor.execute("PRAGMA integrity_check(20)")
            if line != "ok"
        ]
        live, top = self._number("SELECT count(*) FROM chunks"), self._number("SELECT max(row) FROM chunks", -1)
        dead = self._number("SELECT count(*) FROM tombstones")
        overlap = self._number("SELECT count(*) FROM tombstones JOIN chunks USING (row)")
        if live != self.state.live or top >= self.state.rows or live + dead != self.state.rows or overlap:
            what = (
                f"chunks.db: {live} chunks up to row {top} and {dead} tombstones ({overlap} on live rows) "
                f"do not make up {self.state.live} of {self.state.rows} rows"
            )
            found.append(Problem("damage", what, "restore from a backup"))
        return found + ledger.problems(self._cursor)

    def _number(self, sql: str, default: int = 0) -> int:
        value = self._cursor.execute(sql).get
        return value if isinstance(value, int) else default

    def copy_to(self, destination: Path) -> None:
        """Write the database of this very commit to a new file, durably.

        Raises:
            StorageFailed: it cannot be written there.
            CollectionDamaged: this one cannot be read.
        """
        with storage_errors(destination, "write"):
            os.close(create_file(destination))  # SQLite does not say why it cannot
        try:
            with (
                closing(apsw.Connection(str(destination))) as target,
                target.backup("main", self._cursor.connection, "main") as copying,
            ):
                copying.step(-1)
        except apsw.Error as error:
            theirs = isinstance(error, _UNWRITABLE) and getattr(error, "extendedresult", 0) not in _READS
            raise translate(error, destination if theirs else self._pool.database) from error
        with storage_errors(destination, "write"):
            sync_file(destination)

    def has_ledger(self) -> bool:
        """Say whether records can be kept here; the first formats had none."""
        return ledger.is_present(self._cursor)

    def ledger(self, scope: str, space: str) -> ledger.Ledger:
        """Return the records of a space: see `ledger.Ledger`."""
        return ledger.Ledger(self._cursor, scope, space)

    def entries(self) -> Iterator[Entry]:
        """Yield the records of all spaces, by scope, space and key."""
        return ledger.entries(self._cursor)

    def clock(self) -> float:
        """Return the time of the last put of a record, in seconds since the epoch; 0 before the first."""
        return ledger.clock(self._cursor)

    def copy_records_to(self, target: apsw.Connection) -> None:
        """Copy the records of all spaces, inside the transaction of *target*."""
        ledger.copy(self._cursor, target)

    def confine(self, scope: npt.NDArray[np.uint8]) -> None:
        """Let `match` count words within *scope* alone: bits of live rows, of one scope for all sessions of a pool."""
        self._scope = scope

    def match(self, text: str, *, count: int, allowed: npt.NDArray[np.uint8] | None = None) -> lexical.Found:
        """Return the rows that the words of *text* find, and their scores: see `lexical.search`."""
        return lexical.search(
            self._cursor,
            text,
            count=count,
            corpus=self._corpus,
            counted=self._pool.counted,
            allowed=allowed,
            scope=self._scope,
        )

    def count_words(self, text: str, *, allowed: npt.NDArray[np.uint8] | None = None) -> Counting:
        """Count the words of *text* for a question that several collections answer: see `sharing.count_words`."""
        return sharing.count_words(
            self._cursor, text, corpus=self._corpus, counted=self._pool.counted, allowed=allowed, scope=self._scope
        )

    def list_words(
        self, text: str, *, count: int, totals: Totals, rank: bool, allowed: npt.NDArray[np.uint8] | None = None
    ) -> Listing:
        """Return this collection's part of what several find by words together: see `sharing.list_words`."""
        return sharing.list_words(
            self._cursor,
            text,
            count=count,
            totals=totals,
            rank=rank,
            corpus=self._corpus,
            counted=self._pool.counted,
            allowed=allowed,
            scope=self._scope,
        )

    def rank_words(self, text: str, rows: Sequence[int], *, totals: Totals) -> lexical.Found:
        """Rank rows that `list_words` has named: see `sharing.rank_words`."""
        return sharing.rank_words(self._cursor, text, rows=rows, totals=totals, corpus=self._corpus)

    @property
    def _corpus(self) -> Corpus:
        return Corpus(self.state.seq, self.state.rows, self.state.live)

    def metadata(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield (row, metadata as JSON) of the chunks in rows [first, last), in row order."""
        sql = "SELECT row, CAST(metadata AS BLOB) FROM chunks WHERE row >= ? AND row < ? ORDER BY row"
        yield from self._cursor.execute(sql, (first, last))

    def metadata_at(self, path: Sequence[str], first: int, last: int) -> Iterator[tuple[int, str | None]]:
        """Yield (row, JSON text of the metadata's value at *path*) of the chunks in rows [first, last), in row order.

        None where a chunk has no such field; a row that holds no chunk is left out. A path leads through objects only.

        Raises:
            apsw.CorruptError: naming the row, for metadata that are no text; else a damaged bit would hide a chunk.
        """
        # As a path of quoted keys it is data: SQLite reads the escapes of JSON in it, and finds `$`, `.`, `[` and `"`.
        # But to SQLite a key ends at a NUL: "tenant\0x" would be "tenant". What may hold one is looked up in Python.
        nul = any("\0" in step for step in path)
        at = None if nul else "$" + "".join(f".{orjson.dumps(step).decode()}" for step in path)
        sql = (
            "SELECT row, CASE WHEN typeof(metadata) <> 'text' THEN 0 "
            "WHEN metadata GLOB '*\\u0000*' THEN CAST(metadata AS BLOB) ELSE metadata -> ? END "
            "FROM chunks WHERE row >= ? AND row < ? ORDER BY row"
        )
        try:
            for row, found in self._cursor.execute(sql, (at, first, last)):
                if found is None or isinstance(found, str):
                    yield row, found
                elif isinstance(found, bytes):
                    yield row, _text_at(found, path)
                else:
                    raise apsw.CorruptError(f"the metadata of the chunk in row {row} are not what was stored")
        except apsw.SQLError as error:
            raise apsw.CorruptError(f"the metadata of a chunk cannot be read: {error}") from error


def _text_at(metadata: bytes, path: Sequence[str]) -> str | None:
    value = lookup_path(orjson.loads(metadata), tuple(path))
    return None if value is MISSING else orjson.dumps(value).decode()
