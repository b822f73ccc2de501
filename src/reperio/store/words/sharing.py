"""Answer a question by words together with other collections: count first, then list what all counts make the best.

`merging` adds the counts up, and merges the lists; both steps of each collection are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import numpy as np

from reperio.store.words.counts import Bits, Corpus, Counts, Statistics
from reperio.store.words.lexical import Question, Reading
from reperio.store.words.merging import Counting, Listing, Rows, Scores, Totals

_NONE = np.empty(0, dtype=np.int64)


def count_words(
    cursor: apsw.Cursor,
    text: str,
    *,
    corpus: Corpus,
    counted: Counts,
    allowed: Bits | None = None,
    scope: Bits | None = None,
) -> Counting:
    """Count the words of a question here, so that the counts of several collections can be added up.

    Args:
        cursor, text, corpus, counted, allowed, scope: as in `search`.

    Raises:
        InvalidInput: as `search` does.
    """
    reading = Reading.begin(cursor, text, corpus)
    asked, why = reading.asked(text)
    found = None if allowed is None else int(np.bitwise_count(allowed).sum())
    if not corpus.live:
        return Counting(tuple(word.token for word in asked), (0,) * len(asked), 0, 0, found, why)
    source = reading.source(scope, counted)
    chunks = tuple(source.chunks(word) for word in asked)
    held = [word for word, number in zip(asked, chunks, strict=True) if number]
    return Counting(tuple(word.token for word in asked), chunks, source.live, source.tokens(held), found, why)


def list_words(
    cursor: apsw.Cursor,
    text: str,
    *,
    count: int,
    totals: Totals,
    rank: bool,
    corpus: Corpus,
    counted: Counts,
    allowed: Bits | None = None,
    scope: Bits | None = None,
) -> Listing:
    """Return all that this collection has to say to a question that several answer together: see `merging.merge`.

    The steps are those of `search`, with the words counted in all collections.

    Args:
        totals: what `merging.add_up` has made of the counts of all collections.
        rank: rank all rows at once; else `rank_words` ranks those that `merging.chosen` leaves, a part of them where
            there are many collections. What is few enough to need no choice is ranked in any case.
        cursor, text, count, corpus, counted, allowed, scope: as in `search`.

    Raises:
        InvalidInput: as `search` does.
    """
    reading = Reading.begin(cursor, text, corpus)
    known = {word.token: word for word in reading.asked(text)[0]}
    words = [known[token]._replace(chunks=n) for token, n in zip(totals.words, totals.chunks, strict=True)]
    if count < 1 or not corpus.live or not words:
        return Listing.nothing()
    question = Question(words, Statistics(totals.live, totals.tokens, totals.chunks))
    source = reading.source(scope, counted)
    mask = None if allowed is None else np.unpackbits(allowed, count=corpus.rows, bitorder="little")
    if totals.takes_all(count):
        every = np.arange(corpus.rows) if mask is None else np.flatnonzero(mask)
        return Listing.nothing()._replace(**_ranked(reading, question, every.tolist()))
    rare, scores, common = reading.listed(question, count, mask, source)
    different = list(dict.fromkeys(row for part in (rare, *common) for row in part))
    scored = _ranked(reading, question, different) if rank else {"rows": _NONE, "scores": np.empty(0)}
    return Listing(
        **scored,
        rare=np.array(rare, dtype=np.int64),
        rare_scores=scores,
        common=[np.array(part, dtype=np.int64) for part in common],
    )


def rank_words(
    cursor: apsw.Cursor, text: str, *, rows: Sequence[int], totals: Totals, corpus: Corpus
) -> tuple[Rows, Scores]:
    """Return those of *rows* that are there, best first, with their BM25 of all words.

    Args:
        rows: that `list_words` has named.
        cursor, text, totals, corpus: as there.
    """
    reading = Reading.begin(cursor, text, corpus)
    known = {word.token: word for word in reading.asked(text)[0]}
    words = [known[token]._replace(chunks=n) for token, n in zip(totals.words, totals.chunks, strict=True)]
    question = Question(words, Statistics(totals.live, totals.tokens, totals.chunks))
    return reading.ranked(list(rows), question, len(rows))


def _ranked(reading: Reading, question: Question, rows: list[int]) -> dict[str, Any]:
    found, scores = reading.ranked(rows, question, len(rows))
    return {"rows": found, "scores": scores}
