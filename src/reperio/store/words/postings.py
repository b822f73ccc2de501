"""Ask FTS5 about single words: which rows hold them, how often, and how long texts are.

Rows come out of SQL as one string of digits, every row as wide as the next: numpy reads that in less than half the
time that rows take to become Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import apsw
import numpy as np
import numpy.typing as npt
import orjson

Rows: TypeAlias = npt.NDArray[np.int64]

_INSTANCES = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.lexical_instances USING fts5vocab(main, lexical, instance)"
_LONGEST_VARINT = 9
_MOST_TOKENS = (1 << 31) - 1  # of a text: SQLite keeps none of more bytes, and lengths are added up as int32
_TOGETHER = 1000  # words of up to so many chunks are read in one statement


class Word(NamedTuple):
    """A word of a question.

    Attributes:
        token: as it is indexed.
        quoted: as it is asked for, in FTS5's quotes. It is what the user wrote: a stem is not stemmed again.
        times: that it is asked for.
        chunks: that hold it, of those that are counted.
    """

    token: str
    quoted: str
    times: int
    chunks: int = 0


class Occurrences(NamedTuple):
    """The rows that hold words: three arrays of one length, by word and then by row.

    Attributes:
        which: places in the list of words.
        rows: that hold them.
        times: how often.
    """

    which: npt.NDArray[np.int64]
    rows: Rows
    times: npt.NDArray[np.int64]


def prepare(connection: apsw.Connection) -> None:
    """Let a connection for reading look at single occurrences of words, before its first transaction.

    The table is the connection's own: it is in no file. Made inside a transaction, it would end with it, and with it
    all that the connection has prepared. It costs 0.1 ms, and does not ask whether there is a lexical index.
    """
    reading_only = connection.pragma("query_only")
    connection.pragma("query_only", False)
    connection.pragma("temp_store", 2)  # in memory: there may be no place for files
    connection.execute(_INSTANCES)
    connection.pragma("query_only", reading_only)


class Postings:
    """The words of one commit.

    Args:
        cursor: inside a read transaction, of a connection made ready by `prepare`.
        rows: minted until that commit.
    """

    def __init__(self, cursor: apsw.Cursor, rows: int) -> None:
        self._cursor = cursor
        self._number_of_rows = rows
        self._base = 10 ** len(str(rows))

    def count(self, word: Word) -> int:
        """Return how many rows hold a word."""
        return self._number("SELECT count(*) FROM lexical WHERE lexical MATCH ?", (word.quoted,))

    def holding(self, word: Word, first: int, flags: bytes) -> Rows:
        """Return the rows from *first* on that hold a word, of those flagged, in order.

        Args:
            word: to look for.
            first: row; FTS5 skips what is before it.
            flags: one byte per row, 1 where it may be returned.
        """
        # One byte per row, because SQLite can cut a byte out of a blob, and has no function that tests a bit.
        sql = (
            "SELECT group_concat(rowid + ?2, '') FROM lexical "
            "WHERE lexical MATCH ?1 AND rowid BETWEEN ?3 AND ?4 AND substr(?5, rowid + 1, 1) = x'01'"
        )
        values = word.quoted, self._base, first, flags.rfind(b"\1"), flags
        return self._rows(sql, values, width=len(str(self._base)))

    def occurrences(self, words: Sequence[Word]) -> Occurrences:
        """Return which rows hold which of the words, which come rarest first, and how often.

        Rare ones are read in one statement, because each statement costs 20 µs in addition to what it reads; the digits
        that tell them apart cost more where there are many rows.
        """
        rare = sum(word.chunks <= _TOGETHER for word in words)
        parts = [self._together(words[:rare])]  # of none none
        parts += [self._alone(place, words[place]) for place in range(rare, len(words))]
        return Occurrences(*(np.concatenate(some) for some in zip(*parts, strict=True)))

    def _alone(self, place: int, word: Word) -> Occurrences:
        # No other rows than there are: a damaged index may name any, whose digits would be of another width.
        sql = (
            "SELECT group_concat(doc + ?2, '') FROM temp.lexical_instances WHERE term = ?1 AND doc BETWEEN 0 AND ?3 - 1"
        )
        each = self._rows(sql, (word.token, self._base, self._number_of_rows), width=len(str(self._base)))
        rows, times = _counted(each)
        return Occurrences(np.full(len(rows), place, dtype=np.int64), rows, times)

    def _together(self, words: Sequence[Word]) -> Occurrences:
        tokens = orjson.dumps([word.token for word in words]).decode()
        sql = (
            "SELECT group_concat((wanted.key + ?2) * ?3 + doc, '') FROM json_each(?1) AS wanted "
            "CROSS JOIN temp.lexical_instances AS held ON held.term = wanted.value WHERE doc BETWEEN 0 AND ?4 - 1"
        )
        first = 10 ** len(str(len(words)))
        values = tokens, first, self._base, self._number_of_rows
        found, times = _counted(self._rows(sql, values, width=len(str(first * self._base))))
        return Occurrences(*np.divmod(found, self._base), times)

    def oldest(self, words: Sequence[Word], limit: int, mask: npt.NDArray[np.uint8] | None) -> list[int]:
        """Return up to *limit* rows that hold any of some words, and are 1 in *mask* where there is one, in order."""
        masked = "" if mask is None else "AND substr(?2, rowid + 1, 1) = x'01'"
        sql = f"SELECT rowid FROM lexical WHERE lexical MATCH ?1 {masked} ORDER BY rowid LIMIT ?3"
        asked = " OR ".join(word.quoted for word in words)
        found: list[Any] = self._cursor.execute(
            sql, (asked, None if mask is None else mask.tobytes(), limit)
        ).fetchall()
        return [row for (row,) in found]

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return how many tokens the texts of *rows* have, which are distinct and in order."""
        if not len(rows):
            return np.empty(0, dtype=np.int64)
        sql = (
            "SELECT group_concat(hex(sz), '') FROM json_each(?) AS wanted "
            "CROSS JOIN lexical_docsize AS sizes ON sizes.id = wanted.value"
        )
        digits: Any = self._cursor.execute(sql, (orjson.dumps(rows.tolist()).decode(),)).get
        found = _varints(bytes.fromhex(digits or ""))
        if len(found) != len(rows):
            raise apsw.CorruptError(f"{len(rows)} chunks have {len(found)} lengths in the lexical index")
        if found.max() > _MOST_TOKENS:
            raise apsw.CorruptError(f"a chunk has the length {found.max()} in the lexical index")
        return found

    def tokens(self, words: Sequence[Word]) -> int:
        """Return the number of tokens in all chunks.

        FTS5 tells this only to functions called with a match. Where no chunk holds any of *words*, it is read from
        FTS5's own record of averages: the number of rows, then that of tokens.
        """
        if not words:
            record: Any = self._cursor.execute("SELECT hex(block) FROM lexical_data WHERE id = 1").get
            numbers = _varints(bytes.fromhex(record or ""))
            return max(1, int(numbers[1])) if len(numbers) > 1 else 1
        self._cursor.connection.register_fts5_function("token_total", _token_total)
        sql = "SELECT token_total(lexical) FROM lexical WHERE lexical MATCH ? LIMIT 1"
        total = self._cursor.execute(sql, (" OR ".join(word.quoted for word in words),)).get
        # Of words that were counted a while ago none may be left; then no score depends on the length of texts.
        return total if isinstance(total, int) and total > 0 else 1

    def _rows(self, sql: str, values: tuple[Any, ...], *, width: int) -> Rows:
        digits: Any = self._cursor.execute(sql, values).get
        if digits is None:
            return np.empty(0, dtype=np.int64)
        columns = np.frombuffer(digits.encode(), dtype=np.uint8).reshape(-1, width)[:, 1:]
        rows = np.zeros(len(columns), dtype=np.int64)
        for column in columns.T:
            rows *= 10
            rows += column - np.uint8(ord("0"))
        return rows

    def _number(self, sql: str, values: tuple[Any, ...]) -> int:
        number = self._cursor.execute(sql, values).get
        assert isinstance(number, int)  # it counts
        return number


def _counted(each: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Return the distinct numbers of *each*, in which equal ones follow each other, and how often they are there."""
    starts = np.flatnonzero(np.concatenate(([True], each[1:] != each[:-1]))) if len(each) else each
    return each[starts], np.diff(starts, append=len(each))


def _varints(data: bytes) -> npt.NDArray[np.int64]:
    """Read SQLite's variable-length integers: seven bits a byte, the highest first, the last byte below 128."""
    octets = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(octets < 128)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    widths = ends - starts + 1
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1 or widths.max() >= _LONGEST_VARINT):
        raise apsw.CorruptError("the lexical index holds lengths that are none")
    values = np.zeros(len(ends), dtype=np.int64)
    for place in range(int(widths.max(initial=0))):
        more = widths > place
        values[more] = values[more] << 7 | (octets[starts[more] + place] & 127)
    return values


def _token_total(extension: apsw.FTS5ExtensionApi, *_: object) -> int:
    return extension.column_total_size(0)
