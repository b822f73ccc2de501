"""The rest of a search: candidates of one or two lists, of which the best, or the most various, are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from reperio import index, ranking
from reperio.collection.search.request import FUSED_DEPTH, Wanted
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.index import Target
from reperio.ranking import Fused, Ranked
from reperio.store import Session
from reperio.types import Chunk, FloatMatrix, Hit
from reperio.vectors import StoredMatrix, to_float32

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
    session: Session, target: Target, texts: Sequence[str] | None, queries: FloatMatrix | None, wanted: Wanted
) -> list[list[Candidate]]:
    """Return what is retrieved for each query, with its chunks, best first; of equal texts the first, if so wanted.

    Args:
        session: of the commit that is searched.
        target: what may be found. With nothing to be found, a text is still refused where it would be otherwise.
        texts, queries: of each question; None where *wanted* needs none.
        wanted: how.

    """
    lists = _lists(session, target, texts, queries, wanted, wanted.depth)
    chunks = session.fetch(sorted({row for found in lists for row in found.rows}), target.matrix)
    retrieved = [_with_chunks(found, chunks) for found in lists]
    if not wanted.distinct:
        return retrieved
    kept = [_distinct(some) for some in retrieved]
    for place, (some, found) in enumerate(zip(kept, lists, strict=True)):
        if len(some) < wanted.depth <= len(found.rows):  # too many say the same
            text = None if texts is None else texts[place : place + 1]
            query = None if queries is None else queries[place : place + 1]
            kept[place] = _looked_further(session, target, text, query, wanted)
    return kept


def _looked_further(
    session: Session, target: Target, texts: Sequence[str] | None, queries: FloatMatrix | None, wanted: Wanted
) -> list[Candidate]:
    """Return what is retrieved for one query, of equal texts the first, from as many rows as that takes.

    Of each row only its text is read, once, and forgotten when it is not the first of its kind.

    Raises:
        InvalidInput: it takes more rows than the limit on k allows.

    """
    depth, most = wanted.depth, wanted.most * LOOKED_AT
    groups: dict[int, int] = {}  # row → number of its text
    known: dict[str, int] = {}
    while True:
        depth = min(depth * _FURTHER, most)
        (found,) = _lists(session, target, texts, queries, wanted, depth)
        for row, text in session.texts([row for row in found.rows if row not in groups]):
            plain = ranking.plain_text(text)
            groups[row] = known.setdefault(plain, row) if plain else row
        first: dict[int, int] = {}
        for place, row in enumerate(found.rows):
            first.setdefault(groups.get(row, row), place)
        if len(first) >= wanted.depth or len(found.rows) < depth:
            chosen = found.at(list(first.values())[: wanted.depth])
            return _with_chunks(chosen, session.fetch(chosen.rows, target.matrix))
        if depth == most:
            raise InvalidInput(
                f"distinct=True: the best {most:,} chunks have only {len(first):,} different texts, and "
                f"{wanted.depth:,} are wanted; ask for fewer (k=, candidates=), narrow the search by where=, delete "
                "the copies, or raise the limit with open(limits=Limits(k=…))"
            )


def choose(
    found: list[list[Candidate]],
    matrix: StoredMatrix,
    texts: Sequence[str] | None,
    queries: FloatMatrix | None,
    wanted: Wanted,
) -> list[list[Hit]]:
    """Rerank, diversify, cut, and number what was retrieved for each query."""
    if wanted.reranker is not None:
        assert texts is not None  # the facade has seen to it
        found = _reranked(found, texts, wanted)
    if wanted.diversity is not None:
        assert queries is not None  # likewise
        found = [_diverse(some, matrix, query, wanted) for some, query in zip(found, queries, strict=True)]
    return [_numbered(some, wanted) for some in found]


def _lists(
    session: Session,
    target: Target,
    texts: Sequence[str] | None,
    queries: FloatMatrix | None,
    wanted: Wanted,
    depth: int,
) -> list[_List]:
    if wanted.mode == "dense":
        return [_List(*found) for found in _dense(target, queries, depth, wanted.recall)]
    assert texts is not None  # the facade has seen to it
    if wanted.mode == "lexical":
        return [_List(*_lexical(session, target, text, depth)) for text in texts]
    longer = max(depth, FUSED_DEPTH)
    lexical = min(longer, wanted.lexical_candidates or longer)
    dense = _dense(target, queries, longer, wanted.recall)
    return [
        _fused(Ranked(*found), Ranked(*_lexical(session, target, text, lexical)), wanted, depth)
        for found, text in zip(dense, texts, strict=True)
    ]


def _dense(
    target: Target, queries: FloatMatrix | None, depth: int, recall: float
) -> list[tuple[list[int], list[float]]]:
    assert queries is not None  # prepared for every mode that needs them
    if not target.count:
        return [([], [])] * len(queries)
    return index.search(target, queries, depth, recall)


def _lexical(session: Session, target: Target, text: str, depth: int) -> tuple[list[int], list[float]]:
    rows, scores = session.match(text, count=depth, allowed=target.allowed)
    return rows.tolist(), scores.tolist()


def _fused(dense: Ranked, lexical: Ranked, wanted: Wanted, depth: int) -> _List:
    if wanted.fusion == "rrf":
        fused = ranking.reciprocal_rank(dense, lexical)
    else:
        fused = ranking.convex(dense, lexical, weight=wanted.weight)
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


def _reranked(found: list[list[Candidate]], texts: Sequence[str], wanted: Wanted) -> list[list[Candidate]]:
    assert wanted.reranker is not None
    by = "lexical" if wanted.mode == "lexical" else "dense"
    ordered = ranking.rerank(wanted.reranker, texts, [[one.hit for one in some] for some in found], retrieved_by=by)
    return [
        [Candidate(rows[hit.chunk.id], hit) for hit in hits]
        for hits, rows in zip(ordered, ({one.hit.chunk.id: one.row for one in some} for some in found), strict=True)
    ]


def _diverse(some: list[Candidate], matrix: StoredMatrix, query: FloatMatrix, wanted: Wanted) -> list[Candidate]:
    assert wanted.diversity is not None
    vectors = to_float32(matrix[[one.row for one in some]]) if some else matrix[:0]
    order = ranking.mmr(query, vectors, wanted.k, lambda_mult=1.0 - wanted.diversity)
    return [some[position] for position in order]


def _numbered(some: list[Candidate], wanted: Wanted) -> list[Hit]:
    hits = [one.hit for one in some[: wanted.k]]
    if wanted.min_score is not None:
        hits = [hit for hit in hits if hit.score >= wanted.min_score]
    for rank, hit in enumerate(hits, start=1):
        hit.rank = rank
    return hits
