"""One metadata field of all rows as codes of its distinct values, read alone or together with others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from reperio.filters.columns.dictionary import NONE, Bools, Codes, Dictionary, Growing
from reperio.filters.columns.fields import FieldReader, UnreadableField
from reperio.filters.matching import MISSING, lookup
from reperio.filters.tree import Condition

Path: TypeAlias = "tuple[str, ...]"
_Text = TypeVar("_Text", bytes, "str | None")

_BLOCK, _BLOCK_BYTES = 8192, 8 << 20  # rows read at once, and bytes of their texts
_PIECE = 512  # rows after which these are counted
_EMPTY = 2000  # bytes that a column takes besides its path, values and codes
_RECALLED_TEXTS = 65_536  # JSON texts whose code is kept while a column is read
_FEW_CODES = 4  # up to here, comparing codes is quicker than looking each up in a table
_FEW_AMONG = 8  # a tail with fewer distinct values than an eighth of the column's is evaluated for these alone


class Column:
    """One field of all rows, as codes of its distinct values. Threads take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._values = Dictionary()
        # No row before has the field: then there is nothing to keep of them. So are all rows, where nobody has it.
        self._blank = 0
        self._codes = Growing(np.int32)
        # Rows that held no chunk when they were read, in order, and the commit they were read in: from it on they hold
        # none for good. Each has its own: an earlier session can fill in only the rows that it knows.
        self._absent: Codes = np.empty(0, dtype=np.int32)
        self._read_in: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes taken, about."""
        arrays = self._codes.nbytes + self._absent.nbytes + self._read_in.nbytes
        return _EMPTY + 4 * sum(map(len, self.path)) + self._values.nbytes + arrays

    @property
    def rows(self) -> int:
        """Number of rows read."""
        return self._blank + len(self._codes)

    @property
    def is_blank(self) -> bool:
        """Say whether no row has the field."""
        return not len(self._codes)

    def select(self, condition: Condition, session: FieldReader, first: int, last: int) -> tuple[Bools, int]:
        """Say which of rows [first, last) satisfy *condition*, and since which commit that holds."""
        with self.lock:
            self._cover(session, last)
            codes = self._between(first, last)
            among = None
            if first and len(codes) * _FEW_AMONG < len(self._values):
                among = np.unique(codes)
            table, since = self._values.table(condition, among), self._since(last)
        return _spread(table, codes), since

    def _cover(self, session: FieldReader, rows: int) -> None:
        """Read what is missing of rows [0, rows) as the session's commit has them."""
        if self.rows < rows:
            self.append(rows, *self._read(session, self.rows, rows), session.state.seq)
        if session.state.seq < self._since(rows):
            self._fill(session, rows)

    def append(self, rows: int, codes: Codes | None, absent: Codes, seq: int) -> None:
        """Add the next rows, up to *rows*, of which *absent* hold no chunk in commit *seq*. With the lock.

        *codes* has one per row; it is None where no row has the field.
        """
        if self.is_blank and (codes is None or not codes.any()):
            self._blank = rows
        else:
            self._codes.extend(np.zeros(rows - self.rows, dtype=np.int32) if codes is None else codes)
        if len(absent):
            self._absent = np.concatenate((self._absent, absent)) if len(self._absent) else absent
            self._read_in = np.concatenate((self._read_in, np.full(len(absent), seq)))

    def encode(self, values: list[Any]) -> list[int]:
        """Return the codes of values. With the lock."""
        return self._values.encode(values)

    def forget(self) -> None:
        """Forget the values of a column that has no row yet. With the lock."""
        if not self.rows:
            self._values = Dictionary()

    def _between(self, first: int, last: int) -> Codes:
        """Return the codes of rows [first, last)."""
        blank, codes = self._blank, self._codes.view
        if first >= blank:
            return codes[first - blank : last - blank]
        none: Codes = np.broadcast_to(np.int32(NONE), min(last, blank) - first)
        return none if last <= blank else np.concatenate((none, codes[: last - blank]))

    def _since(self, rows: int) -> int:
        """Return from which commit on the codes of rows [0, rows) hold."""
        return int(self._read_in[: np.searchsorted(self._absent, rows)].max(initial=0))

    def _fill(self, session: FieldReader, rows: int) -> None:
        """Read again the rows that were gone: the session is of an earlier commit, in which they may live."""
        known = int(np.searchsorted(self._absent, rows))
        gone, codes, still = self._absent[:known], self._between(0, self.rows).copy(), [np.empty(0, dtype=np.int32)]
        for run in np.split(gone, np.flatnonzero(np.diff(gone) > 1) + 1):
            first, last = int(run[0]), int(run[-1]) + 1
            codes[first:last], absent = self._read(session, first, last)
            still.append(absent)
        if codes.any():
            self._blank, self._codes = 0, Growing(np.int32)
            self._codes.extend(codes)
        absent = np.concatenate(still)
        self._absent = np.concatenate((absent, self._absent[known:]))
        self._read_in = np.concatenate((np.full(len(absent), session.state.seq), self._read_in[known:]))

    def _read(self, session: FieldReader, first: int, last: int) -> tuple[Codes, Codes]:
        """Return the codes of rows [first, last), and which of them hold no chunk."""
        codes = np.full(last - first, NONE, dtype=np.int32)
        absent = np.ones(last - first, dtype=np.bool_)
        known: dict[str | None, int] = {None: NONE}
        before = first - 1
        for rows, texts in _blocks(session.metadata_at(self.path, first, last)):
            places = _places(rows, first, before)
            before = rows[-1]
            codes[places], absent[places] = self._encode(texts, known), False
        return codes, (np.flatnonzero(absent) + first).astype(np.int32)

    def _encode(self, texts: tuple[str | None, ...], known: dict[str | None, int]) -> list[int]:
        if len(known) > _RECALLED_TEXTS:
            known.clear()
            known[None] = NONE
        new = [text for text in dict.fromkeys(texts) if text not in known and text is not None]
        if new:
            # Parsed as one array: a call for each would cost more than all the rest.
            known.update(zip(new, self._values.encode(orjson.loads(f"[{','.join(new)}]")), strict=True))
        return [known[text] for text in texts]


def cover_together(columns: Sequence[Column], session: FieldReader, rows: int, memory: int) -> list[Column]:
    """Read rows up to *rows* of several columns in one scan, and return those that were read.

    Of *columns*, which lack rows, those are read that lack as many as the first.
    """
    # Asked one by one, 255 fields took 255 scans. Of no scan more is kept than *memory* bytes of codes, beyond the
    # first column: the others come back unread.
    start = columns[0].rows
    group = sorted((column for column in columns if column.rows == start), key=lambda column: column.path)
    if len(group) < 2:
        return []
    with ExitStack() as locks:
        for column in group:  # in one order whatever the filter, or two of them would wait for each other
            locks.enter_context(column.lock)
        group = [column for column in group if column.rows == start]  # another thread may have been quicker
        if not group:
            return []
        return _Scan(group, start, rows, memory).read(session)


class _Scan:
    """Reads rows [first, last) of columns whose locks are held."""

    def __init__(self, columns: list[Column], first: int, last: int, memory: int) -> None:
        self._first, self._last, self._memory = first, last, memory
        self._found: dict[Path, list[tuple[Codes, Codes]]] = {each.path: [] for each in columns}
        self._columns = columns
        self._taken = 0

    def read(self, session: FieldReader) -> list[Column]:
        absent, before = np.ones(self._last - self._first, dtype=np.bool_), self._first - 1
        for rows, texts in _blocks(session.metadata(self._first, self._last)):
            places = _places(rows, self._first, before)
            before = rows[-1]
            absent[places] = False
            self._take(places, [_parsed(row, text) for row, text in zip(rows, texts, strict=True)])
        gone = (np.flatnonzero(absent) + self._first).astype(np.int32)
        for column in self._columns:
            column.append(self._last, self._codes(column), gone, session.state.seq)
        return self._columns

    def _codes(self, column: Column) -> Codes | None:
        found = self._found.pop(column.path)
        if not found:
            return None
        codes = np.full(self._last - self._first, NONE, dtype=np.int32)
        for places, some in found:
            codes[places] = some
        return codes

    def _take(self, places: npt.NDArray[np.int64], block: list[dict[str, Any]]) -> None:
        """Enter the values of a block. Fields that no row of it has cost nothing."""
        present = set().union(*block)
        for column in [column for column in self._columns if column.path[0] in present]:
            values = [lookup(metadata, column.path) for metadata in block]
            having = [number for number, value in enumerate(values) if value is not MISSING]
            if having:
                codes = column.encode([values[number] for number in having])
                found = places[having].astype(np.int32), np.array(codes, dtype=np.int32)
                self._found[column.path].append(found)
                self._taken += found[0].nbytes + found[1].nbytes
        while len(self._columns) > 1 and self._taken > self._memory:
            dropped = self._columns.pop()
            dropped.forget()
            self._taken -= sum(array.nbytes for pair in self._found.pop(dropped.path) for array in pair)


def _parsed(row: int, text: bytes) -> dict[str, Any]:
    try:
        metadata = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise UnreadableField(f"the metadata of row {row} cannot be read: {error}") from error
    return metadata if isinstance(metadata, dict) else {}


def _places(rows: Sequence[int], first: int, before: int) -> npt.NDArray[np.int64]:
    """Return the places of rows that come after row *before*, counted from row *first*."""
    places = np.array(rows, dtype=np.int64) - first
    if rows[0] <= before or (np.diff(places) < 1).any():  # a damaged tree may lead in a circle
        raise UnreadableField(f"the rows from {rows[0]} on are out of order")
    return places


def _spread(table: Bools, codes: Codes) -> Bools:
    """Return ``table[codes]``."""
    mostly = np.count_nonzero(table) * 2 > len(table)
    rare = np.flatnonzero(table != mostly)
    if len(rare) > _FEW_CODES:
        return np.take(table, codes)
    found = np.zeros(len(codes), dtype=np.bool_)
    for code in rare.tolist():
        found |= codes == code
    return np.logical_not(found, out=found) if mostly else found


def _blocks(records: Iterator[tuple[int, _Text]]) -> Iterator[tuple[tuple[int, ...], tuple[_Text, ...]]]:
    """Yield (rows, texts), so many at once, and no more than some megabytes of text."""
    rows: tuple[int, ...] = ()
    texts: tuple[_Text, ...] = ()
    size = 0
    while piece := list(islice(records, _PIECE)):
        more, found = zip(*piece, strict=True)
        rows, texts = rows + more, texts + found
        size += sum(map(len, filter(None, found)))
        if len(rows) >= _BLOCK or size >= _BLOCK_BYTES:
            yield rows, texts
            rows, texts, size = (), (), 0
    if rows:
        yield rows, texts
