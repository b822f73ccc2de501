"""How hard an index must be asked for a recall: a fixed starting table, raised where this data needs more.

The table comes from real questions held out from the index (docs/decisions/0003-first-recipes.md). Data differ,
though: the same 4-bit codes put 97% of the true neighbours of real embeddings among thirty candidates, and 57% of those
of random vectors. So every index built is questioned with a sample of its own rows, and a level that the table does not
reach gets more effort or more candidates, or, where nothing helps, exact search. Stored rows are kinder queries than
questions are; therefore the measurement only ever raises what the table says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from recollect.index import exact
from recollect.types import FloatMatrix, Metric, Rows

SAMPLE_QUERIES = 128
SAMPLE_K = 10
_SEED = 7


class Point(NamedTuple):
    """How an index is searched for a recall.

    Attributes:
        recall: of the k best, aimed at.
        effort: IVF: part of the lists that is probed; HNSW: efSearch per result; otherwise without meaning.
        candidates: fetched per result and rescored exactly; 0 when the index cannot reach this recall.

    """

    recall: float
    effort: float
    candidates: int


class Candidates(Protocol):
    """What tuning asks of an index."""

    def candidates(self, queries: FloatMatrix, count: int, effort: float) -> Rows:
        """Return candidate rows, int64 (n, count), −1 where fewer were found."""
        ...


IVF_POINTS = (
    Point(0.80, 0.08, 3),
    Point(0.90, 0.18, 3),
    Point(0.95, 0.28, 3),
    Point(0.97, 0.40, 3),
    Point(0.98, 0.50, 4),
    Point(0.99, 0.75, 4),
    Point(0.999, 1.0, 10),
)
HNSW_POINTS = (
    Point(0.80, 3, 3),
    Point(0.90, 4, 3),
    Point(0.95, 8, 3),
    Point(0.97, 16, 3),
    Point(0.98, 24, 4),
    Point(0.99, 48, 4),
    Point(0.999, 96, 10),
)
FLAT_POINTS = tuple(Point(point.recall, 1.0, point.candidates) for point in IVF_POINTS)
MOST_RECALL = IVF_POINTS[-1].recall
"""A recall above this is always answered by exact search."""

_CANDIDATE_STEPS = (3, 4, 6, 10, 20, 40)
_CHEAP_CANDIDATES = 10  # beyond, another step of effort is tried first


def tune(searched: Candidates, matrix: FloatMatrix, metric: Metric, table: Iterable[Point]) -> list[Point]:
    """Return *table*, with the points raised that a sample of the index's own rows does not reach.

    Args:
        searched: the index, over all rows of *matrix*.
        matrix: (rows, d).
        metric: of the collection.
        table: where to start, by rising recall.

    """
    points = list(table)
    queries, own = _sample(matrix)
    if len(own) < 2:
        return points
    k = min(SAMPLE_K, len(matrix) - 1)
    least = _thresholds(matrix, queries, own, k, metric)
    efforts = sorted({point.effort for point in points})
    curves = {
        effort: _curve(searched.candidates(queries, _most(k, matrix), effort), matrix, queries, own, least, k, metric)
        for effort in efforts
    }
    return [_raised(point, efforts, curves) for point in points]


def _raised(point: Point, efforts: list[float], curves: dict[float, dict[int, float]]) -> Point:
    """Return the point with the least effort, from its own on, whose measured recall reaches it."""
    for most in (_CHEAP_CANDIDATES, _CANDIDATE_STEPS[-1]):
        for effort in efforts:
            steps = (step for step in _CANDIDATE_STEPS if point.candidates <= step <= most)
            reached = next((step for step in steps if curves[effort][step] >= point.recall), None)
            if effort >= point.effort and reached is not None:
                return Point(point.recall, effort, reached)
    return Point(point.recall, point.effort, 0)


def _sample(matrix: FloatMatrix) -> tuple[FloatMatrix, Rows]:
    count = min(SAMPLE_QUERIES, len(matrix))
    own = np.sort(np.random.default_rng(_SEED).choice(len(matrix), count, replace=False))
    return np.ascontiguousarray(matrix[own]), own


def _thresholds(matrix: FloatMatrix, queries: FloatMatrix, own: Rows, k: int, metric: Metric) -> list[float]:
    """Return, per query, the score that a row must have to belong to the k best others: ties count as found."""
    found = exact.candidates(matrix, queries, k + 1, metric)
    least = []
    for rows, query, row in zip(found, queries, own, strict=True):
        others = rows[rows != row]
        scores = np.sort(exact.scores_of(matrix, others, query, metric))[::-1]
        kth = float(scores[min(k, len(scores)) - 1])
        least.append(kth - 1e-6 * max(1.0, abs(kth)))
    return least


def _curve(
    found: Rows, matrix: FloatMatrix, queries: FloatMatrix, own: Rows, least: list[float], k: int, metric: Metric
) -> dict[int, float]:
    """Return candidates per result → recall@k, as the mean over the queries less one standard error.

    One search serves every number of candidates: FAISS returns them in its own order, of which each is a prefix.
    """
    shares: npt.NDArray[np.float64] = np.empty((len(queries), len(_CANDIDATE_STEPS)))
    for i, (rows, query, row, threshold) in enumerate(zip(found, queries, own, least, strict=True)):
        others = rows[(rows >= 0) & (rows != row)]
        hits = np.cumsum(exact.scores_of(matrix, others, query, metric) >= threshold)
        for j, step in enumerate(_CANDIDATE_STEPS):
            upto = hits[: step * k]
            shares[i, j] = min(k, int(upto[-1])) / k if len(upto) else 0.0
    error = shares.std(axis=0) / math.sqrt(len(queries))
    return dict(zip(_CANDIDATE_STEPS, (shares.mean(axis=0) - error).tolist(), strict=True))


def _most(k: int, matrix: FloatMatrix) -> int:
    return min(len(matrix), _CANDIDATE_STEPS[-1] * k + 1)
