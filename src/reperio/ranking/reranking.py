"""Hits in an order that a reranker gives; none is lost, whatever the reranker does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from reperio import forks
from reperio.errors import InvalidInput, ReperioError, RerankerFailed
from reperio.types import Hit, Reranker

_SHOWN = 60  # characters of a text in an error


ScoreFunction: TypeAlias = Callable[[str, Sequence[str]], "Sequence[float] | Mapping[int, float]"]
"""Query and texts → a score per text: in the order of the texts, or by position."""


def rerank(
    reranker: Reranker, queries: Sequence[str], hits: Sequence[Sequence[Hit]], *, retrieved_by: str = "dense"
) -> list[list[Hit]]:
    """Order the hits of each query by what *reranker* makes of query and text.

    All queries go to the reranker in one call; those without hits are left out, and without any hit there is no call.
    A hit of equal score stays behind the one it was behind. Its `Hit.score` is now the reranker's, and `Hit.scores`
    keeps what it had, with "rerank" added. The hits passed in are not changed.

    Args:
        reranker: see `Reranker`.
        queries: texts.
        hits: one list per query, best first: all the candidates, of which the caller returns the first k.
        retrieved_by: the name in `Hit.scores` of a score that was the only one so far.

    Returns:
        The same hits, as many per query, in their new order, with ranks from 1.

    Raises:
        InvalidInput: lists of hits and queries differ in number.
        RerankerFailed: the reranker raised (that error is its cause), or returned anything but one finite number per
            text. No part of its answer is used then: half an order would look like a whole one.
    """
    if len(queries) != len(hits):
        raise InvalidInput(f"{len(queries)} queries with {len(hits)} lists of hits; pass one list per query")
    asked = [number for number, found in enumerate(hits) if found]
    texts = [[hit.chunk.text for hit in hits[number]] for number in asked]
    scored = _scores(reranker, [queries[number] for number in asked], texts) if asked else []
    reranked: list[list[Hit]] = [[] for _ in queries]
    for number, scores in zip(asked, scored, strict=True):
        reranked[number] = _reordered(hits[number], scores, retrieved_by)
    return reranked


class CallableReranker:
    """A `Reranker` of any function of one query and its texts, such as the client of a reranking service.

    Scores belong to texts by position alone. Services answer best first and sometimes only the best few, and texts may
    occur twice, so an answer put back in order by comparing texts would give a score to the wrong one. Either form
    will do:

        CallableReranker(lambda query, texts: [overlap(query, text) for text in texts])
        CallableReranker(lambda query, texts: {r.index: r.relevance_score for r in client.rerank(query, texts).results})

    Args:
        function: called once per query with the query and a list of texts; returns a score for each of them, higher is
            better, in their order, or a mapping from position (0 for the first) to score that has every position.

    Raises:
        InvalidInput: *function* cannot be called.
    """

    def __init__(self, function: ScoreFunction) -> None:
        if not callable(function):
            raise InvalidInput(f"{function!r} cannot be called; pass a function of a query and a list of texts")
        self._function = function

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Sequence[float]]:
        """Call the function for each query.

        Raises:
            RerankerFailed: a mapping that lacks a position, or has one beyond the texts.
        """
        return [
            _in_order(self._function(query, list(its)), len(its)) for query, its in zip(queries, texts, strict=True)
        ]


def _in_order(answer: Sequence[float] | Mapping[int, float], count: int) -> Sequence[float]:
    if not isinstance(answer, Mapping):
        return answer
    missing, unknown = set(range(count)) - answer.keys(), answer.keys() - set(range(count))
    if missing or unknown:
        wrong = f"no score for position {min(missing)}" if missing else f"a score for {next(iter(unknown))!r}"
        raise RerankerFailed(
            f"the function returned {wrong} of {count} texts (0 to {count - 1}); ask the service for all of them, "
            "not for its best few, and use its index as the key"
        )
    return [answer[position] for position in range(count)]


def _scores(reranker: Reranker, queries: list[str], texts: list[list[str]]) -> list[list[float]]:
    name = type(reranker).__name__
    forks.spare_torch()
    try:
        answers = list(reranker.score(queries, texts))
    except ReperioError:
        raise
    except Exception as error:  # a model, a network: whatever it was, the caller learns that the order is not to be had
        raise RerankerFailed(
            f"{name} raised {type(error).__name__}: {error}; search without reranker= to get the hits as retrieved"
        ) from error
    if len(answers) != len(queries):
        raise RerankerFailed(f"{name} returned scores for {len(answers)} queries instead of {len(queries)}")
    return [
        _checked(answer, its, f"{name}, query {query[:_SHOWN]!r}")
        for answer, query, its in zip(answers, queries, texts, strict=True)
    ]


def _checked(answer: Any, texts: list[str], where: str) -> list[float]:
    try:
        scores = np.asarray(answer)
    except Exception as error:  # ragged lists, tensors on another device: numpy passes on what they raise
        raise RerankerFailed(f"{where}: the scores are no list of numbers ({error})") from error
    if scores.dtype.kind not in "fiu":
        raise RerankerFailed(
            f"{where}: the scores are of dtype {scores.dtype}; return plain numbers, e.g. float(score)"
        )
    if scores.shape != (len(texts),):
        raise RerankerFailed(
            f"{where}: scores of shape {scores.shape} for {len(texts)} texts; return one number for each, in order"
        )
    if not np.isfinite(scores).all():
        at = int(np.argmin(np.isfinite(scores)))
        raise RerankerFailed(f"{where}: {scores[at]} for text {at}, {texts[at][:_SHOWN]!r}; scores must be finite")
    return [float(score) + 0.0 for score in scores.tolist()]  # -0.0 becomes 0.0


def _reordered(hits: Sequence[Hit], scores: list[float], retrieved_by: str) -> list[Hit]:
    # `sorted` is stable: equal scores stay in the order of retrieval.
    ordered = sorted(zip(hits, scores, strict=True), key=lambda pair: -pair[1])
    return [
        Hit(hit.chunk, score, rank, {**(hit.scores or {retrieved_by: hit.score}), "rerank": score})
        for rank, (hit, score) in enumerate(ordered, start=1)
    ]
