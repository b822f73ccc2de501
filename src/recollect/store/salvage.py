"""What can still be read of a damaged store: every chunk that is whole by its checksum, and the names of the rest.

Nothing is written. It asks for less than `Store` does: the state may be unreadable and the vector file cut short.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from recollect.layout import Generation
from recollect.store import schema, vector_file
from recollect.store.checksums import is_intact
from recollect.store.committed import UNREADABLE, StoredChunk, read_state
from recollect.store.ledger import Entry

_log = logging.getLogger("recollect.store")
_BLOCK = 1024
_CHUNKS = "SELECT row, id, text, metadata, crc FROM chunks WHERE row >= ? AND row < ? ORDER BY row"
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


class Wreck:
    """A store that cannot be trusted, read piece by piece; to be closed.

    Args:
        paths: of the generation, with the dtype of its vectors.
        dimension: of the vectors.

    Attributes:
        path: of the generation.
        rows: rows [0, rows) may hold chunks.

    Raises:
        CollectionDamaged: the database is missing, or no database any more.

    """

    def __init__(self, paths: Generation, dimension: int) -> None:
        self.path = paths.root
        self._connection = schema.connect(paths.database, read_only=True)
        self._cursor = self._connection.cursor()
        width = dimension * (4 if paths.dtype == "float32" else 2)
        stored = paths.vectors.stat().st_size // width if paths.vectors.exists() else 0
        try:
            self._cursor.execute("BEGIN")
            committed = read_state(self._cursor).rows
        except UNREADABLE:
            committed = None
        self.rows = stored if committed is None else committed
        self._matrix = vector_file.map_rows(paths.vectors, min(stored, self.rows), dimension, paths.dtype)
        self._kept: set[int] = set()
        self._named: dict[int, str] = {}

    def close(self) -> None:
        """Close the database."""
        self._connection.close(True)

    def whole(self) -> Iterator[tuple[list[StoredChunk], Any]]:
        """Yield the chunks that are whole and their vectors as stored, (n, d), in row order."""
        for first in range(0, self.rows, _BLOCK):
            found = [StoredChunk._make(one) for one in self._read(_CHUNKS, first, min(first + _BLOCK, self.rows))]
            whole = [chunk for chunk in found if self._is_whole(chunk)]
            if whole:
                yield whole, self._matrix.take([chunk.row for chunk in whole], axis=0)

    def lost(self) -> list[Lost]:
        """Return what `whole` has not yielded, and no delete explains; to be asked for after it."""
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
        with contextlib.suppress(*UNREADABLE, TypeError, ValueError):
            found: Any = self._cursor.execute("SELECT time FROM clock").get
            return float(found)
        return 0.0

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
            for row, chunk_id in self._cursor.execute(
                "SELECT row, id FROM chunks INDEXED BY sqlite_autoindex_chunks_1"
            ):
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


def _is_record(entry: Any) -> bool:
    if not all(isinstance(name, str) for name in (entry.scope, entry.space, entry.key)):
        return False
    if not isinstance(entry.time, float) or not isinstance(entry.group, (str, type(None))):
        return False
    try:
        return entry.value is None or orjson.loads(entry.value) is not Ellipsis
    except (orjson.JSONDecodeError, TypeError):
        return False
