"""Finding chunks by their words: BM25 over an FTS5 table that is part of every commit.

The table holds no text (``content=''``), only which words are in which row; what a row's words count for is computed
from its text. A search goes in two steps, because FTS5 scores every row that holds any word of the question, and at a
million chunks the common ones make that most of a second (eval/results/lexical.md):

1. the rare words retrieve candidates, by the BM25 of these words alone;
2. all words rank them, from the candidates' texts.

BM25 is Lucene's (Robertson & Zaragoza 2009, §3; idf never negative, so that words in more than half of all chunks,
which FTS5 ignores, still tell equals apart; a word that is asked twice weighs twice). Under a scope all that is
counted is counted within it (word_counts.py): FTS5's own BM25, which goes by the whole table, would tell one tenant of
another.

A question is data: it is cut into words by the tokenizer that cut the chunks, and FTS5 only sees single quoted words.

Rejected: ``detail=none``, less than half the size, because FTS5 then knows no frequencies, and a single word that ten
thousand chunks hold would retrieve any hundred of them; stop words left out of the index, which no question could ask
for again; a Python function in the SQL, which costs microseconds for every matching row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import apsw.fts5
import numpy as np
import numpy.typing as npt
import orjson

from reperio.errors import InvalidInput, warn_caller
from reperio.layout import Lexical
from reperio.printable import one_line
from reperio.store.words.counts import FEW, Bits, Corpus, Counts, Scope, Source, Statistics, Texts, Whole
from reperio.store.words.merging import MAX_WORDS, SPARE
from reperio.store.words.postings import Postings, Rows, Word
from reperio.store.words.tokenizers import CHOICES, Tokenizer, tokenizer_of

Found: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Rows, best first, and their scores."""

Scores: TypeAlias = npt.NDArray[np.float64]

K1, B = 1.2, 0.75
MAX_CHARACTERS = 32_768
MAX_COUNTED = 1024
"""Different words of a question that are looked up: those asked most often, of equals the first."""
LONG = 20
"""Words from which on a question is long, and stop words are left out of it (`STOP_WORDS`). In long ones they are
repeated, and outweigh what is asked for; in short ones leaving them out costs .003 nDCG@10 (SQuAD-dev)."""

_ENGLISH = (
    "a an and ar as at be but by for if in into is it no not of on or such that the their then there these thei thi to "
    "wa will with"
)
STOP_WORDS: dict[Lexical, frozenset[str]] = {"porter": frozenset(_ENGLISH.split())}
"""Lucene's English stop words, as the tokenizer of English cuts them; the other tokenizers are of no language."""

RARE_SHARE, RARE_ROWS = 20, 200
"""A word retrieves when at most one chunk in twenty holds it, or 200 chunks; commoner ones rank."""

POSTINGS = 100_000
"""Rows that the retrieving words may hold together, beyond the first."""

UNANSWERED = "a question is not answered by words"
"""What a warning says, before the reason."""

_PROMISING = 10  # times the rows wanted
_FEW_NAMES = 4  # looked for one by one sooner than all tokens of a text are counted
_FEW_ROWS = 10_000  # sorted sooner than counted in an array of all rows


def refresh(cursor: apsw.Cursor) -> None:
    """Let FTS5 look at the index as of this transaction, before SQLite is asked whether it is intact.

    A query does; `integrity_check` (SQLite 3.54) goes by what the connection saw last, and calls segments that another
    connection has dropped since, by deleting all their rows, corrupt.
    """
    if tokenizer_of(cursor) is not None:
        cursor.execute("SELECT rowid FROM lexical WHERE lexical MATCH 'a' LIMIT 1").fetchall()


def put(connection: apsw.Connection, tokenizer: Tokenizer, rows: Iterable[tuple[int, str]]) -> None:
    """Index (row, text), inside the caller's transaction."""
    indexed = [(row, tokenizer.of_chunk(text)) for row, text in rows]
    connection.executemany(f"INSERT INTO lexical(rowid, {tokenizer.column}) VALUES (?,?)", indexed)


def bury(connection: apsw.Connection, rows: Sequence[tuple[int]]) -> None:
    """Take rows out of the index, inside the caller's transaction."""
    connection.executemany("DELETE FROM lexical WHERE rowid = ?", rows)


def search(
    cursor: apsw.Cursor,
    text: str,
    *,
    count: int,
    corpus: Corpus,
    counted: Counts,
    allowed: Bits | None = None,
    scope: Bits | None = None,
) -> Found:
    """Find chunks by the words of *text*.

    Args:
        cursor: inside a read transaction.
        text: any text up to `MAX_CHARACTERS`; nothing in it has a meaning to FTS5. A word counts as often as it is
            asked for. At most `MAX_COUNTED` different words are looked up, and at most `MAX_WORDS` score. Of a question
            of `LONG` words or more, `STOP_WORDS` are left out, unless it has no others.
        count: rows wanted.
        corpus: of the transaction's commit.
        counted: of the generation.
        allowed: one bit per row of the commit, as `numpy.packbits` makes them with ``bitorder="little"``; None for all.
        scope: bits of the live rows within which words and chunks are counted, of which *allowed* is a part; None for
            the whole collection. The answer is that of a collection which holds no other chunks.

    Returns:
        Exactly min(count, allowed rows that hold any of the words) rows, best first, equal scores by row, with their
        BM25 of all words, from `K1` and `B`. They are the rows of the best BM25, except where the rare words alone put
        more than `SPARE` others before them; when there are too few with rare words, rows with common ones follow, of
        equals the oldest. Without a scope, in how many chunks a common word is, and how long chunks are, may have been
        counted when the collection was a 64th smaller or larger. Nothing for a text without words.

    Warns:
        ReperioWarning: the text has no words, or the index cannot find some of them.

    Raises:
        InvalidInput: the text is too long, or the collection has no lexical index.
    """
    reading = Reading.begin(cursor, text, corpus)
    asked, why = reading.asked(
        text
    )  # also of no chunks: whether there are any outside of a scope must not show in a warning
    if why:
        where = Path(cursor.connection.filename).parents[1]
        warn_caller(one_line(f"{where}: {UNANSWERED}: {why}"))
    if count < 1 or not corpus.live:
        return np.empty(0, dtype=np.int64), np.empty(0)
    source = reading.source(scope, counted)
    words = reading.words(asked, source)
    if not words:
        return np.empty(0, dtype=np.int64), np.empty(0)
    question = Question(words, Statistics(source.live, source.tokens(words), tuple(word.chunks for word in words)))
    return reading.ranked(reading.candidates(question, count, allowed, source), question, count)


class Question:
    """Words, and what they are worth.

    Args:
        words: that some chunk holds, the rarest first.
        statistics: of these words, in this order.

    Attributes:
        weights: what each can give at most, divided by `K1` + 1.
        rare: how many of the words retrieve: one at least.
    """

    def __init__(self, words: list[Word], statistics: Statistics) -> None:
        self.words = words
        self.weights = statistics.weights(words)
        self.rare = _rare(statistics)
        self._mean = max(statistics.tokens, 1) / statistics.live  # a damaged index may say 0

    def damping(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return what the number of occurrences is weighed against in texts of so many tokens."""
        return np.asarray(K1 * (1 - B + B * lengths / self._mean))


class Reading:
    """One search: the connection, its tokenizer, and the commit."""

    def __init__(self, cursor: apsw.Cursor, kind: Tokenizer, corpus: Corpus) -> None:
        name, *arguments = kind.arguments
        self._cursor = cursor
        self._stop_words = STOP_WORDS.get(kind.name, frozenset())
        self._kind = kind
        self._tokenizer = cursor.connection.fts5_tokenizer(name, arguments)
        self._corpus = corpus
        self._postings = Postings(cursor, corpus.rows)
        self._read: dict[int, Counter[str]] = {}

    def source(self, scope: Bits | None, counted: Counts) -> Source:
        """Return where words are counted."""
        if scope is None:
            return Whole(self._postings, self._corpus, counted.whole)
        mask = np.unpackbits(scope, count=self._corpus.rows, bitorder="little").view(np.bool_)  # no spare bits
        if np.count_nonzero(mask) <= FEW:
            return Texts(self.tokens(np.flatnonzero(mask).tolist()))
        return Scope(self._postings, self._corpus, mask, counted.scope, self.tokens)

    def asked(self, text: str) -> tuple[list[Word], str]:
        """Return the different words of a question, those asked most often first, and why some cannot be found."""
        # A lone surrogate is in no stored text: as a question mark it separates words.
        data = self._kind.of_question(text).encode(errors="replace")
        quoted: dict[str, str] = {}
        times: Counter[str] = Counter()
        tokens: Any = self._tokenizer(data, apsw.FTS5_TOKENIZE_QUERY, None)
        for start, end, token, *_ in tokens:
            times[token] += 1
            if token not in quoted:
                quoted[token] = data[start:end].decode(errors="replace")
        why = self._kind.unanswerable(text, len(tokens)) or ""
        # A trigram over a NUL, which ends an FTS5 query, is left out.
        asked = [token for token, _ in times.most_common() if "\0" not in quoted[token]]
        if len(tokens) >= LONG:
            asked = [token for token in asked if token not in self._stop_words] or asked
        return [
            Word(token, apsw.fts5.quote_name(quoted[token], '"'), times[token]) for token in asked[:MAX_COUNTED]
        ], why

    @classmethod
    def begin(cls, cursor: apsw.Cursor, text: str, corpus: Corpus) -> Reading:
        """Check that the question can be asked here at all."""
        if len(text) > MAX_CHARACTERS:
            raise InvalidInput(
                f"the query has {len(text):,} characters; at most {MAX_CHARACTERS:,} can be searched for"
            )
        tokenizer = tokenizer_of(cursor)
        if tokenizer is None:
            raise InvalidInput(
                "this collection has no lexical index (lexical='none'); search it with mode=\"dense\", or create "
                f"another with lexical= one of {', '.join(map(repr, CHOICES))}"
            )
        return cls(cursor, tokenizer, corpus)

    @staticmethod
    def words(found: list[Word], source: Source) -> list[Word]:
        """Return those that any chunk holds, the rarest first, at most `MAX_WORDS`."""
        held = [word._replace(chunks=source.chunks(word)) for word in found]
        return sorted((word for word in held if word.chunks), key=lambda word: word.chunks)[:MAX_WORDS]

    def candidates(self, question: Question, count: int, allowed: Bits | None, source: Source) -> list[int]:
        """Return the rows to rank: those the rare words find, and, while they are too few, those of the others."""
        wanted = count + SPARE
        mask = None if allowed is None else np.unpackbits(allowed, count=self._corpus.rows, bitorder="little")
        if mask is not None and np.count_nonzero(mask) <= wanted:
            return list(np.flatnonzero(mask).tolist())
        rare, common = question.words[: question.rare], question.words[question.rare :]
        if isinstance(source, Whole) and sum(word.chunks for word in rare) <= wanted:  # all of them will be ranked
            found = self._postings.oldest(rare, wanted, mask)
        else:
            found = self._best(question, wanted, mask, source)[0].tolist()
        if len(found) >= count:
            return found
        seen = set(found)
        for word in common:
            fresh = [row for row in self._postings.oldest([word], wanted, mask) if row not in seen]
            found += fresh
            seen.update(fresh)
            if len(found) >= count:
                break
        return found

    def listed(
        self, question: Question, count: int, mask: npt.NDArray[np.uint8] | None, source: Source
    ) -> tuple[list[int], Scores, list[list[int]]]:
        """Return what `candidates` chooses from, where others choose as well.

        Returns:
            The rows that the rare words find, their scores by these words, and, as far as these rows are too few, the
            oldest rows of each common word.
        """
        wanted = count + SPARE
        rare, common = question.words[: question.rare], question.words[question.rare :]
        if isinstance(source, Whole) and sum(word.chunks for word in rare) <= wanted:  # of all, so none is left out
            found = self._postings.oldest(rare, wanted, mask)
            scores = np.zeros(len(found))
        else:
            best, scores = self._best(question, wanted, mask, source, scored=True)
            found = best.tolist()
        seen, others = set(found), list[list[int]]()
        for word in common:
            if len(seen) >= count:
                break
            others.append(self._postings.oldest([word], wanted, mask))
            seen.update(others[-1])
        return found, scores, others

    def _best(
        self,
        question: Question,
        wanted: int,
        mask: npt.NDArray[np.uint8] | None,
        source: Source,
        *,
        scored: bool = False,
    ) -> tuple[Rows, Scores]:
        """Return the best rows by the BM25 of the rare words alone, equal scores by row, and, if *scored*, this BM25.

        The lengths of texts are looked up for those alone that would be promising if all were equally long; of equals
        for all or none.
        """
        weights = question.weights[: question.rare]
        which, every, times = source.occurrences(question.words[: question.rare])
        if mask is not None:
            inside = mask[every].view(np.bool_)
            which, every, times = which[inside], every[inside], times[inside]
        rows, sums = self._summed(every, weights[which] * times / (times + K1))
        keep = _PROMISING * wanted
        if len(rows) > keep:
            rows = rows[sums >= np.partition(sums, -keep)[-keep]]
        if len(rows) <= wanted and not scored:
            return rows, sums  # of no account: none of them is left out
        places = np.minimum(np.searchsorted(rows, every), len(rows) - 1)
        there = rows[places] == every
        places, times = places[there], times[there]
        damping = question.damping(source.lengths(rows))
        # Added up word by word, the rarest first, whatever other rows there are: equal sums stay equal.
        gains = weights[which[there]] * times / (times + damping[places])
        scores = np.bincount(places, gains, len(rows)).astype(np.float64, copy=False)
        order = np.lexsort((rows, -scores))[:wanted]
        return rows[order], scores[order]

    def _summed(self, every: Rows, gains: Scores) -> tuple[Rows, Scores]:
        """Add up what rows get; return them in order, with their sums."""
        if len(every) > _FEW_ROWS:
            sums: Scores = np.bincount(every, gains, self._corpus.rows).astype(np.float64, copy=False)
            rows: Rows = np.flatnonzero(sums > 0).astype(np.int64, copy=False)  # of truth values: a quarter of the time
            return rows, sums[rows]
        rows, places = np.unique(every, return_inverse=True)
        return rows, np.bincount(places, gains, len(rows)).astype(np.float64, copy=False)

    def ranked(self, rows: list[int], question: Question, count: int) -> Found:
        """Rank rows by all words, from their texts."""
        names = [word.token for word in question.words]
        held, lengths, frequencies = list[int](), list[int](), list[list[int]]()
        for row in rows:
            if row in self._read:
                numbers = self._read[row]
                held.append(row)
                lengths.append(numbers.total())
                frequencies.append([numbers[name] for name in names])
        for row, tokens in self._cut([row for row in rows if row not in self._read]):
            held.append(row)
            lengths.append(len(tokens))
            frequencies.append(_times(tokens, names))
        found = np.array(held, dtype=np.int64)
        if not len(found):
            return found, np.empty(0)
        each = np.array(frequencies, dtype=np.float64)
        gains = each * (K1 + 1) / (each + question.damping(np.array(lengths))[:, None])
        scores = np.zeros(len(found))
        for gain, weight in zip(gains.T, question.weights.tolist(), strict=True):
            scores += gain * weight  # in this order: what a matrix product adds up last depends on the other rows
        order = np.lexsort((found, -scores))[: min(count, int(np.count_nonzero(scores)))]
        return found[order], scores[order]

    def tokens(self, rows: Sequence[int]) -> dict[int, Counter[str]]:
        """Return the tokens of the texts of *rows*, and keep them for `ranked`."""
        missing = [row for row in rows if row not in self._read]
        self._read.update((row, Counter(tokens)) for row, tokens in self._cut(missing))
        return {row: self._read[row] for row in rows if row in self._read}

    def _cut(self, rows: list[int]) -> Iterator[tuple[int, list[str]]]:
        """Yield rows and the tokens of their texts."""
        sql = "SELECT row, text FROM json_each(?) AS wanted CROSS JOIN chunks ON chunks.row = wanted.value"
        for row, text in self._cursor.execute(sql, (orjson.dumps(rows).decode(),)):
            if not isinstance(text, str):
                raise apsw.CorruptError(f"the text of the chunk in row {row} is not what was stored")
            rest, tokens = self._kind.split(text)
            others: Any = self._tokenizer(
                rest.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False, include_colocated=False
            )
            yield row, others if not tokens else tokens + others


def _times(tokens: list[str], names: Sequence[str]) -> list[int]:
    """Count *names* among the tokens of one text."""
    if len(names) <= _FEW_NAMES:
        return [tokens.count(name) for name in names]
    numbers = Counter(tokens)
    return [numbers[name] for name in names]


def _rare(statistics: Statistics) -> int:
    limit, spent = max(statistics.live // RARE_SHARE, RARE_ROWS), 0
    for number, chunks in enumerate(statistics.chunks):
        spent += chunks
        if number and (chunks > limit or spent > POSTINGS):
            return number
    return len(statistics.chunks)
