"""Scores as relevance: from 0 to 1, higher is better, never in another order.

LangChain's own functions take distances; fed with similarities they gave negative or inverted relevance. These take
Reperio's scores, of which the higher is always the better one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from reperio import Metric
from reperio.errors import InvalidInput
from reperio.ranking import RANK_CONSTANT

Relevance: TypeAlias = Callable[[float], float]


def to_relevance(metric: Metric, *, mode: str = "dense", fusion: str = "convex", reranked: bool = False) -> Relevance:
    """Return the function from a score to its relevance in [0, 1].

    ==================  ===============================  ======================================================
    score               relevance                        0.5 means
    ==================  ===============================  ======================================================
    cosine s            (1 + s) / 2                      a right angle
    inner product s     (1 + s / (1 + abs(s))) / 2       an inner product of 0
    L2 s = -distance²   1 / (1 + distance²)              a distance of 1
    hybrid, convex      s, in [0, 1] already             half of what the best of both lists would have
    hybrid, "rrf"       s · 61 / 2                       first of one list, and not in the other
    lexical (BM25) s    s / (1 + s)                      a BM25 of 1
    reranked s          (1 + s / (1 + abs(s))) / 2       a score of 0
    ==================  ===============================  ======================================================

    All rise strictly; only beyond some 1e8 do float64 values become equal. The soft sign x / (1 + abs(x)) stands where
    scores have no limits. Rejected: the sigmoid, which makes 1.0 of every inner product above 37, so that a threshold
    could no longer tell them apart; min-max over the hits, which makes 1.0 of the best one, however bad.

    Args:
        metric: of the collection.
        mode, fusion: of the search.
        reranked: whether a reranker gave the scores.
    """
    if reranked:
        return _soft_sign
    if mode == "hybrid":
        return _within if fusion == "convex" else _of_ranks
    return _saturating if mode == "lexical" else _OF_METRIC[metric]


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


_OF_METRIC: dict[Metric, Relevance] = {
    Metric.COSINE: _cosine,
    Metric.INNER_PRODUCT: _soft_sign,
    Metric.L2: _l2,
}
