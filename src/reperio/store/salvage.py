"""Read what is whole of a damaged store, by the checksum of each chunk, and the names of the rest.

Nothing is written. It asks for less than `Store` does: the state may be unreadable and the vector file cut short.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from reperio.errors import CollectionDamaged
from reperio.layout import Generation, storage_errors
from reperio.printable import logger
from reperio.store import schema, vector_file
from reperio.store.checksums import is_intact
from reperio.store.committed import UNREADABLE, StoredChunk, read_state
from reperio.store.ledger import Entry, is_entry

_log = logger("reperio.store")
_BLOCK = 1024
_CHUNKS = "SELECT row, id, text, metadata, crc FROM chunks WHERE row >= ? AND row < ? ORDER BY row"
_BY_ID = "chunks INDEXED BY sqlite_autoindex_chunks_1"  # in other pages than the chunks
_RECORDS = (
    "SELECT records.rowid, scope, name, key, value, in_group, time FROM records JOIN spaces ON space = number "
    "WHERE records.rowid >= ? AND records.rowid < ? ORDER BY records.rowid"
)


class Lost(NamedTuple):
    """A chunk that is not whole any more.

    Attributes:
        row: its number.
        id: what can be read as its id; None where nothing can.
    """

    row: int
    id: str | None

    def __str__(self) -> str:
        return f"row {self.row}: chunk {self.id!r}" if self.id is not None else f"row {self.row}: its id is lost, too"


class DamagedStore:
    """Read a store that cannot be trusted, piece by piece; close it after use.

    Args:
        paths: paths of the generation, with the dtype of its vectors.
        dimension: length of the vectors.

    Attributes:
        path: directory of the generation.
        rows: rows [0, rows) may hold chunks.
        chunks: how many there seem to be, whole or not; 1 where it cannot be told.

    Raises:
        CollectionDamaged: the database is missing, or no database any more.
        StorageFailed: the files cannot be read, for want of permission or of descriptors, or as links are among them.
    """

    def __init__(self, paths: Generation, dimension: int) -> None:
        self.path = paths.root
        paths.require_plain()
        width = dimension * (4 if paths.dtype == "float32" else 2)
        with storage_errors(paths.vectors, "read"):
            present = paths.vectors.exists()
            size = paths.vectors.stat().st_size // width if present else 0
        stored = vector_file.bytes_there(paths.vectors) // width if present else 0
        self._connection = schema.connect(paths.database, read_only=True)
        self._cursor = self._connection.cursor()
        try:
            self._require_tables(paths.database)
        except BaseException:
            self.close()
            raise
        state = None
        with contextlib.suppress(*UNREADABLE):
            self._cursor.execute("BEGIN")
            state = read_state(self._cursor)
        by_id = self._number(f"SELECT count(*) FROM {_BY_ID}")
        chunks = by_id or self._number("SELECT count(*) FROM chunks NOT INDEXED")
        buried = self._number("SELECT count(*) FROM tombstones")
        last = max(self._number(f"SELECT max(row) FROM {table}", -1) for table in (_BY_ID, "chunks", "tombstones"))
        self.chunks = chunks or (1 if state is None else state.live)
        self.rows = _rows(stored if state is None else state.rows, last + 1, stored, chunks + buried)
        try:
            self._matrix = vector_file.map_rows(paths.vectors, min(size, self.rows), dimension, paths.dtype)
        except BaseException:
            self.close()
            raise
        self._kept: set[int] = set()
        self._named: dict[int, str] = {}

    def close(self) -> None:
        """Close the database."""
        self._connection.close(True)

    def whole(self) -> Iterator[tuple[list[StoredChunk], Any]]:
        """Yield the chunks that are whole and their vectors as stored, (n, d), in row order."""
        for first in range(0, self.rows, _BLOCK):
            read = self._read(_CHUNKS, first, min(first + _BLOCK, self.rows))
            found = [StoredChunk._make(map(_as_text, one)) for one in read]
            whole = [chunk for chunk in found if self._is_whole(chunk)]
            if whole:
                yield whole, self._matrix.take([chunk.row for chunk in whole], axis=0)

    def lost(self) -> list[Lost]:
        """Return the rows that `whole` has not yielded and that were not deleted; call it after `whole`."""
        buried: set[int] = set()
        with contextlib.suppress(*UNREADABLE):
            buried = {row for (row,) in self._cursor.execute("SELECT row FROM tombstones")}
        absent = [row for row in range(self.rows) if row not in self._kept and row not in buried]
        if absent:
            self._name(set(absent))
        _log.info("%s: %d of %d rows are whole, %d are lost", self.path, len(self._kept), self.rows, len(absent))
        return [Lost(row, self._named.get(row)) for row in absent]

    def entries(self) -> tuple[list[Entry], int]:
        """Return the records that can be read, and how many others there seem to be."""
        found: list[Entry] = []
        unreadable = 0
        try:
            last: Any = self._cursor.execute("SELECT max(rowid) FROM records").get or 0
        except UNREADABLE:
            return [], 1
        for _, *fields in self._read(_RECORDS, 1, int(last) + 1):
            entry = Entry._make(fields)
            if _is_record(entry):
                found.append(entry)
            else:
                unreadable += 1
        with contextlib.suppress(*UNREADABLE):
            counted: Any = self._cursor.execute("SELECT count(*) FROM records").get
            unreadable = max(unreadable, int(counted) - len(found))
        return found, unreadable

    def clock(self) -> float:
        """Return the time of the last put of a record; 0 where it cannot be read."""
        with contextlib.suppress(*UNREADABLE):
            found: Any = self._cursor.execute("SELECT time FROM clock").get
            return float(found) if isinstance(found, (int, float)) and math.isfinite(found) else 0.0
        return 0.0

    def _require_tables(self, database: Path) -> None:
        try:
            schema.require_plain_tables(self._cursor)
        except schema.Strange as error:
            raise CollectionDamaged(f"{database} cannot be mended: {error}; use another backup") from error
        except UNREADABLE:
            pass  # nothing can be read then, so no table can do harm

    def _number(self, sql: str, default: int = 0) -> int:
        """Return what a statement counts or finds; the default where that cannot be read, or there is nothing."""
        with contextlib.suppress(*UNREADABLE):
            found: Any = self._cursor.execute(sql).get
            return found if isinstance(found, int) else default
        return default

    def _is_whole(self, chunk: Any) -> bool:
        """Compare with the checksum; a row twice, or of another type than was stored, is not whole."""
        if not isinstance(chunk.row, int) or chunk.row in self._kept:
            return False
        if not all(isinstance(value, str) for value in chunk[1:4]) or not isinstance(chunk.crc, int):
            return False
        if not is_intact(chunk, self._matrix):
            self._named[chunk.row] = chunk.id
            return False
        self._kept.add(chunk.row)
        return True

    def _name(self, rows: set[int]) -> None:
        """Look for the ids of rows in the index of ids, which lies in other pages than the chunks."""
        with contextlib.suppress(*UNREADABLE):
            for row, chunk_id in self._cursor.execute(f"SELECT row, id FROM {_BY_ID}"):
                if row in rows and isinstance(chunk_id, str):
                    self._named.setdefault(row, chunk_id)

    def _read(self, sql: str, first: int, last: int) -> Iterator[Sequence[Any]]:
        """Yield what can be read of [first, last): where a page is damaged, by halves down to single rows."""
        parts = [(first, last)]
        while parts:
            first, last = parts.pop()
            try:
                found: list[Any] = self._cursor.execute(sql, (first, last)).fetchall()
            except UNREADABLE:
                if last - first > 1:
                    middle = (first + last) // 2
                    parts += [(middle, last), (first, middle)]
                continue
            yield from (one for one in found if isinstance(one[0], int) and first <= one[0] < last)


def _rows(committed: int, named: int, stored: int, held: int) -> int:
    """Return the number below which all rows are, from sources any of which may be damaged.

    The state or a table may say too little, which would hide lost chunks, or far too much, which would invent losses.
    So the larger number counts, up to the vectors that are there. The file of vectors may have been cut short: rows
    beyond it count if state and tables agree, and the tables hold about as much.

    Args:
        committed: what the state says.
        named: beyond the last row that a table names.
        stored: the vectors in the file, without its holes.
        held: chunks and tombstones in the tables; some may be unreadable.
    """
    if held and held == named:  # each row is in a table: all of them could be read
        return named
    return min(max(committed, named), max(stored, min(committed, named, 2 * held)))


def _as_text(value: Any) -> Any:
    """Take a blob for the text that one flipped bit made it of; the checksum tells whether it was."""
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode() if isinstance(value, bytes) else value
    return value


def _is_record(entry: Any) -> bool:
    if not is_entry(entry):
        return False
    try:
        return entry.value is None or orjson.loads(entry.value) is not Ellipsis
    except orjson.JSONDecodeError:
        return False
