"""Exact search and exact scores from the mapped vector file: the truth the index only approximates.

The file keeps float32 or float16; scores are computed in float32, of the vectors as kept.
"""

from __future__ import annotations

import math
import os
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.index.faiss_library import load_faiss, metric_type, threads
from recollect.index.scanning import scan
from recollect.types import FloatMatrix, Metric, Rows
from recollect.vectors import StoredMatrix, to_float32

Scores = npt.NDArray[np.float32]
Ranked: TypeAlias = tuple[list[int], list[float]]
"""Rows and their scores, best first."""

_BLOCK_FLOATS = 1 << 22  # scores of one block: 16 MiB of float32
_BLOCK_BYTES = 1 << 25  # of float32 vectors, for `nearest`: its memory, whatever the number of rows
_SPARE = 16  # candidates beyond k, so that those that are taken for slightly worse than they are come in as well
_FEW_QUERIES = 4  # with more, widening the vectors for all of them at once is cheaper than scanning for each
_FEW_ROWS = 0.05  # part of the rows up to which picking out float16 rows costs less than passing over the others
_WIDENED_FLOATS = 1 << 17  # float16 is widened in parts of 512 KiB, which stay in the processor's cache
_BLUR = 4e-6  # relative error of a float32 dot product, amply: candidates this near to the last one may be its betters


def scores_of(matrix: StoredMatrix, rows: Rows, query: FloatMatrix, metric: Metric) -> Scores:
    """Return the public scores of *rows* for one query of shape (d,): the same whatever path found them.

    One dot product per row, so that a score depends neither on the path by which the row was found nor on the
    rows beside it; a matrix product would round differently with its shape.
    """
    found = matrix.take(rows, axis=0) if matrix.itemsize == 4 else to_float32(matrix.take(rows, axis=0))
    if metric is Metric.L2:
        found -= query
        return np.asarray(-np.vecdot(found, found))
    return np.asarray(np.vecdot(found, query))


def best(rows: Rows, scores: Scores, k: int, metric: Metric) -> Ranked:
    """Return the *k* best, by score, then by row."""
    order = (-scores).argsort()[: k + 1]
    values = scores[order].tolist()
    if len(set(values)) < len(values):  # seldom: only equal scores need the second key, which doubles the price
        order = np.lexsort((rows, -scores))
        values = scores[order[:k]].tolist()
    found, values = rows[order[:k]].tolist(), values[:k]
    if metric is Metric.COSINE and values and (values[0] > 1 or values[-1] < -1):
        values = [min(1.0, max(-1.0, value)) for value in values]  # rounding only; the order stands
    return found, values


def candidates(
    matrix: StoredMatrix,
    queries: FloatMatrix,
    k: int,
    metric: Metric,
    *,
    first: int = 0,
    allowed: npt.NDArray[np.uint8] | None = None,
    few: Rows | None = None,
) -> list[Rows]:
    """Return, per query, rows of [first, len(matrix)) among which the exact top *k* lie.

    Args:
        matrix: (rows, d), mapped, as stored.
        queries: (n, d).
        first: first row to consider.
        allowed: packed bits (little-endian) of the rows to consider; None for all.
        few: the rows that *allowed* stands for, in order, where the caller keeps them; with *first* 0.

    """
    if allowed is not None and first == 0 and len(queries) <= _FEW_QUERIES and len(matrix) <= _BLOCK_FLOATS:
        picked = _picked(matrix, rows_of(allowed, len(matrix)) if few is None else few, queries, k, metric)
        if picked is not None:
            return picked
    if few is not None and len(queries) > _FEW_QUERIES:
        return _picked_for_many(matrix, few, queries, k, metric)
    if (
        len(queries) == 1
        and first == 0
        and matrix.itemsize == 4
        and allowed is None
        and metric is not Metric.L2
        and len(matrix) <= _BLOCK_FLOATS
    ):
        return [_nearest(matrix @ queries[0], k)]  # the common case of a small collection, without the bookkeeping
    if matrix.itemsize == 2 and len(queries) <= _FEW_QUERIES:
        scanned = [_scanned(matrix, query, k, metric, first, allowed) for query in queries]
        if all(found is not None for found in scanned):
            return [found for found in scanned if found is not None]
    rows: list[list[Rows]] = [[] for _ in queries]
    near: list[list[npt.NDArray[np.float32]]] = [[] for _ in queries]
    block = max(1024, _BLOCK_FLOATS // max(1, len(queries)))
    block -= block % 8  # whole bytes of the mask
    start = first - first % 8
    for low in range(start, len(matrix), block):
        high = min(low + block, len(matrix))
        ids = _considered(low, high, first, allowed)
        part = matrix[low:high] if ids is None else matrix[ids] if len(ids) * 4 < high - low else matrix[low:high]
        gathered = ids is not None and len(part) == len(ids)
        closeness = _closeness(part, queries, metric)
        if ids is not None and not gathered:
            closeness = closeness[:, ids - low]
        _collect(closeness, ids, low, k, rows, near)
    return [_top(found, values, k) for found, values in zip(rows, near, strict=True)]


def _picked(matrix: StoredMatrix, few: Rows, queries: FloatMatrix, k: int, metric: Metric) -> list[Rows] | None:
    """Return candidates among some of the rows; None where another way is quicker, or too many of them tie."""
    if matrix.itemsize == 4:
        whole = to_float32(matrix)  # as it is, without a copy
        return [few[_nearest(_closeness_by_row(whole, few, query, metric), k)] for query in queries]
    if len(few) > _FEW_ROWS * len(matrix):
        return None
    part = matrix.take(few, axis=0)
    found = [_scanned(part, query, k, metric, 0, None) for query in queries]
    known = [few[positions] for positions in found if positions is not None]
    return known if len(known) == len(found) else None


def _picked_for_many(matrix: StoredMatrix, few: Rows, queries: FloatMatrix, k: int, metric: Metric) -> list[Rows]:
    """Return candidates of many queries among some of the rows: one copy of them, and one product, for all."""
    part = matrix.take(few, axis=0)
    step = max(1, _BLOCK_FLOATS // max(1, len(few)))
    blocks = (_closeness(part, queries[low : low + step], metric) for low in range(0, len(queries), step))
    return [few[_nearest(values, k)] for block in blocks for values in block]


def _closeness_by_row(matrix: FloatMatrix, few: Rows, query: FloatMatrix, metric: Metric) -> npt.NDArray[np.float32]:
    """Return float32 (few,), higher is closer.

    FAISS reads the rows where they lie: a third of the time that a copy and a product of it take. And it stays on this
    thread, where numpy's product of a few thousand rows wakes all cores: 12 ms instead of 0.6 while others compute.
    """
    faiss = load_faiss()
    pointer = faiss.swig_ptr
    close = np.empty(len(few), dtype=np.float32)
    compare = faiss.fvec_L2sqr_by_idx if metric is Metric.L2 else faiss.fvec_inner_products_by_idx
    if len(few):
        with threads(1):
            compare(pointer(close), pointer(query), pointer(matrix), pointer(few), matrix.shape[1], 1, len(few))
    return np.negative(close, out=close) if metric is Metric.L2 else close


def _scanned(
    matrix: StoredMatrix,
    query: FloatMatrix,
    k: int,
    metric: Metric,
    first: int,
    allowed: npt.NDArray[np.uint8] | None,
) -> Rows | None:
    """Return candidates of one query among float16 rows; None where so many tie that it takes the long way."""
    start = first if allowed is None else first - first % 8
    part = matrix[start:]
    bits = None
    if allowed is not None:
        bits = allowed[start // 8 :].copy()
        bits[:1] &= np.uint8(0xFF << first % 8 & 0xFF)
    count = min(k + _SPARE, len(part))
    if count == 0:
        return np.empty(0, dtype=np.int64)
    found, values = scan(part, query, count, metric, bits)
    if len(found) > k:
        last = float(np.partition(values, len(values) - k)[len(values) - k])
        least = last - _BLUR * max(abs(last), abs(float(values.max())))
        if len(found) == count < len(part) and values.min() >= least:
            return None
        found = found[values >= least]
    return np.sort(found) + start


def nearest(
    matrix: StoredMatrix,
    queries: FloatMatrix,
    k: int,
    metric: Metric,
    *,
    allowed: npt.NDArray[np.uint8] | None = None,
    workers: int | None = None,
) -> tuple[Rows, Scores]:
    """Return the exact top *k* of many queries, with their public scores, in memory that does not grow with *matrix*.

    Hundreds of queries share one pass over the matrix, in FAISS's blocked matrix product: the way to the true
    neighbours of held-out queries. Of rows whose scores float32 cannot tell apart, any may come last.

    Args:
        matrix: (rows, d), mapped, as stored.
        queries: (n, d).
        k: at least 1.
        metric: of the collection.
        allowed: packed bits (little-endian) of the rows to consider; None for all.
        workers: threads for FAISS; None for all cores that this process may use.

    Returns:
        rows: int64 (n, k), best first, −1 where there are fewer.
        scores: float32 (n, k), −inf there.

    """
    rows: Rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores: Scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    with threads(workers or len(os.sched_getaffinity(0))):
        close, found = _knn(matrix, queries, k + _SPARE, metric, allowed)
        doubtful = _rank(matrix, queries, found, metric, (rows, scores), close)
        # Below FAISS's own threshold it takes differences instead of a matrix product: slower, and always right.
        few = max(1, load_faiss().cvar.distance_compute_blas_threshold - 1)
        for low in range(0, len(doubtful), few):
            some = doubtful[low : low + few]
            ranked = rows[some], scores[some]
            _rank(matrix, queries[some], _knn(matrix, queries[some], k + _SPARE, metric, allowed)[1], metric, ranked)
            rows[some], scores[some] = ranked
    return rows, scores


def _knn(
    matrix: StoredMatrix, queries: FloatMatrix, count: int, metric: Metric, allowed: npt.NDArray[np.uint8] | None
) -> tuple[Scores, Rows]:
    """Return FAISS's distances and rows, (queries, count), nearest first."""
    faiss = load_faiss()
    heap = faiss.ResultHeap(len(queries), count, keep_max=metric is not Metric.L2)
    block = max(8, _BLOCK_BYTES // (4 * matrix.shape[1]) // 8 * 8)  # whole bytes of the mask
    for low in range(0, len(matrix), block):
        high = min(low + block, len(matrix))
        ids = _considered(low, high, 0, allowed)
        part = to_float32(matrix[low:high] if ids is None else matrix[ids])
        if len(part):
            distances, found = faiss.knn(queries, part, min(count, len(part)), metric=metric_type(metric))
            heap.add_result(distances, found + low if ids is None else ids[found])
    heap.finalize()
    return heap.D, heap.I


def _rank(
    matrix: StoredMatrix,
    queries: FloatMatrix,
    found: Rows,
    metric: Metric,
    out: tuple[Rows, Scores],
    close: Scores | None = None,
) -> npt.NDArray[np.int64]:
    """Score candidates exactly and write the best to *out*; return the queries whose candidates may lack a better row.

    As ‖q‖² − 2qy + ‖y‖², a squared distance is wrong by up to `_BLUR` (‖q‖ + ‖y‖)², which far from the origin drowns
    it. A row that is missing wrongly is nearer than the last of the best, at distance r: then ‖y‖ < ‖q‖ + r.
    """
    rows, scores = out
    k = rows.shape[1]
    doubtful = []
    for i, query in enumerate(queries):
        candidates = found[i][found[i] >= 0]
        best_rows, values = best(candidates, scores_of(matrix, candidates, query, metric), k, metric)
        rows[i, : len(best_rows)], scores[i, : len(best_rows)] = best_rows, values
        if close is not None and metric is Metric.L2 and len(candidates) == found.shape[1]:
            last = -values[-1]
            error = _BLUR * (2 * float(np.linalg.norm(query)) + math.sqrt(last)) ** 2
            if float(close[i, -1]) - error < last:
                doubtful.append(i)
    return np.array(doubtful, dtype=np.int64)


def _considered(low: int, high: int, first: int, allowed: npt.NDArray[np.uint8] | None) -> Rows | None:
    """Return the rows of [low, high) to consider; None for all."""
    if allowed is None and low >= first:
        return None
    if allowed is None:
        return np.arange(max(low, first), high)
    bits = np.unpackbits(allowed[low // 8 : (high + 7) // 8], count=high - low, bitorder="little")
    ids = np.flatnonzero(bits) + low
    return ids[ids >= first]


def rows_of(allowed: npt.NDArray[np.uint8], rows: int) -> Rows:
    """Return the rows below *rows* whose packed bits are set, in order."""
    return np.flatnonzero(np.unpackbits(allowed, count=rows, bitorder="little").view(np.bool_))


def _closeness(part: StoredMatrix, queries: FloatMatrix, metric: Metric) -> npt.NDArray[np.float32]:
    """Return float32 (queries, rows of part), higher is closer; good enough to choose candidates by."""
    if part.itemsize == 4:
        return _closeness_of_floats(to_float32(part), queries, metric)
    out = np.empty((len(queries), len(part)), dtype=np.float32)
    step = max(1, _WIDENED_FLOATS // part.shape[1])
    for low in range(0, len(part), step):
        widened = to_float32(part[low : low + step])
        out[:, low : low + step] = _closeness_of_floats(widened, queries, metric)
    return out


def _closeness_of_floats(part: FloatMatrix, queries: FloatMatrix, metric: Metric) -> npt.NDArray[np.float32]:
    if metric is not Metric.L2:
        return np.asarray(queries @ part.T)
    faiss = load_faiss()
    out = np.empty((len(queries), len(part)), dtype=np.float32)
    part = np.ascontiguousarray(part)
    for i, query in enumerate(queries):
        faiss.fvec_L2sqr_ny(
            faiss.swig_ptr(out[i]), faiss.swig_ptr(query), faiss.swig_ptr(part), part.shape[1], len(part)
        )
    return np.negative(out, out=out)


def _collect(
    closeness: npt.NDArray[np.float32],
    ids: Rows | None,
    low: int,
    wanted: int,
    rows: list[list[Rows]],
    near: list[list[npt.NDArray[np.float32]]],
) -> None:
    for i, values in enumerate(closeness):
        positions = _nearest(values, wanted)
        rows[i].append(positions + low if ids is None else ids[positions])
        near[i].append(values[positions])


def _nearest(values: npt.NDArray[np.float32], wanted: int) -> Rows:
    """Return the positions of the *wanted* highest values, in order of position.

    Of those that float32 cannot tell from the last one, the first positions are taken, as many again: where more rows
    tie than are wanted, the earliest win, as they do among the final scores.
    """
    if len(values) <= wanted:
        return np.arange(len(values))
    last = np.partition(values, len(values) - wanted)[len(values) - wanted]
    blur = _BLUR * max(abs(float(last)), abs(float(values.max())))
    surely = values > last + blur
    maybe = np.flatnonzero(~surely & (values >= last - blur))[:wanted]
    return np.sort(np.concatenate((np.flatnonzero(surely), maybe)))


def _top(rows: list[Rows], near: list[npt.NDArray[np.float32]], wanted: int) -> Rows:
    if not rows:
        return np.empty(0, dtype=np.int64)
    found = np.concatenate(rows)
    return found if len(rows) == 1 else found[_nearest(np.concatenate(near), wanted)]
