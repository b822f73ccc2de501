"""Metadata fields as arrays: what a filter selects of a million rows in about a millisecond.

A row never changes, so a column is only ever appended to, and what a filter has once selected stays so: selections
are kept, and continued where rows have come since. Rows that were deleted are not marked here; who searches masks them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.filters.columns.column import Column, Path, cover_together
from reperio.filters.columns.fields import FieldReader
from reperio.filters.readings import conditions
from reperio.filters.tree import And, Condition, Filter, Not, Or

# One bit per row, the lowest of a byte first, as `numpy.packbits` makes them with bitorder "little".
Bits: TypeAlias = npt.NDArray[np.uint8]
# By the `id` of a condition: what it selects, and since which commit that holds.
_ByCondition: TypeAlias = dict[int, tuple[Bits, int]]
COLUMNS_BYTES = 512 << 20  # memory of all columns of a collection; the one in use is kept whatever it takes
MOST_COLUMNS = 256
RESULTS_BYTES = 64 << 20  # memory of the selections kept: 500 filters over a million rows


class Selection(NamedTuple):
    """The rows that a filter selects."""

    bits: Bits  # of rows [0, rows); the last byte's spare bits are 0
    rows: int  # how many
    since: int  # commit from which on it holds; before, a row may have lived that was gone when its column was read


class Columns:
    """The columns of one generation, and the selections of the filters asked for. For any number of threads.

    A field is read at its first use: about a second per million rows; those of a filter that are new are read together.
    Those used least recently are dropped beyond *memory*.

    Args:
        memory: bytes for columns.
        results: bytes for selections.
    """

    def __init__(self, *, memory: int = COLUMNS_BYTES, results: int = RESULTS_BYTES) -> None:
        self._memory = memory
        self._columns: OrderedDict[Path, Column] = OrderedDict()
        self._selections = _Selections(results)
        self._lock = threading.Lock()

    def cached(self, tree: Filter, seq: int, rows: int) -> Bits | None:
        """Return what `evaluate` would for commit *seq*, if it is known; without a session."""
        selection = self._selections.get(tree)
        if selection is None or selection.rows < rows or seq < selection.since:
            return None
        return _cut(selection, rows)

    def evaluate(self, tree: Filter, session: FieldReader, rows: int) -> Bits:
        """Say which of rows [0, rows) *tree* matches.

        Args:
            tree: from `filters.parse`.
            session: of the commit that is searched.
            rows: at most those of that commit.

        Returns:
            Bits, shape (⌈rows / 8⌉,), not writable, the last byte's spare bits 0. Of rows that hold no chunk in that
            commit they say nothing: mask them.

        Raises:
            CollectionDamaged: on leaving the session, if metadata cannot be read.
        """
        assert rows <= session.state.rows
        known = self._selections.get(tree)
        if known is not None and session.state.seq < known.since:
            known = None
        if known is not None and known.rows >= rows:
            return _cut(known, rows)
        begin = known.rows // 8 if known is not None else 0  # bytes that stay
        bits, since = _combined(tree, self._select(tree, session, begin * 8, rows), -(-rows // 8) - begin)
        if rows % 8:
            bits[-1] &= (1 << rows % 8) - 1
        if known is not None:
            bits, since = np.concatenate((known.bits[:begin], bits)), max(since, known.since)
        bits.flags.writeable = False
        self._selections.put(tree, Selection(bits, rows, since))
        return bits

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, about; the selections come on top."""
        return sum(column.nbytes for column in self._columns.values())

    def _select(self, tree: Filter, session: FieldReader, first: int, last: int) -> _ByCondition:
        """Return what each condition selects of rows [first, last), reading the fields that are new in one scan."""
        wanted: dict[Path, list[Condition]] = {}
        for condition in conditions(tree):
            wanted.setdefault(condition.path, []).append(condition)
        selected: _ByCondition = {}
        while wanted:
            for column in self._covering(wanted, session, last):
                for condition in wanted.pop(column.path):
                    found, since = column.select(condition, session, first, last)
                    selected[id(condition)] = np.packbits(found, bitorder="little"), since
            self._drop()
        return selected

    def _covering(self, wanted: dict[Path, list[Condition]], session: FieldReader, rows: int) -> list[Column]:
        """Return some of the columns that are wanted, one at least: those that are read, else as many as fit."""
        with self._lock:
            columns = [self._columns.setdefault(path, Column(path)) for path in wanted]
            for column in columns:
                self._columns.move_to_end(column.path)
        read = [column for column in columns if column.rows >= rows]
        return read or cover_together(columns, session, rows, self._memory) or columns[:1]

    def _drop(self) -> None:
        """Forget the columns used least recently, beyond the limits; of too many, first fields that no row has."""
        with self._lock:
            while len(self._columns) > 1 and self.nbytes > self._memory:
                self._columns.popitem(last=False)
            while len(self._columns) > MOST_COLUMNS:
                blank = (path for path, column in self._columns.items() if column.is_blank)
                del self._columns[next(blank, next(iter(self._columns)))]


def _combined(tree: Filter, selected: _ByCondition, size: int) -> tuple[Bits, int]:
    """Return what *tree* selects, in an array of its own of *size* bytes, and since which commit that holds."""
    if isinstance(tree, Condition):
        bits, since = selected[id(tree)]
        return bits.copy(), since
    if isinstance(tree, Not):
        bits, since = _combined(tree.child, selected, size)
        return np.bitwise_not(bits, out=bits), since
    assert isinstance(tree, (And, Or))
    both = np.bitwise_and if isinstance(tree, And) else np.bitwise_or
    bits, since = np.full(size, 255 if isinstance(tree, And) else 0, dtype=np.uint8), 0
    for child in tree.children:
        other, later = _combined(child, selected, size)
        bits, since = both(bits, other, out=bits), max(since, later)
    return bits, since


class _Selections:
    """The selections made last, within a limit of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._selections: OrderedDict[Filter, tuple[Selection, int]] = OrderedDict()  # with the bytes it takes
        self._lock = threading.Lock()

    def get(self, tree: Filter) -> Selection | None:
        with self._lock:
            found = self._selections.get(tree)
            if found is None:
                return None
            self._selections.move_to_end(tree)
            return found[0]

    def put(self, tree: Filter, selection: Selection) -> None:
        with self._lock:
            _, before = self._selections.pop(tree, (None, 0))
            weight = selection.bits.nbytes + tree.size.bytes  # a filter's lists may outweigh its selection
            self._selections[tree] = selection, weight
            self._taken += weight - before
            while self._taken > self._limit:
                _, (_, weight) = self._selections.popitem(last=False)
                self._taken -= weight


def _cut(selection: Selection, rows: int) -> Bits:
    """Return the bits of rows [0, rows) of a selection for at least as many."""
    if selection.rows == rows:
        return selection.bits
    bits: Bits = selection.bits[: -(-rows // 8)].copy()
    if rows % 8:
        bits[-1] &= (1 << rows % 8) - 1
    bits.flags.writeable = False
    return bits
