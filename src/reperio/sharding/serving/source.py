"""Retrieve candidates from shards: lists are merged, everything after that is what one collection does.

The row of a chunk among all shards is ``row in the shard * number of shards + place of the shard``. So rows are
distinct, and the order of rows within a shard stands. Fusion, distinct texts, reranking and diversity see one
collection: the one into which the chunks were added in the order of these rows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from reperio.collection.search.source import Lists, RankedRows
from reperio.errors import ShardUnavailable
from reperio.sharding.serving.fleet import Fleet, Space
from reperio.sharding.serving.messages import (
    AskLists,
    Counted,
    CountWords,
    Fetched,
    FetchRows,
    Listed,
    Moved,
    Narrowing,
    RankRows,
)
from reperio.store.words.merging import Listing, Rows, Scores, Totals, add_up, best, chosen, merge
from reperio.types import Chunk, FloatMatrix, Metric

EAGER = 64
"""Rows of a list up to which shards return the chunks with it: that costs less than asking for the best few again."""


class ShardsMoved(Exception):
    """A shard has moved on between two steps of a question, which must be asked again from its beginning."""


class ShardSource:
    """The shards, for one question; see `CandidateSource`.

    Args:
        fleet: of the shards.
        space: that the question's vectors are of.
        narrowing: what may be found.
        until: deadline, as `time.monotonic` has it.
        missing: takes the places of shards that did not answer; None to raise then.
        eager: let shards return chunks with their lists in any case, so that nothing can move in between.
    """

    def __init__(
        self,
        fleet: Fleet,
        space: Space,
        narrowing: Narrowing,
        *,
        until: float,
        missing: set[int] | None,
        eager: bool = False,
    ) -> None:
        self._fleet, self._space, self._narrowing = fleet, space, narrowing
        self._until, self._missing, self._eager = until, missing, eager
        self._tokens: dict[int, str] = {}
        self._chunks: dict[int, Chunk] = {}
        self.unanswerable = ""
        self.has_newer = False

    def lists(
        self,
        texts: Sequence[str] | None,
        queries: FloatMatrix | None,
        *,
        dense: int | None,
        lexical: int | None,
        recall: float,
    ) -> Lists:
        """Ask every shard for its lists, and merge them."""
        totals = None if lexical is None else self._count(texts or ())
        eager = self._eager or ((dense is None or lexical is None) and max(dense or 0, lexical or 0) <= EAGER)
        # Each row that is ranked has its text cut into words: where several shards share that, it pays to choose first.
        rank = self._eager or self._fleet.size == 1
        asked = AskLists(
            self._space.keys, self._narrowing, texts, queries, dense, lexical, totals, recall, eager=eager, rank=rank
        )
        answers: dict[int, Listed] = self._ask("lists", asked)
        for place, answer in answers.items():
            if self._tokens.setdefault(place, answer.token) != answer.token:
                raise ShardsMoved  # rows that are known already are of another generation
            self.has_newer |= answer.newest not in self._space.keys
            self._chunks.update((self._row(place, row), chunk) for row, chunk in answer.chunks.items())
        by_vector = by_words = None
        if dense is not None:
            assert queries is not None  # as for any source
            by_vector = [self._nearest(answers, number, dense) for number in range(len(queries))]
        if lexical is not None:
            assert totals is not None
            by_words = self._by_words(answers, texts or (), totals, lexical, rank=rank, eager=eager)
        return by_vector, by_words

    def chunks(self, rows: Sequence[int]) -> Mapping[int, Chunk]:
        """Return chunks: as they came with the lists, else from their shards."""
        found = {row: self._chunks[row] for row in rows if row in self._chunks}
        missing = [row for row in rows if row not in found]
        if missing:
            for place, fetched in self._fetch(missing, "chunks").items():
                found.update((self._row(place, row), chunk) for row, chunk in fetched.chunks.items())
        return found

    def texts(self, rows: Sequence[int]) -> Iterable[tuple[int, str]]:
        """Return texts from their shards."""
        for place, fetched in self._fetch(rows, "texts").items():
            yield from ((self._row(place, row), text) for row, text in fetched.texts.items())

    def vectors(self, rows: Sequence[int]) -> FloatMatrix:
        """Return vectors from their shards."""
        out = np.empty((len(rows), self._space.settings.dimension), dtype=np.float32)
        places = {row: number for number, row in enumerate(rows)}
        for place, fetched in self._fetch(rows, "vectors").items():
            assert fetched.vectors is not None  # asked for
            mine = [number for row, number in places.items() if row % self._fleet.size == place]
            out[mine] = fetched.vectors
        return out

    def _count(self, texts: Sequence[str]) -> list[Totals]:
        """Have the words of the questions counted in all shards."""
        answers: dict[int, Counted] = self._ask("count_words", CountWords(self._space.keys, self._narrowing, texts))
        each = [[answer.counts[number] for answer in answers.values()] for number in range(len(texts))]
        self.unanswerable = next((one.unanswerable for counts in each for one in counts if one.unanswerable), "")
        return [add_up(counts) if counts else Totals((), (), 0, 0, None) for counts in each]

    def _nearest(self, answers: Mapping[int, Listed], number: int, depth: int) -> RankedRows:
        """Merge the dense lists of one question."""
        rows, scores = list[int](), list[float]()
        for place, answer in answers.items():
            assert answer.dense is not None  # asked for
            own, theirs = answer.dense[number]
            rows += [self._row(place, row) for row in own]
            scores += theirs
        order = sorted(range(len(rows)), key=lambda at: (-scores[at], rows[at]))[:depth]
        values = [scores[at] for at in order]
        if self._space.settings.metric is Metric.COSINE:
            values = [min(1.0, max(-1.0, value)) for value in values]  # rounding only, as of one collection
        return [rows[at] for at in order], values

    def _by_words(
        self,
        answers: Mapping[int, Listed],
        texts: Sequence[str],
        totals: Sequence[Totals],
        count: int,
        *,
        rank: bool,
        eager: bool,
    ) -> list[RankedRows]:
        """Merge the lexical lists of all questions, and have ranked what is still to be ranked."""
        if not answers:
            return [([], [])] * len(texts)
        listings = [self._listings(answers, number) for number in range(len(texts))]
        found = [merge(each, one, count) for each, one in zip(listings, totals, strict=True)]
        left = [] if rank else [number for number, one in enumerate(totals) if not one.takes_all(count)]
        if left:
            rows = [chosen(listings[number], count) for number in left]
            some = [texts[number] for number in left], [totals[number] for number in left]
            ranked = self._rank(answers, rows, *some, chunks=count if eager else 0)
            for number, parts in zip(left, ranked, strict=True):
                own, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
                found[number] = best(own, scores, count)
        return [(rows.tolist(), scores.tolist()) for rows, scores in found]

    def _rank(
        self,
        answers: Mapping[int, Listed],
        rows: Sequence[Rows],
        texts: Sequence[str],
        totals: Sequence[Totals],
        *,
        chunks: int,
    ) -> list[list[tuple[Rows, Scores]]]:
        """Have each shard rank its own of the rows that were chosen; return the parts of all shards by question."""
        size = self._fleet.size
        requests: dict[int, RankRows] = {}
        for place, answer in answers.items():
            own = [(each[each % size == place] // size).tolist() for each in rows]
            if any(own):
                requests[place] = RankRows(answer.token, texts, own, totals, chunks)
        parts: list[list[tuple[Rows, Scores]]] = [[(np.empty(0, dtype=np.int64), np.empty(0))] for _ in texts]
        for place, scored in self._later("rank", requests).items():
            self._chunks.update((self._row(place, row), chunk) for row, chunk in scored.chunks.items())
            for part, (found, scores) in zip(parts, scored.found, strict=True):
                part.append((found * size + place, scores))
        return parts

    def _listings(self, answers: Mapping[int, Listed], number: int) -> list[Listing]:
        """Return the parts of all shards for one question, by the rows of all."""
        size, listings = self._fleet.size, list[Listing]()
        for place, answer in answers.items():
            assert answer.lexical is not None  # asked for
            one = answer.lexical[number]
            common = [rows * size + place for rows in one.common]
            listings.append(
                Listing(one.rows * size + place, one.scores, one.rare * size + place, one.rare_scores, common)
            )
        return listings

    def _fetch(self, rows: Sequence[int], what: str) -> dict[int, Fetched]:
        by_place: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            own, place = divmod(row, self._fleet.size)
            by_place[place].append(own)
        requests = {place: FetchRows(self._tokens[place], own, what) for place, own in by_place.items()}
        return self._later("fetch", requests)

    def _later(self, method: str, requests: Mapping[int, Any]) -> dict[int, Any]:
        """Ask shards about what they have found."""
        if self._missing is None:
            return self._checked(self._fleet.router.ask(method, requests, until=self._until))
        # What a shard has found is in the lists by now. Where it is lost since, the question is asked again without it,
        # for which some time must be left.
        now = time.monotonic()
        try:
            return self._checked(self._fleet.router.ask(method, requests, until=now + (self._until - now) / 2))
        except ShardUnavailable:
            raise ShardsMoved from None

    def _ask(self, method: str, request: Any) -> dict[int, Any]:
        missing = self._missing
        requests = {place: request for place in range(self._fleet.size) if missing is None or place not in missing}
        return self._checked(self._fleet.router.ask(method, requests, until=self._until, missing=missing))

    @staticmethod
    def _checked(answers: dict[int, Any]) -> dict[int, Any]:
        if any(isinstance(answer, Moved) for answer in answers.values()):
            raise ShardsMoved
        return answers

    def _row(self, place: int, row: int) -> int:
        return row * self._fleet.size + place
