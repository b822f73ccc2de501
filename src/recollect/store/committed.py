"""What a committed state consists of, and how it is read from the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import apsw
import orjson

from recollect.errors import CollectionError
from recollect.types import Chunk

Value = TypeVar("Value", int, str)

MAX_PARAMETERS = 1000
"""Values bound to one statement; SQLite's own limit is 32,766, beyond a thousand nothing is gained."""

UNREADABLE = (apsw.Error, UnicodeDecodeError, orjson.JSONDecodeError)
"""What reading a damaged database raises: text that is no UTF-8, metadata that is no JSON."""

_FEW_IDS = 20
_ENDS = (
    "SELECT ifnull((SELECT max(row) FROM chunks), -1), ifnull((SELECT max(row) FROM tombstones), -1), "
    "ifnull((SELECT max(number) FROM tombstones), 0)"
)
_LOOKUP_MANY = (
    "WITH wanted(id) AS MATERIALIZED (SELECT value FROM json_each(?)) "
    "SELECT row, id, text, metadata, crc FROM wanted CROSS JOIN chunks USING (id)"
)


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


class Outdated(CollectionError):
    """Another writer has committed since the state that a write was prepared from: prepare it again."""


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


def require_ends(reading: apsw.Connection | apsw.Cursor, state: State) -> None:
    """Raise `apsw.CorruptError` where a state does not fit the tables that it sums up, by one look-up at each end.

    Rows are minted in order, each holds a chunk or has a tombstone, and tombstones are numbered from 1 on. A writer
    that believes in fewer rows would write the next vectors over those of live chunks; a reader would not find these.
    """
    found: list[Any] = reading.execute(_ENDS).fetchall()
    chunk, tombstone, buried = found[0]
    numbers = isinstance(tombstone, int)  # the others are keys of their tables, which SQLite keeps as numbers alone
    if not numbers or max(chunk, tombstone) + 1 != state.rows or state.rows - buried != state.live:
        raise apsw.CorruptError(
            f"its state is {state.live} chunks in {state.rows} rows, and its tables end at chunk {chunk}, at deleted "
            f"row {tombstone} and at deletion {buried}"
        )


def lookup(reading: apsw.Connection | apsw.Cursor, ids: Sequence[str]) -> dict[str, StoredChunk]:
    """Return the stored chunks with these ids."""
    found: dict[str, StoredChunk] = {}
    for part in in_parts(ids):
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


def in_parts(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Yield the values in parts that one statement takes."""
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
