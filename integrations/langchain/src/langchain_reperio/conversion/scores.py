"""Scores as relevance: from 0 to 1, higher is better, never in another order.

LangChain's own functions take distances; fed with similarities they gave negative or inverted relevance. These take
Reperio's scores, of which the higher is always the better one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal, TypeAlias

from reperio import Metric
from reperio.errors import InvalidInput
from reperio.ranking import RANK_CONSTANT

Relevance: TypeAlias = Callable[[float], float]


RelevanceScale: TypeAlias = Literal["langchain", "reperio"]
"""Whose formula makes relevance of the scores of vectors; see `to_relevance`."""


def to_relevance(
    metric: Metric,
    *,
    scale: RelevanceScale = "langchain",
    mode: str = "dense",
    fusion: str = "convex",
    reranked: bool = False,
) -> Relevance:
    """Return the function from a score to its relevance in [0, 1].

    Of the scores of vectors there are two. "langchain" is what LangChain's own stores compute by default (FAISS,
    Chroma, PGVector), held to [0, 1]: a threshold means the same here. It supposes vectors of length 1. "reperio" rises
    strictly over all scores that there can be, so that no two documents get one relevance.

    ==================  =========================  ===============================
    score               "langchain"                "reperio"
    ==================  =========================  ===============================
    cosine s            s                          (1 + s) / 2
    inner product s     s                          (1 + s / (1 + abs(s))) / 2
    L2 s = -distance²   1 - distance² / sqrt(2)    1 / (1 + distance²)
    ==================  =========================  ===============================

    Of the other scores there is one each:

    ==================  ===========================  ====================================================
    score               relevance                    0.5 means
    ==================  ===========================  ====================================================
    hybrid, convex      s, in [0, 1] already         half of what the best of both lists would have
    hybrid, "rrf"       s · 61 / 2                   first of one list, and not in the other
    lexical (BM25) s    s / (1 + s)                  a BM25 of 1
    reranked s          (1 + s / (1 + abs(s))) / 2   a score of 0
    ==================  ===========================  ====================================================

    All never fall. Of the inner product LangChain's formula for distances is not taken over: fed with FAISS's inner
    products, it puts the best document last. The soft sign x / (1 + abs(x)) stands where scores have no limits.
    Rejected: the sigmoid, which makes 1.0 of every inner product above 37; min-max over the hits, which makes 1.0 of
    the best one, however bad.

    Args:
        metric: of the collection.
        scale: whose formula for the scores of vectors.
        mode, fusion: of the search.
        reranked: whether a reranker gave the scores.
    """
    if reranked:
        return _soft_sign
    if mode == "hybrid":
        return _within if fusion == "convex" else _of_ranks
    return _saturating if mode == "lexical" else _OF_METRIC[scale][metric]


def checked_scale(scale: RelevanceScale) -> RelevanceScale:
    """Return *scale*, or refuse it."""
    if scale not in _OF_METRIC:
        raise InvalidInput(f"relevance is {scale!r}; choose {', '.join(map(repr, _OF_METRIC))}")
    return scale


def checked(relevance: Relevance) -> Relevance:
    """Return a user's own function, held to [0, 1].

    Raises, when called:
        InvalidInput: it gave something else.
    """

    def within(score: float) -> float:
        found = relevance(score)
        if not 0.0 <= found <= 1.0:
            raise InvalidInput(f"relevance_score_fn made {found!r} of the score {score!r}; it must be within [0, 1]")
        return float(found)

    return within


def _cosine(score: float) -> float:
    # The cosine of a vector with itself can be a rounding error above 1.
    return _within((1.0 + score) / 2.0)


def _soft_sign(score: float) -> float:
    return (1.0 + score / (1.0 + abs(score))) / 2.0


def _l2(score: float) -> float:
    return 1.0 / (1.0 + max(0.0, -score))


def _saturating(score: float) -> float:
    return score / (1.0 + score) if score > 0 else 0.0


def _of_ranks(score: float) -> float:
    return _within(score * (RANK_CONSTANT + 1) / 2.0)


def _within(score: float) -> float:
    return min(1.0, max(0.0, score))


def _common_l2(score: float) -> float:
    return _within(1.0 + score / sqrt(2.0))


_OF_METRIC: dict[RelevanceScale, dict[Metric, Relevance]] = {
    "langchain": {Metric.COSINE: _within, Metric.INNER_PRODUCT: _within, Metric.L2: _common_l2},
    "reperio": {Metric.COSINE: _cosine, Metric.INNER_PRODUCT: _soft_sign, Metric.L2: _l2},
}
