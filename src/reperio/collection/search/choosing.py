"""Choose among the candidates of a search: rerank, diversify, cut, and number them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reperio import ranking
from reperio.collection.search.candidates import Candidate
from reperio.collection.search.request import SearchRequest
from reperio.types import FloatMatrix, Hit


def choose(
    found: list[list[Candidate]],
    vectors: Callable[[Sequence[int]], FloatMatrix],
    texts: Sequence[str] | None,
    queries: FloatMatrix | None,
    request: SearchRequest,
) -> list[list[Hit]]:
    """Rerank, diversify, cut, and number what was retrieved for each query; *vectors* returns those of rows."""
    if request.reranker is not None:
        assert texts is not None  # the facade has seen to it
        found = _reranked(found, texts, request)
    if request.diversity is not None:
        assert queries is not None  # likewise
        found = [_diverse(some, vectors, query, request) for some, query in zip(found, queries, strict=True)]
    return [_numbered(some, request) for some in found]


def _reranked(found: list[list[Candidate]], texts: Sequence[str], request: SearchRequest) -> list[list[Candidate]]:
    assert request.reranker is not None
    by = "lexical" if request.mode == "lexical" else "dense"
    ordered = ranking.rerank(request.reranker, texts, [[one.hit for one in some] for some in found], retrieved_by=by)
    return [
        [Candidate(rows[hit.chunk.id], hit) for hit in hits]
        for hits, rows in zip(ordered, ({one.hit.chunk.id: one.row for one in some} for some in found), strict=True)
    ]


def _diverse(
    some: list[Candidate],
    vectors: Callable[[Sequence[int]], FloatMatrix],
    query: FloatMatrix,
    request: SearchRequest,
) -> list[Candidate]:
    assert request.diversity is not None
    order = ranking.mmr(query, vectors([one.row for one in some]), request.k, lambda_mult=1.0 - request.diversity)
    return [some[position] for position in order]


def _numbered(some: list[Candidate], request: SearchRequest) -> list[Hit]:
    hits = [one.hit for one in some[: request.k]]
    if request.min_score is not None:
        hits = [hit for hit in hits if hit.score >= request.min_score]
    for rank, hit in enumerate(hits, start=1):
        hit.rank = rank
    return hits
