"""Metadata fields as arrays: what a filter selects of a million rows in about a millisecond.

A row never changes, so a column is only ever appended to, and what a filter has once selected stays selected: answers
are kept, and continued where rows have come since. Rows that were deleted are not marked here; who searches masks them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, TypeAlias

import apsw
import numpy as np
import numpy.typing as npt
import orjson

from recollect.filters import And, Condition, Filter, Not, Or
from recollect.store.dictionary import NONE, Bools, Codes, Dictionary, Growing
from recollect.store.session import Session

Bits: TypeAlias = npt.NDArray[np.uint8]
"""One bit per row, the lowest of a byte first, as `numpy.packbits` makes them with bitorder "little"."""

COLUMNS_BYTES = 512 << 20
"""Memory of all columns of a collection; the one in use is kept whatever it takes."""
MOST_COLUMNS = 256
RESULTS_BYTES = 64 << 20
"""Memory of the answers kept: 500 filters over a million rows."""

_BLOCK = 8192  # rows read at once
_RECALLED_TEXTS = 65_536  # JSON texts whose code is kept while a column is read
_FEW_CODES = 4  # up to here, comparing codes is quicker than looking each up in a table
_FEW_AMONG = 8  # a tail with fewer distinct values than an eighth of the column's is evaluated for these alone


class Answer(NamedTuple):
    """What a filter selects.

    Attributes:
        bits: of rows [0, rows); the last byte's spare bits are 0.
        rows: how many.
        since: commit from which on it holds; before, a row may have lived that was gone when its column was read.

    """

    bits: Bits
    rows: int
    since: int


class Column:
    """One field of all rows, as codes of its distinct values. Threads take turns."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values = Dictionary()
        self._codes = Growing(np.int32)
        # Rows that held no chunk when they were read, in order, and the commit they were read in: from it on they hold
        # none for good. Each has its own: an earlier session can fill in only the rows that it knows.
        self._absent: Codes = np.empty(0, dtype=np.int32)
        self._read_in: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes taken, about."""
        return self._codes.nbytes + self._values.nbytes + self._absent.nbytes + self._read_in.nbytes

    def select(self, condition: Condition, session: Session, first: int, last: int) -> tuple[Bools, int]:
        """Say which of rows [first, last) satisfy *condition*, and since which commit that holds."""
        with self._lock:
            self._cover(session, last)
            codes = self._codes.view[first:last]
            among = None
            if first and len(codes) * _FEW_AMONG < len(self._values):
                among = np.unique(codes)
            table, since = self._values.table(condition, among), self._since(last)
        return _spread(table, codes), since

    def _cover(self, session: Session, rows: int) -> None:
        """Read what is missing of rows [0, rows) as the session's commit has them."""
        covered = len(self._codes)
        if covered < rows:
            codes, absent = self._read(session, covered, rows)
            self._codes.extend(codes)
            self._absent = np.concatenate((self._absent, absent))
            self._read_in = np.concatenate((self._read_in, np.full(len(absent), session.state.seq)))
        if session.state.seq < self._since(rows):
            self._fill(session, rows)

    def _since(self, rows: int) -> int:
        """Return from which commit on the codes of rows [0, rows) hold."""
        return int(self._read_in[: np.searchsorted(self._absent, rows)].max(initial=0))

    def _fill(self, session: Session, rows: int) -> None:
        """Read again the rows that were gone: the session is of an earlier commit, in which they may live."""
        known = int(np.searchsorted(self._absent, rows))
        gone, codes, still = self._absent[:known], self._codes.view.copy(), [np.empty(0, dtype=np.int32)]
        for run in np.split(gone, np.flatnonzero(np.diff(gone) > 1) + 1):
            first, last = int(run[0]), int(run[-1]) + 1
            codes[first:last], absent = self._read(session, first, last)
            still.append(absent)
        self._codes.replace(codes)
        absent = np.concatenate(still)
        self._absent = np.concatenate((absent, self._absent[known:]))
        self._read_in = np.concatenate((np.full(len(absent), session.state.seq), self._read_in[known:]))

    def _read(self, session: Session, first: int, last: int) -> tuple[Codes, Codes]:
        """Return the codes of rows [first, last), and which of them hold no chunk."""
        codes = np.full(last - first, NONE, dtype=np.int32)
        absent = np.ones(last - first, dtype=np.bool_)
        known: dict[str | None, int] = {None: NONE}
        before = first - 1
        for rows, texts in _blocks(session.metadata_at(self._path, first, last)):
            places = np.array(rows, dtype=np.int64) - first
            if rows[0] <= before or (np.diff(places) < 1).any():  # a damaged tree may lead in a circle
                raise apsw.CorruptError(f"the rows from {rows[0]} on are out of order")
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


class Columns:
    """The columns of one generation, and the answers of the filters asked. For any number of threads.

    A field is read at its first use: about a second per million rows. Those used least recently are dropped beyond
    *memory*.

    Args:
        memory: bytes for columns.
        results: bytes for answers.

    """

    def __init__(self, *, memory: int = COLUMNS_BYTES, results: int = RESULTS_BYTES) -> None:
        self._memory = memory
        self._columns: OrderedDict[tuple[str, ...], Column] = OrderedDict()
        self._answers = _Answers(results)
        self._lock = threading.Lock()

    def cached(self, tree: Filter, seq: int, rows: int) -> Bits | None:
        """Return what `evaluate` would for commit *seq*, if it is known; without a session."""
        answer = self._answers.get(tree)
        if answer is None or answer.rows < rows or seq < answer.since:
            return None
        return _cut(answer, rows)

    def evaluate(self, tree: Filter, session: Session, rows: int) -> Bits:
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
        known = self._answers.get(tree)
        if known is not None and session.state.seq < known.since:
            known = None
        if known is not None and known.rows >= rows:
            return _cut(known, rows)
        begin = known.rows // 8 if known is not None else 0  # bytes that stay
        selected, since = self._select(tree, session, begin * 8, rows)
        bits = np.packbits(selected, bitorder="little")
        if known is not None:
            bits, since = np.concatenate((known.bits[:begin], bits)), max(since, known.since)
        bits.flags.writeable = False
        self._answers.put(tree, Answer(bits, rows, since))
        return bits

    @property
    def nbytes(self) -> int:
        """Bytes that the columns take, about; the answers come on top."""
        return sum(column.nbytes for column in self._columns.values())

    def _select(self, tree: Filter, session: Session, first: int, last: int) -> tuple[Bools, int]:
        if isinstance(tree, Condition):
            return self._column(tree.path, tree, session, first, last)
        if isinstance(tree, Not):
            selected, since = self._select(tree.child, session, first, last)
            return np.logical_not(selected, out=selected), since
        assert isinstance(tree, (And, Or))
        both = np.logical_and if isinstance(tree, And) else np.logical_or
        selected, since = np.full(last - first, isinstance(tree, And), dtype=np.bool_), 0
        for child in tree.children:
            other, later = self._select(child, session, first, last)
            selected, since = both(selected, other, out=selected), max(since, later)
        return selected, since

    def _column(
        self, path: tuple[str, ...], condition: Condition, session: Session, first: int, last: int
    ) -> tuple[Bools, int]:
        with self._lock:
            column = self._columns.setdefault(path, Column(path))
            self._columns.move_to_end(path)
        selected = column.select(condition, session, first, last)
        with self._lock:
            while len(self._columns) > 1 and (len(self._columns) > MOST_COLUMNS or self.nbytes > self._memory):
                self._columns.popitem(last=False)
        return selected


class _Answers:
    """The answers given last, within a limit of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._answers: OrderedDict[Filter, tuple[Answer, int]] = OrderedDict()  # with the bytes it takes
        self._lock = threading.Lock()

    def get(self, tree: Filter) -> Answer | None:
        with self._lock:
            found = self._answers.get(tree)
            if found is None:
                return None
            self._answers.move_to_end(tree)
            return found[0]

    def put(self, tree: Filter, answer: Answer) -> None:
        with self._lock:
            _, before = self._answers.pop(tree, (None, 0))
            weight = _weight(tree, answer)
            self._answers[tree] = answer, weight
            self._taken += weight - before
            while self._taken > self._limit:
                _, (_, weight) = self._answers.popitem(last=False)
                self._taken -= weight


def _weight(tree: Filter, answer: Answer) -> int:
    """Return about how many bytes keeping an answer takes, its filter's lists included."""
    return answer.bits.nbytes + tree.size.bytes


def _cut(answer: Answer, rows: int) -> Bits:
    """Return the bits of rows [0, rows) of an answer for at least as many."""
    if answer.rows == rows:
        return answer.bits
    bits: Bits = answer.bits[: -(-rows // 8)].copy()
    if rows % 8:
        bits[-1] &= (1 << rows % 8) - 1
    bits.flags.writeable = False
    return bits


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


def _blocks(records: Iterator[tuple[int, str | None]]) -> Iterator[tuple[tuple[int, ...], tuple[str | None, ...]]]:
    while block := list(islice(records, _BLOCK)):
        rows, texts = zip(*block, strict=True)
        yield rows, texts
