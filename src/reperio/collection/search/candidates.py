"""Retrieve the candidates of a search, from one list or two, with their chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from reperio import ranking
from reperio.collection.search.request import FUSED_DEPTH, SearchRequest
from reperio.collection.search.source import CandidateSource
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.ranking import Fused, Ranked
from reperio.types import Chunk, FloatMatrix, Hit

LOOKED_AT = 10
"""Rows that a search for distinct texts looks at, at most, per row that the limit on k allows to be retrieved."""

_FURTHER = 4  # times the rows of before


@dataclass(slots=True)
class Candidate:
    """A hit as retrieved, and the row it lies in."""

    row: int
    hit: Hit


@dataclass(frozen=True, slots=True)
class _List:
    """One query's rows and scores, best first; the scores of the lists they come from, where there were two."""

    rows: list[int]
    scores: list[float]
    parts: Sequence[Mapping[str, float]] | None = None

    def at(self, places: Sequence[int]) -> _List:
        """Return the list of these places alone."""
        parts = self.parts
        return _List(
            [self.rows[place] for place in places],
            [self.scores[place] for place in places],
            None if parts is None else [parts[place] for place in places],
        )


def candidates(
    source: CandidateSource, texts: Sequence[str] | None, queries: FloatMatrix | None, request: SearchRequest
) -> list[list[Candidate]]:
    """Return what is retrieved for each query, with its chunks, best first; of equal texts the first, if so request.

    Args:
        source: what they are retrieved from.
        texts, queries: of each question; None where *request* needs none.
        request: what is asked for.
    """
    lists = _lists(source, texts, queries, request, request.depth)
    chunks = source.chunks(sorted({row for found in lists for row in found.rows}))
    retrieved = [_with_chunks(found, chunks) for found in lists]
    if not request.distinct:
        return retrieved
    kept = [_distinct(some) for some in retrieved]
    for place, (some, found) in enumerate(zip(kept, lists, strict=True)):
        if len(some) < request.depth <= len(found.rows):  # too many say the same
            text = None if texts is None else texts[place : place + 1]
            query = None if queries is None else queries[place : place + 1]
            kept[place] = _looked_further(source, text, query, request)
    return kept


def _looked_further(
    source: CandidateSource, texts: Sequence[str] | None, queries: FloatMatrix | None, request: SearchRequest
) -> list[Candidate]:
    """Return what is retrieved for one query, of equal texts the first, from as many rows as that takes.

    Of each row only its text is read, once, and forgotten when it is not the first of its kind.

    Raises:
        InvalidInput: it takes more rows than the limit on k allows.
    """
    depth, most = request.depth, request.most * LOOKED_AT
    groups: dict[int, int] = {}  # row → number of its text
    known: dict[str, int] = {}
    while True:
        depth = min(depth * _FURTHER, most)
        (found,) = _lists(source, texts, queries, request, depth)
        for row, text in source.texts([row for row in found.rows if row not in groups]):
            plain = ranking.plain_text(text)
            groups[row] = known.setdefault(plain, row) if plain else row
        first: dict[int, int] = {}
        for place, row in enumerate(found.rows):
            first.setdefault(groups.get(row, row), place)
        if len(first) >= request.depth or len(found.rows) < depth:
            chosen = found.at(list(first.values())[: request.depth])
            return _with_chunks(chosen, source.chunks(chosen.rows))
        if depth == most:
            raise InvalidInput(
                f"distinct=True: the best {most:,} chunks have only {len(first):,} different texts, and "
                f"{request.depth:,} are wanted; ask for fewer (k=, candidates=), narrow the search by where=, delete "
                "the copies, or raise the limit with open(limits=Limits(k=…))"
            )


def _lists(
    source: CandidateSource,
    texts: Sequence[str] | None,
    queries: FloatMatrix | None,
    request: SearchRequest,
    depth: int,
) -> list[_List]:
    longer = max(depth, FUSED_DEPTH) if request.mode == "hybrid" else depth
    lexical = min(longer, request.lexical_candidates or longer)
    by_vector, by_words = source.lists(
        texts,
        queries,
        dense=None if request.mode == "lexical" else longer,
        lexical=None if request.mode == "dense" else lexical,
        recall=request.recall,
    )
    if by_vector is None or by_words is None:
        return [_List(*found) for found in by_vector or by_words or []]
    both = zip(by_vector, by_words, strict=True)
    return [_fused(Ranked(*dense), Ranked(*words), request, depth) for dense, words in both]


def _fused(dense: Ranked, lexical: Ranked, request: SearchRequest, depth: int) -> _List:
    if request.fusion == "rrf":
        fused = ranking.reciprocal_rank(dense, lexical)
    else:
        fused = ranking.convex(dense, lexical, weight=request.weight)
    return _List(fused.rows[:depth].tolist(), fused.scores[:depth].tolist(), _parts(fused, depth))


def _parts(fused: Fused, depth: int) -> list[Mapping[str, float]]:
    columns = {"dense": fused.dense, "lexical": fused.lexical, "fused": fused.scores}
    names = list(columns)
    return [
        {name: value for name, value in zip(names, values, strict=True) if not isnan(value)}
        for values in zip(*(column[:depth].tolist() for column in columns.values()), strict=True)
    ]


def _with_chunks(found: _List, chunks: Mapping[int, Chunk]) -> list[Candidate]:
    parts: Sequence[Mapping[str, float] | None] = found.parts or [None] * len(found.rows)
    try:
        return [
            Candidate(row, Hit(chunks[row], score, rank, part))
            for rank, (row, score, part) in enumerate(zip(found.rows, found.scores, parts, strict=True), start=1)
        ]
    except KeyError as missing:
        raise CollectionDamaged(
            f"row {missing} is live but holds no chunk; run check(), restore from a backup"
        ) from None


def _distinct(some: list[Candidate]) -> list[Candidate]:
    return [some[position] for position in ranking.distinct([one.hit.chunk.text for one in some])]
