"""Finding chunks by their words: BM25 over an FTS5 table that is part of every commit.

The table holds no text (``content=''``), only which words are in which row; what a row's words count for is computed
from its text. A search goes in two steps, because FTS5 scores every row that holds any word of the question, and at a
million chunks the common ones make that most of a second (eval/results/lexical.md):

1. the rare words retrieve candidates, by FTS5's own BM25;
2. all words rank them: BM25 as Lucene has it (Robertson & Zaragoza 2009, §3; idf never negative, so that words in more
   than half of all chunks, which FTS5 ignores, still tell equals apart), from the candidates' texts.

A question is data: it is cut into words by the tokenizer that cut the chunks, and FTS5 only sees single quoted words.

Rejected: ``detail=none``, less than half the size, because FTS5 then knows no frequencies, and a single word that ten
thousand chunks hold would retrieve any hundred of them; a list of stop words, which is of one language; a Python
function in the SQL, which costs microseconds for every matching row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import apsw
import apsw.fts5
import numpy as np
import numpy.typing as npt
import orjson

from recollect.errors import InvalidInput
from recollect.layout import LEXICAL, Lexical

Found: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Rows, best first, and their scores."""

K1, B = 1.2, 0.75
SPARE = 100
"""Rows that are ranked by all words beyond those wanted. Each costs its text to be cut into words, some 25 µs. Twice
as many moved nDCG@10 on SciFact and SQuAD-dev by less than .003."""

MAX_CHARACTERS = 32_768
MAX_WORDS = 64
"""Different words of a question that are looked at: its rarest."""

RARE_SHARE, RARE_ROWS = 20, 200
"""A word retrieves when at most one chunk in twenty holds it, or 200 chunks; commoner ones rank."""

POSTINGS = 100_000
"""Rows that the retrieving words may hold together, beyond the first; FTS5 scores one in half a microsecond."""

_FEW_POSTINGS = 10_000  # FTS5 scores them sooner than rows could be told apart
_PROMISING = 10  # times the rows wanted
_REMEMBERED = 1000  # counting a word in fewer rows than this costs less than remembering it is worth
_DRIFT = 6  # what was counted holds until the collection has grown or shrunk by one part in 2^6
_TOKENIZERS: dict[Lexical, tuple[str, ...]] = {
    "porter": ("porter", "unicode61", "remove_diacritics", "2"),
    "unicode61": ("unicode61", "remove_diacritics", "2"),
    "trigram": ("trigram", "remove_diacritics", "1"),
}


class Word(NamedTuple):
    """A word of a question.

    Attributes:
        token: as it is indexed.
        quoted: as it is asked for, in FTS5's quotes. It is what the user wrote: a stem is not stemmed again.
        chunks: that hold it, of those in the index.

    """

    token: str
    quoted: str
    chunks: int


class Corpus(NamedTuple):
    """What a commit holds: rows minted, live chunks."""

    rows: int
    live: int

    def is_near(self, other: Corpus) -> bool:
        """Say whether what was counted in one serves for the other: exactly the same, when they are small."""
        return all(abs(one - two) <= two >> _DRIFT for one, two in zip(self, other, strict=True))


class Counted:
    """Numbers that are slow to count anew for every search, of one generation; see `Corpus.is_near`."""

    def __init__(self) -> None:
        self._kept: dict[str | None, tuple[Corpus, int]] = {}

    def get(self, what: str | None, corpus: Corpus, count: Callable[[], int]) -> int:
        """Return the number for a word as it is indexed, or, for None, of tokens in all chunks."""
        kept = self._kept.get(what)
        if kept is not None and corpus.is_near(kept[0]):
            return kept[1]
        value = count()
        if value >= _REMEMBERED:
            self._kept[what] = corpus, value
        return value


def schema(lexical: Lexical) -> str:
    """Return the statements that create the index; none for "none".

    With larger pages, a larger buffer and later merges than FTS5's own, commits of 1,000 chunks take 16 ms instead of
    22, merges included, and the longest of them no more.
    """
    if lexical == "none":
        return ""
    tokenizer = " ".join(_TOKENIZERS[lexical])
    return (
        f"CREATE VIRTUAL TABLE lexical USING fts5("
        f"text, content='', contentless_delete=1, detail=full, tokenize='{tokenizer}');"
        "INSERT INTO lexical(lexical, rank) VALUES ('pgsz', 8000), ('hashsize', 8388608), ('automerge', 8);"
    )


def tokenizer_of(reading: apsw.Connection | apsw.Cursor) -> Lexical:
    """Return what the index of a database was created with."""
    found: Any = reading.execute("SELECT sql FROM sqlite_schema WHERE name = 'lexical'").fetchone()
    if found is None:
        return "none"
    for name, arguments in _TOKENIZERS.items():
        if isinstance(found[0], str) and f"tokenize='{' '.join(arguments)}'" in found[0]:
            return name
    raise apsw.CorruptError(f"its lexical index is {found[0]!r:.200}")


def refresh(cursor: apsw.Cursor) -> None:
    """Let FTS5 look at the index as of this transaction, before SQLite is asked whether it is intact.

    A query does; `integrity_check` (SQLite 3.54) goes by what the connection saw last, and calls segments that another
    connection has dropped since, by deleting all their rows, corrupt.
    """
    if tokenizer_of(cursor) != "none":
        cursor.execute("SELECT rowid FROM lexical WHERE lexical MATCH 'a' LIMIT 1").fetchall()


def put(connection: apsw.Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Index (row, text), inside the caller's transaction."""
    connection.executemany("INSERT INTO lexical(rowid, text) VALUES (?,?)", rows)


def bury(connection: apsw.Connection, rows: Sequence[tuple[int]]) -> None:
    """Take rows out of the index, inside the caller's transaction."""
    connection.executemany("DELETE FROM lexical WHERE rowid = ?", rows)


def search(
    cursor: apsw.Cursor,
    text: str,
    *,
    count: int,
    corpus: Corpus,
    counted: Counted,
    allowed: npt.NDArray[np.uint8] | None = None,
) -> Found:
    """Find chunks by the words of *text*.

    Args:
        cursor: inside a read transaction.
        text: any text up to `MAX_CHARACTERS`; nothing in it has a meaning to FTS5. Of more than `MAX_WORDS` different
            words, the rarest count. A word counts once, however often it is asked.
        count: rows wanted.
        corpus: of the transaction's commit.
        counted: of the generation.
        allowed: one bit per row of the commit, as `numpy.packbits` makes them with ``bitorder="little"``; None for all.

    Returns:
        Exactly min(count, allowed rows that hold any of the words) rows, best first, equal scores by row, with their
        BM25 of all words, from `K1` and `B`. They are the rows of the best BM25, except where the rare words alone put
        more than `SPARE` others before them; when there are too few with rare words, rows with common ones follow, of
        equals the oldest. In how many chunks a common word is, and how long chunks are, may have been counted when the
        collection was a 64th smaller or larger. Nothing for a text without words.

    Raises:
        InvalidInput: the text is too long, or the collection has no lexical index.

    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"the query has {len(text):,} characters; at most {MAX_CHARACTERS:,} can be searched for")
    tokenizer = tokenizer_of(cursor)
    if tokenizer == "none":
        raise InvalidInput(
            "this collection has no lexical index (lexical='none'); search it with mode=\"dense\", or create another "
            f"with lexical= one of {', '.join(map(repr, LEXICAL[:-1]))}"
        )
    reading = _Reading(cursor, tokenizer, corpus, counted)
    words = reading.words(text)
    if not words or count < 1:
        return np.empty(0, dtype=np.int64), np.empty(0)
    rows = reading.candidates(words, count, allowed)
    return reading.ranked(rows, words, count)


class _Reading:
    """One search: the connection, its tokenizer, and the commit."""

    def __init__(self, cursor: apsw.Cursor, tokenizer: Lexical, corpus: Corpus, counted: Counted) -> None:
        name, *arguments = _TOKENIZERS[tokenizer]
        self._cursor = cursor
        self._tokenizer = cursor.connection.fts5_tokenizer(name, arguments)
        self._corpus = corpus
        self._counted = counted

    def words(self, text: str) -> list[Word]:
        """Return the different words that any chunk holds, the rarest first, at most `MAX_WORDS`."""
        # A lone surrogate is in no stored text: as a question mark it separates words.
        data = text.encode(errors="replace")
        asked: dict[str, str] = {}
        tokens: Any = self._tokenizer(data, apsw.FTS5_TOKENIZE_QUERY, None)
        for start, end, token, *_ in tokens:
            if b"\0" not in data[start:end]:  # a trigram over a NUL, which ends an FTS5 query
                asked.setdefault(token, apsw.fts5.quote_name(data[start:end].decode(errors="replace"), '"'))
        found = [Word(token, quoted, self._chunks(token, quoted)) for token, quoted in asked.items()]
        return sorted((word for word in found if word.chunks), key=lambda word: word.chunks)[:MAX_WORDS]

    def candidates(self, words: list[Word], count: int, allowed: npt.NDArray[np.uint8] | None) -> list[int]:
        """Return the rows to rank: those the rare words find, and, while they are too few, those of the others."""
        wanted = count + SPARE
        mask = None if allowed is None else np.unpackbits(allowed, count=self._corpus.rows, bitorder="little")
        if mask is not None and np.count_nonzero(mask) <= wanted:
            return list(np.flatnonzero(mask).tolist())
        rare = self._rare(words)
        flags = None if mask is None else mask.tobytes()
        found = self._matching(
            words[:rare], wanted, self._promising(words[:rare], wanted, mask) or flags, "ORDER BY bm25(lexical), rowid"
        )
        seen = set(found)
        for word in words[rare:]:
            if len(found) >= count:
                break
            fresh = [row for row in self._matching([word], wanted, flags, "ORDER BY rowid") if row not in seen]
            found += fresh
            seen.update(fresh)
        return found

    def _promising(self, words: list[Word], wanted: int, mask: npt.NDArray[np.uint8] | None) -> bytes | None:
        """Return which rows are worth FTS5's scoring, by the weights of the words they hold; None for all.

        That a row holds a word is read in a fifth of the time that scoring it takes. Of equals all are kept, or
        none: how often they hold a word is for the scoring to say.
        """
        if len(words) == 1 or sum(word.chunks for word in words) < _FEW_POSTINGS:
            return None
        sums = np.zeros(self._corpus.rows, dtype=np.float32)
        for word, weight in zip(words, self._weights(words), strict=True):
            sums[self._holding(word)] += weight
        if mask is not None:
            sums *= mask
        positive = sums[sums > 0]
        keep = _PROMISING * wanted
        if len(positive) <= keep:
            return None
        least = float(np.partition(positive, -keep)[-keep])
        return (sums >= least).tobytes()

    def _holding(self, word: Word) -> npt.NDArray[np.int64]:
        # One string of digits, every row as wide as the next, is read by numpy in less than half the time that rows
        # take to become Python's.
        base = 10 ** len(str(self._corpus.rows))
        # No other rows than there are: a damaged index may name any, whose digits would be of another width.
        sql = "SELECT group_concat(rowid + ?2, '') FROM lexical WHERE lexical MATCH ?1 AND rowid >= 0 AND rowid < ?3"
        digits: Any = self._cursor.execute(sql, (word.quoted, base, self._corpus.rows)).get
        if digits is None:  # counted a while ago; whatever held the word is gone
            return np.empty(0, dtype=np.int64)
        columns = np.frombuffer(digits.encode(), dtype=np.uint8).reshape(-1, len(str(base)))[:, 1:]
        rows = np.zeros(len(columns), dtype=np.int64)
        for column in columns.T:
            rows *= 10
            rows += column - np.uint8(ord("0"))
        return rows

    def ranked(self, rows: list[int], words: list[Word], count: int) -> Found:
        """Rank rows by all words, from their texts."""
        sql = "SELECT row, text FROM json_each(?) AS wanted CROSS JOIN chunks ON chunks.row = wanted.value"
        kept, lengths, frequencies = [], [], []
        for row, text in self._cursor.execute(sql, (orjson.dumps(rows).decode(),)):
            if not isinstance(text, str):
                raise apsw.CorruptError(f"the text of the chunk in row {row} is not what was stored")
            tokens: Any = self._tokenizer(
                text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
            )
            numbers = Counter(tokens)
            kept.append(row)
            lengths.append(len(tokens))
            frequencies.append([numbers[word.token] for word in words])
        scores = self._bm25(np.array(frequencies, dtype=np.float64), np.array(lengths), words)
        found = np.array(kept, dtype=np.int64)
        order = np.lexsort((found, -scores))[: min(count, np.count_nonzero(scores))]
        return found[order], scores[order]

    def _bm25(
        self, frequencies: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64], words: list[Word]
    ) -> npt.NDArray[np.float64]:
        if not len(lengths):
            return np.empty(0)
        mean = self._counted.get(None, self._corpus, lambda: self._tokens(words)) / self._corpus.live
        damping = K1 * (1 - B + B * lengths / mean)
        return np.asarray((frequencies * (K1 + 1) / (frequencies + damping[:, None])) @ self._weights(words))

    def _weights(self, words: list[Word]) -> npt.NDArray[np.float64]:
        chunks = np.array([word.chunks for word in words], dtype=np.float64)
        return np.asarray(np.log1p(np.maximum(self._corpus.live - chunks + 0.5, 0.5) / (chunks + 0.5)))

    def _rare(self, words: list[Word]) -> int:
        """Return how many of the words, which come rarest first, retrieve: one at least."""
        limit, spent = max(self._corpus.live // RARE_SHARE, RARE_ROWS), 0
        for number, word in enumerate(words):
            spent += word.chunks
            if number and (word.chunks > limit or spent > POSTINGS):
                return number
        return len(words)

    def _matching(self, words: list[Word], limit: int, flags: bytes | None, order: str) -> list[int]:
        question = " OR ".join(word.quoted for word in words)
        # One byte per row, because SQLite can cut a byte out of a blob, and has no function that tests a bit.
        masked = "" if flags is None else "AND substr(?2, rowid + 1, 1) = x'01'"
        sql = f"SELECT rowid FROM lexical WHERE lexical MATCH ?1 {masked} {order} LIMIT ?3"
        found: list[Any] = self._cursor.execute(sql, (question, flags, limit)).fetchall()
        return [row for (row,) in found]

    def _chunks(self, token: str, quoted: str) -> int:
        return self._counted.get(
            token, self._corpus, lambda: self._number("SELECT count(*) FROM lexical WHERE lexical MATCH ?", quoted)
        )

    def _tokens(self, words: list[Word]) -> int:
        """Ask FTS5 for the number of tokens in all chunks; it tells functions that stand beside a match."""
        self._cursor.connection.register_fts5_function("token_total", _token_total)
        sql = "SELECT token_total(lexical) FROM lexical WHERE lexical MATCH ? LIMIT 1"
        total = self._cursor.execute(sql, (" OR ".join(word.quoted for word in words),)).get
        # Of words that were counted a while ago none may be left; then no score depends on the length of texts.
        return total if isinstance(total, int) and total > 0 else 1

    def _number(self, sql: str, value: str) -> int:
        number = self._cursor.execute(sql, (value,)).get
        assert isinstance(number, int)  # a word that was counted has a row
        return number


def _token_total(extension: apsw.FTS5ExtensionApi, *_: object) -> int:
    return extension.column_total_size(0)
