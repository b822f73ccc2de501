"""Define what a committed state consists of, and read it from the database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import apsw
import orjson

from reperio.errors import CollectionError
from reperio.filters.columns.fields import UnreadableField
from reperio.types import Chunk

Value = TypeVar("Value", int, str)

MAX_PARAMETERS = 1000
"""Values bound to one statement; SQLite's own limit is 32,766, beyond a thousand nothing is gained."""

UNREADABLE = (apsw.Error, UnicodeDecodeError, orjson.JSONDecodeError, UnreadableField)
"""Errors of reading a damaged database: text that is no UTF-8, metadata that is no JSON."""

_FEW_IDS = 20
_BEYOND = 1 << 62  # no count comes near; one more than the largest integer would be stored as a float
_FEW_ROWS = 65_536  # what a state may claim unproved: so many rows cost some hundred KiB, whatever is made of them
_PROBES = 64
_HELD = "SELECT EXISTS (SELECT 1 FROM chunks WHERE row = ?1) OR EXISTS (SELECT 1 FROM tombstones WHERE row = ?1)"
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
        """Parse the metadata.

        Raises:
            apsw.CorruptError: a field is not of the type that was stored.
        """
        if type(self.id) is not str or type(self.text) is not str:
            raise self.corrupt()
        return Chunk(self.id, self.text, self.parsed())

    def parsed(self) -> dict[str, Any]:
        """Parse the metadata alone; raise as `to_chunk` does."""
        try:
            found = orjson.loads(self.metadata) if type(self.metadata) is str else None
        except orjson.JSONDecodeError:
            found = None
        if type(found) is not dict:
            raise self.corrupt()
        return found

    def corrupt(self) -> apsw.CorruptError:
        """Build the error for a chunk whose fields cannot be what was stored."""
        return apsw.CorruptError(f"chunk {self.id!r:.80} (row {self.row}) is not what was stored")


class Outdated(CollectionError):
    """Another writer has committed since the state that a write was prepared from: prepare it again."""


class SnapshotEntry(NamedTuple):
    """The index file to trust; *description* is the index room's own JSON."""

    name: str
    rows: int
    description: str


def placeholders(count: int) -> str:
    """Return ``?,?,…``."""
    return ",".join("?" * count)


def read_state(reading: apsw.Connection | apsw.Cursor) -> State:
    """Read the committed state."""
    found: list[Any] = reading.execute("SELECT seq, rows, live, snapshot FROM state").fetchall()
    seq, rows, live, snapshot = found[0] if found else [None] * 4
    if not (
        (isinstance(seq, int) and isinstance(rows, int) and isinstance(live, int))
        and (0 <= seq < _BEYOND and 0 <= live <= rows < _BEYOND)
    ):
        raise apsw.CorruptError(f"its state is {seq!r:.40}, {rows!r:.40}, {live!r:.40}")
    if snapshot is not None and not isinstance(snapshot, str):
        raise apsw.CorruptError(f"its state names an index by {type(snapshot).__name__}")
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


def require_held(reading: apsw.Connection | apsw.Cursor, state: State) -> None:
    """Raise `apsw.CorruptError` where the tables hold much less than the rows that a state claims.

    What is kept in memory by row, a bit to some bytes each, goes by this number; of a few bytes that claim 2^34 rows it
    would be gigabytes. How long the vector file is tells nothing, since it may consist of holes. Counting reads every
    page; chosen at random, half of 64 rows are absent surely enough where three of four are.
    """
    if state.rows <= _FEW_ROWS:
        return
    held = 0
    for _ in range(_PROBES):
        with suppress(apsw.Error):  # a single unreadable page is reported when its content is needed
            held += bool(reading.execute(_HELD, (secrets.randbelow(state.rows),)).get)
    if held < _PROBES // 2:
        raise apsw.CorruptError(f"its state has {state.rows:,} rows, and of {_PROBES} of them its tables hold {held}")


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
            chunk = StoredChunk._make(record)
            if type(chunk.id) is not str:  # its key in the index of ids is whole, or it would not have been found
                raise chunk.corrupt()
            found[chunk.id] = chunk
    return found


def in_parts(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Yield the values in parts that one statement takes."""
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
