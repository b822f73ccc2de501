"""Find the exact nearest rows of hundreds of queries at once: the truth that an index is tuned against."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.exact.converting import converted_ahead
from reperio.index.exact.exhaustive import Among, candidates
from reperio.index.exact.norms import greatest_of
from reperio.index.exact.read_ahead import in_blocks
from reperio.index.exact.scoring import Scores, best, scores_of, slack, underflow
from reperio.index.library.loading import load_faiss, metric_type, threads
from reperio.types import FloatMatrix, Metric, Progress, Rows
from reperio.vectors import StoredMatrix, to_float32

_BLOCK_BYTES = 1 << 25  # of float32 vectors: the memory it takes, whatever the number of rows
_SPARES = 16, 1024  # candidates beyond k; more for the queries for which the first were not surely enough
_GROUP = 256  # queries that are compared with every row where that was not enough either


def nearest(
    matrix: StoredMatrix, queries: FloatMatrix, k: int, metric: Metric, progress: Progress | None = None
) -> tuple[Rows, Scores]:
    """Return the exact top *k* of many queries, with their public scores, in memory that does not grow with *matrix*.

    Hundreds of queries share one pass over the matrix, in FAISS's blocked matrix product: the way to the true
    neighbours of held-out queries.

    Args:
        matrix: (rows, d), mapped, as stored; all rows are considered.
        queries: (n, d).
        k: at least 1.
        metric: of the collection.
        progress: called per block with the stage "answers" and the rows compared so far.

    Returns:
        rows: int64 (n, k), best first, −1 where there are fewer.
        scores: float64 (n, k), −inf there.
    """
    rows: Rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores: Scores = np.full((len(queries), k), -np.inf, dtype=np.float64)

    def put(i: int, found: Rows) -> float:
        """Keep the best of the rows found for a query; return the score of the last of them."""
        best_rows, values = best(found, scores_of(matrix, found, queries[i], metric), k, metric)
        rows[i, : len(best_rows)], scores[i, : len(best_rows)] = best_rows, values
        return values[-1] if values else -math.inf

    left = list(range(len(queries)))
    with threads(len(os.sched_getaffinity(0))):
        for spare in _SPARES if left else ():
            tried, left = left, []
            close, found, longest = _knn(matrix, queries[tried], k + spare, metric, progress)
            progress = None  # few are left, if any
            for i, farthest, held in zip(tried, close[:, -1].tolist(), found, strict=True):
                last = put(i, held[held >= 0])
                if (held >= 0).all() and _may_lack(queries[i], farthest, last, metric, longest):
                    left.append(i)
            if not left:
                break
    for low in range(0, len(left), _GROUP):
        some = left[low : low + _GROUP]
        for i, rows_found in zip(some, candidates(Among(matrix, metric), queries[some], k), strict=True):
            put(i, rows_found)
    return rows, scores


def _may_lack(query: FloatMatrix, farthest: float, last: float, metric: Metric, longest: float) -> bool:
    """Say whether a row behind the candidates, the last of which is at *farthest*, may be better than the last best."""
    # Squared distances come as ‖q‖² − 2qy + ‖y‖², which far from the origin drowns them: they are off in proportion to
    # (‖q‖ + ‖y‖)². A row that is missing wrongly is nearer than the last of the best, at distance r: then ‖y‖ is less
    # than ‖q‖ + r.
    length = float(np.linalg.norm(query.astype(np.float64)))
    lengths = (2 * length + math.sqrt(-last)) ** 2 if metric is Metric.L2 else length * longest
    near = -farthest if metric is Metric.L2 else farthest
    return near + slack(len(query)) * lengths + underflow(len(query)) >= last


def _knn(
    matrix: StoredMatrix, queries: FloatMatrix, count: int, metric: Metric, progress: Progress | None
) -> tuple[npt.NDArray[np.float32], Rows, float]:
    """Return FAISS's distances and rows, (queries, count), nearest first, and the length of the longest row."""
    faiss = load_faiss()
    heap = faiss.ResultHeap(len(queries), count, keep_max=metric is not Metric.L2)
    block = max(8, _BLOCK_BYTES // (4 * matrix.shape[1]))
    longest, low = 1.0 if metric is Metric.COSINE else 0.0, 0
    if progress is not None:
        progress("answers", 0, len(matrix))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts: Iterable[Any] = in_blocks(matrix, 0, block)
        if matrix.dtype != np.float32:
            parts = converted_ahead(parts, to_float32, matrix.shape[1], pool)
        for part in parts:
            distances, found = faiss.knn(queries, part, min(count, len(part)), metric=metric_type(metric))
            heap.add_result(distances, found + low)
            if metric is Metric.INNER_PRODUCT:
                longest = max(longest, greatest_of(part, np.arange(len(part))))
            low += len(part)
            if progress is not None:
                progress("answers", low, len(matrix))
    heap.finalize()
    return heap.D, heap.I, longest
