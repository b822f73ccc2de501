"""Find the exact nearest rows of hundreds of queries at once: the truth that an index is tuned against."""

from __future__ import annotations

import math
import os

import numpy as np
import numpy.typing as npt

from reperio.index.library.loading import load_faiss, metric_type, threads
from reperio.index.searching.exact import Among, candidates
from reperio.index.searching.norms import greatest_of
from reperio.index.searching.scoring import Scores, best, scores_of, slack, underflow
from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix, to_float32

_BLOCK_BYTES = 1 << 25  # of float32 vectors: the memory it takes, whatever the number of rows
_SPARES = 16, 1024  # candidates beyond k; more for the queries for which the first were not surely enough
_GROUP = 256  # queries that are compared with every row where that was not enough either


def nearest(matrix: StoredMatrix, queries: FloatMatrix, k: int, metric: Metric) -> tuple[Rows, Scores]:
    """Return the exact top *k* of many queries, with their public scores, in memory that does not grow with *matrix*.

    Hundreds of queries share one pass over the matrix, in FAISS's blocked matrix product: the way to the true
    neighbours of held-out queries.

    Args:
        matrix: (rows, d), mapped, as stored; all rows are considered.
        queries: (n, d).
        k: at least 1.
        metric: of the collection.

    Returns:
        rows: int64 (n, k), best first, −1 where there are fewer.
        scores: float64 (n, k), −inf there.

    """
    rows: Rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores: Scores = np.full((len(queries), k), -np.inf, dtype=np.float64)
    left = np.arange(len(queries))
    with threads(len(os.sched_getaffinity(0))):
        for spare in _SPARES:
            if len(left):
                left = left[_ranked(matrix, queries[left], k + spare, metric, (rows, scores), left)]
    for low in range(0, len(left), _GROUP):
        some = left[low : low + _GROUP]
        for i, found in zip(some, candidates(Among(matrix, metric), queries[some], k), strict=True):
            _put(matrix, queries[i], found, metric, (rows[i], scores[i]))
    return rows, scores


def _ranked(
    matrix: StoredMatrix,
    queries: FloatMatrix,
    count: int,
    metric: Metric,
    out: tuple[Rows, Scores],
    places: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Score candidates exactly, write the best to *out*, and return the queries that may lack a better row."""
    # Squared distances come as ‖q‖² − 2qy + ‖y‖², which far from the origin drowns them: they are off in proportion to
    # (‖q‖ + ‖y‖)². A row that is missing wrongly is nearer than the last of the best, at distance r: then ‖y‖ < ‖q‖ +
    # r.
    close, found, longest = _knn(matrix, queries, count, metric)
    part = slack(matrix.shape[1])
    doubtful = []
    for i, query in enumerate(queries):
        held = found[i][found[i] >= 0]
        last = _put(matrix, query, held, metric, (out[0][places[i]], out[1][places[i]]))
        if len(held) < count:
            continue
        length = float(np.linalg.norm(query.astype(np.float64)))
        lengths = (2 * length + math.sqrt(-last)) ** 2 if metric is Metric.L2 else length * longest
        near = -float(close[i, -1]) if metric is Metric.L2 else float(close[i, -1])
        if near + part * lengths + underflow(matrix.shape[1]) >= last:
            doubtful.append(i)
    return np.array(doubtful, dtype=np.int64)


def _put(matrix: StoredMatrix, query: FloatMatrix, found: Rows, metric: Metric, out: tuple[Rows, Scores]) -> float:
    """Write the best of the rows found to *out*, (k,) each; return the score of the last of them."""
    rows, scores = out
    best_rows, values = best(found, scores_of(matrix, found, query, metric), len(rows), metric)
    rows[: len(best_rows)], scores[: len(best_rows)] = best_rows, values
    return values[-1] if values else -math.inf


def _knn(
    matrix: StoredMatrix, queries: FloatMatrix, count: int, metric: Metric
) -> tuple[npt.NDArray[np.float32], Rows, float]:
    """Return FAISS's distances and rows, (queries, count), nearest first, and the length of the longest row."""
    faiss = load_faiss()
    heap = faiss.ResultHeap(len(queries), count, keep_max=metric is not Metric.L2)
    block = max(8, _BLOCK_BYTES // (4 * matrix.shape[1]))
    longest = 0.0
    for low in range(0, len(matrix), block):
        part = to_float32(matrix[low : low + block])
        distances, found = faiss.knn(queries, part, min(count, len(part)), metric=metric_type(metric))
        heap.add_result(distances, found + low)
        if metric is not Metric.L2:
            longest = max(longest, greatest_of(part, np.arange(len(part))))
    heap.finalize()
    return heap.D, heap.I, longest
