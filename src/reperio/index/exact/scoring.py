"""Score stored vectors in float64, one row at a time, whatever path found the row, and choose the best.

What finds rows quickly computes in float32, whose rounding cannot tell vectors apart that lie close together. `slack`
bounds that rounding; what is within it is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix, to_float32

Scores = npt.NDArray[np.float64]
_Doubles = npt.NDArray[np.float64]
Nearest: TypeAlias = tuple[list[int], list[float]]  # rows and their scores, best first
_BLOCK_FLOATS = 1 << 17  # widened at once: 1 MiB of float64, which stays in the processor's cache
_AT_ONCE = 1 << 20  # widened at once where that saves calls: 8 MiB
_PENDING = 1024  # rows that may be better, gathered before they are ranked: ranking costs per call
_UNIT = 2.0**-24  # largest relative error of one float32 operation
_UNDERFLOW = 2.0**-126  # largest absolute error of a float32 product that underflows, subnormals flushed or not


def slack(dimension: int) -> float:
    """Return the most that a float32 dot product can be off, relative to the product of both lengths.

    For any order of summation: every processor's kernel has another one (Higham 2002, section 3.1). A squared distance
    that is summed over differences is off by no more, relative to itself.
    """
    return 1.05 * (dimension + 8) * _UNIT


def underflow(dimension: int) -> float:
    """Return what products too small for float32 can add to that, as an absolute error."""
    return dimension * _UNDERFLOW


def scores_of(matrix: StoredMatrix, rows: Rows, query: FloatMatrix, metric: Metric) -> Scores:
    """Return the public scores of *rows* for one query of shape (d,): the same whatever path found them."""
    # One dot product per row, so that a score depends neither on the path by which the row was found nor on the rows
    # next to it: a matrix product would round differently with its shape.
    if rows.size * query.size > _AT_ONCE:
        step = max(1, _AT_ONCE // query.size)
        parts = [scores_of(matrix, rows[low : low + step], query, metric) for low in range(0, len(rows), step)]
        return np.concatenate(parts)
    found = matrix.take(rows, axis=0)
    if matrix.itemsize == 2:
        found = to_float32(found)
    return _scores(found, query.astype(np.float64), metric)  # rows are widened on the way: a copy costs a microsecond


def _scores(found: StoredMatrix | _Doubles, query: _Doubles, metric: Metric) -> Scores:
    if metric is Metric.L2:
        apart = found - query
        scores: Scores = 0.0 - np.vecdot(apart, apart)  # not -x, which of a distance of 0 is -0.0
    else:
        scores = np.vecdot(found, query)
    return scores


def best(rows: Rows, scores: Scores, k: int, metric: Metric) -> Nearest:
    """Return the *k* best, by score, then by row."""
    order = scores.argsort()[: -k - 2 : -1]
    values = scores[order].tolist()
    if len(set(values)) < len(values):  # seldom: only equal scores need the second key, which doubles the price
        order = np.lexsort((rows, -scores))
        values = scores[order[:k]].tolist()
    found, values = rows[order[:k]].tolist(), values[:k]
    if values and values[0] == 0.0:
        values = [value + 0.0 for value in values]  # minus no distance at all is -0.0, which nobody wants to read
    if metric is Metric.COSINE and values and (values[0] > 1 or values[-1] < -1):
        values = [min(1.0, max(-1.0, value)) for value in values]  # rounding only; the order stands
    return found, values


def best_rows(matrix: StoredMatrix, rows: Sequence[Rows], queries: FloatMatrix, k: int, metric: Metric) -> list[Rows]:
    """Return the exact *k* best of many rows, per query and in order of row: where float32 could not tell them apart.

    Each block of rows is widened once for all queries. Memory does not grow with the number of rows.

    Args:
        matrix: (rows, d), mapped, as stored.
        rows: per query, those among which the best lie; all of them may be found by every query.
        queries: (n, d).
        k: at least 1.
        metric: of the collection.
    """
    every = rows[0] if len(rows) == 1 else np.unique(np.concatenate(rows))
    wide = queries.astype(np.float64)
    tops = [_Top(k) for _ in wide]
    step = max(16, _BLOCK_FLOATS // matrix.shape[1])
    for low in range(0, len(every), step):
        part = every[low : low + step]
        block = to_float32(matrix.take(part, axis=0)).astype(np.float64)
        for top, query in zip(tops, wide, strict=True):
            top.add(part, _scores(block, query, metric))
    return [np.sort(top.rows()) for top in tops]


class _Top:
    """The *k* best of rows that come in ascending order: of equal scores the earliest stay."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._least = -np.inf
        self._rows: list[Rows] = []
        self._scores: list[Scores] = []
        self._held = 0

    def add(self, rows: Rows, scores: Scores) -> None:
        better = scores > self._least if self._least > -np.inf else np.ones(len(scores), dtype=np.bool_)
        count = int(np.count_nonzero(better))
        if not count:
            return
        self._rows.append(rows[better])
        self._scores.append(scores[better])
        self._held += count
        if self._held > self._k + max(self._k, _PENDING):
            self._rank()

    def rows(self) -> Rows:
        self._rank()
        return self._rows[0] if self._rows else np.empty(0, dtype=np.int64)

    def _rank(self) -> None:
        if not self._rows:
            return
        rows, scores = np.concatenate(self._rows), np.concatenate(self._scores)
        chosen = np.argsort(-scores, kind="stable")[: self._k]  # rows came in order, so ties stay in it
        chosen.sort()
        self._rows, self._scores, self._held = [rows[chosen]], [scores[chosen]], len(chosen)
        if len(chosen) == self._k:
            self._least = float(scores[chosen].min())
