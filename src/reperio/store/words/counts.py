"""Count for BM25: in how many chunks a word is, how many chunks there are, and how long they are.

Counted over the whole collection, or within a part of it that is all a handle may see: then no chunk outside has any
influence on a score, or on which chunks are found.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.store.words.postings import Occurrences, Postings, Rows, Word

Bits: TypeAlias = npt.NDArray[np.uint8]
Tokens: TypeAlias = Mapping[int, Counter[str]]
"""The tokens of some rows."""

FEW = 256
"""Up to so many chunks of a scope, words are counted in their texts: 25 µs each."""

SCOPE_BYTES = 64 << 20
"""Memory for what is known of the words within a scope; those used least recently are dropped beyond."""

_REMEMBERED = 1000  # counting a word in fewer rows than this costs less than remembering it is worth
_DRIFT = 6  # what was counted holds until the collection has grown or shrunk by one part in 2^6
_ENTRY_BYTES = 300  # of a word, in addition to its rows
_TEXT_POSTINGS = 25  # postings that FTS5 reads in the time in which one text is cut into words
_MOST_TEXTS = 10_000  # read for one word: their tokens are kept until the search ends, some 6 KB each


class Corpus(NamedTuple):
    """Sizes of a commit: its number, rows minted, live chunks."""

    seq: int
    rows: int
    live: int

    def is_near(self, other: Corpus) -> bool:
        """Say whether what was counted in one serves for the other: exactly the same, when they are small."""
        return all(abs(one - two) <= two >> _DRIFT for one, two in zip(self[1:], other[1:], strict=True))


class Statistics(NamedTuple):
    """All that a score depends on in addition to the chunk: a value that shards can add up.

    Attributes:
        live: chunks.
        tokens: in all of them.
        chunks: that hold a word, for each word of a question.
    """

    live: int
    tokens: int
    chunks: tuple[int, ...]

    def weights(self, words: Sequence[Word]) -> npt.NDArray[np.float64]:
        """Return what one occurrence of each word is worth at most: its idf, as often as it is asked for."""
        chunks = np.array(self.chunks, dtype=np.float64)
        idf = np.log1p(np.maximum(self.live - chunks + 0.5, 0.5) / (chunks + 0.5))
        return np.asarray(idf * np.array([word.times for word in words]))


class Source(Protocol):
    """The chunks among which words are counted."""

    live: int

    def chunks(self, word: Word) -> int:
        """Return in how many chunks a word is."""

    def tokens(self, words: Sequence[Word], /) -> int:
        """Return the number of tokens in all chunks, of which some hold *words*."""

    def occurrences(self, words: Sequence[Word]) -> Occurrences:
        """Return the rows that hold words, at least those inside."""

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each of *rows*."""


class Counted:
    """Numbers that are slow to count again for every search, of one generation; see `Corpus.is_near`."""

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


class Whole:
    """The whole collection, as FTS5 counts it."""

    def __init__(self, postings: Postings, corpus: Corpus, counted: Counted) -> None:
        self.live = corpus.live
        self._postings = postings
        self._corpus = corpus
        self._counted = counted

    def chunks(self, word: Word) -> int:
        """Return in how many chunks a word is, or was when the collection was a 64th smaller or larger."""
        return self._counted.get(word.token, self._corpus, lambda: self._postings.count(word))

    def tokens(self, words: Sequence[Word]) -> int:
        """Return the number of tokens in all chunks, or what it was; *words* are in the collection."""
        return self._counted.get(None, self._corpus, lambda: self._postings.tokens(words))

    def occurrences(self, words: Sequence[Word]) -> Occurrences:
        """Return the rows that hold words."""
        return self._postings.occurrences(words)

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each of *rows*."""
        return self._postings.lengths(rows)


class Texts:
    """A scope of few chunks: their texts, which are quicker read than the words of all others."""

    def __init__(self, tokens: Tokens) -> None:
        self.live = len(tokens)
        self._tokens = tokens
        self._lengths = {row: numbers.total() for row, numbers in tokens.items()}

    def chunks(self, word: Word) -> int:
        """Return in how many chunks a word is."""
        return sum(word.token in numbers for numbers in self._tokens.values())

    def tokens(self, _words: Sequence[Word]) -> int:
        """Return the number of tokens in all chunks."""
        return sum(self._lengths.values())

    def occurrences(self, words: Sequence[Word]) -> Occurrences:
        """Return the rows that hold words."""
        return _occurrences([(word, self._tokens) for word in words])

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each of *rows*."""
        return np.array([self._lengths[row] for row in rows.tolist()], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Facts about a word, or the lengths of texts (*values*), within a scope: of rows before *until*."""

    seq: int
    until: int
    number: int
    some: npt.NDArray[np.int32]  # the rows, unless bits are shorter
    bits: Bits | None = None
    values: npt.NDArray[np.int32] | None = None

    @property
    def nbytes(self) -> int:
        return _ENTRY_BYTES + sum(part.nbytes for part in (self.some, self.bits, self.values) if part is not None)

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        if self.bits is None:
            return self.some
        return np.flatnonzero(np.unpackbits(self.bits, bitorder="little")).astype(np.int32)


class ScopeCounted:
    """The words within one scope, of one generation, from search to search. For any number of threads.

    In which rows a word is never changes. So what is known is exact at every later commit, once rows that are gone are
    left out and the new rows are looked at.
    """

    def __init__(self, limit: int = SCOPE_BYTES) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: OrderedDict[str | None, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, what: str | None, seq: int) -> _Kept | None:
        """Return what is known of a word, or, for None, of lengths, if it is of commit *seq* or an earlier one."""
        with self._lock:
            kept = self._kept.get(what)
            if kept is None or kept.seq > seq:  # since then rows may have gone that were live in *seq*
                return None
            self._kept.move_to_end(what)
            return kept

    def put(self, what: str | None, kept: _Kept) -> None:
        """Keep it, unless a later commit's is there."""
        with self._lock:
            before = self._kept.get(what)
            if kept.nbytes > self._limit // 4 or (before is not None and before.seq > kept.seq):
                return
            self._kept[what] = kept
            self._bytes += kept.nbytes - (0 if before is None else before.nbytes)
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


class Counts:
    """Counts kept from search to search, of one generation, as one handle sees it."""

    def __init__(self) -> None:
        self.whole = Counted()
        self.scope = ScopeCounted()


class Scope:
    """A part of the collection, as if there were no other.

    Args:
        postings, corpus: of the commit.
        mask: which rows it consists of; all of them live.
        counted: of this scope.
        read: returns the tokens of rows.
    """

    def __init__(
        self,
        postings: Postings,
        corpus: Corpus,
        mask: npt.NDArray[np.bool_],
        counted: ScopeCounted,
        read: Callable[[Sequence[int]], Tokens],
    ) -> None:
        self.live = int(np.count_nonzero(mask))
        self._postings = postings
        self._corpus = corpus
        self._mask = mask
        self._counted = counted
        self._read = read

    @cached_property
    def _flags(self) -> bytes:
        return self._mask.tobytes()

    def chunks(self, word: Word) -> int:
        """Return in how many chunks a word is."""
        return self._holding(word).number

    def tokens(self, _words: Sequence[Word]) -> int:
        """Return the number of tokens in all chunks."""
        kept, seq = self._counted.get(None, self._corpus.seq), self._corpus.seq
        if kept is not None and kept.seq == seq and kept.until == self._corpus.rows:
            return kept.number
        rows, values, first = np.empty(0, np.int32), np.empty(0, np.int32), 0
        if kept is not None and kept.values is not None:
            still = self._mask[kept.rows]
            rows, values, first = kept.rows[still], kept.values[still], kept.until
        fresh = np.flatnonzero(self._mask[first:]) + first
        values = np.concatenate((values, self._postings.lengths(fresh).astype(np.int32)))
        # What damage has made all lengths zero is told by none of them: they are equal then, as in a whole collection.
        rows, total = np.concatenate((rows, fresh.astype(np.int32))), max(1, int(values.sum(dtype=np.int64)))
        self._counted.put(None, _Kept(seq, self._corpus.rows, total, rows, values=values))
        return total

    def occurrences(self, words: Sequence[Word]) -> Occurrences:
        """Return the rows that hold words, at least those inside; of each by the quicker way: both tell the same."""
        by_text = [self._is_text_quicker(word) for word in words]
        if not any(by_text):
            return self._postings.occurrences(words)
        texts = [
            (word, self._read(self._holding(word).rows.tolist()) if quicker else {})
            for word, quicker in zip(words, by_text, strict=True)
        ]
        listed = [place for place, quicker in enumerate(by_text) if not quicker]
        which, rows, times = self._postings.occurrences([words[place] for place in listed])
        others = Occurrences(np.array(listed, dtype=np.int64)[which], rows, times)
        both = [np.concatenate(pair) for pair in zip(others, _occurrences(texts), strict=True)]
        order = np.lexsort((both[1], both[0]))
        return Occurrences(*(part[order] for part in both))

    def _is_text_quicker(self, word: Word) -> bool:
        texts = _TEXT_POSTINGS * word.chunks  # what they cost
        return word.chunks <= _MOST_TEXTS and texts < self._corpus.rows and texts < self._postings.count(word)

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each of *rows*."""
        return self._postings.lengths(rows)

    def _holding(self, word: Word) -> _Kept:
        kept, seq = self._counted.get(word.token, self._corpus.seq), self._corpus.seq
        if kept is not None and kept.seq == seq:
            return kept
        rows, first = np.empty(0, np.int32), 0
        if kept is not None:
            rows, first = kept.rows[self._mask[kept.rows]], kept.until
        fresh = self._postings.holding(word, first, self._flags)
        rows = np.concatenate((rows, fresh.astype(np.int32)))
        found = _Kept(seq, self._corpus.rows, len(rows), *_packed(rows, self._corpus.rows))
        self._counted.put(word.token, found)
        return found


def _packed(rows: npt.NDArray[np.int32], until: int) -> tuple[npt.NDArray[np.int32], Bits | None]:
    if rows.nbytes * 8 <= until:
        return rows, None
    held = np.zeros(until, dtype=np.bool_)
    held[rows] = True
    return rows[:0], np.packbits(held, bitorder="little")


def _occurrences(texts: Sequence[tuple[Word, Tokens]]) -> Occurrences:
    """Find each word in some texts."""
    held = [
        (place, row, numbers[word.token])
        for place, (word, tokens) in enumerate(texts)
        for row, numbers in sorted(tokens.items(), key=itemgetter(0))
        if word.token in numbers
    ]
    return Occurrences(*np.array(held, dtype=np.int64).reshape(-1, 3).T)
