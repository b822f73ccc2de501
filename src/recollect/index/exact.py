"""Exact search and exact scores from the mapped vector file: the truth the index only approximates."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from recollect.index.faiss_library import load_faiss
from recollect.types import FloatMatrix, Metric, Rows

Scores = npt.NDArray[np.float32]
Ranked: TypeAlias = tuple[list[int], list[float]]
"""Rows and their scores, best first."""

_BLOCK_FLOATS = 1 << 22  # scores of one block: 16 MiB of float32
_BLUR = 4e-6  # relative error of a float32 dot product, amply: candidates this near to the last one may be its betters


def scores_of(matrix: FloatMatrix, rows: Rows, query: FloatMatrix, metric: Metric) -> Scores:
    """Return the public scores of *rows* for one query of shape (d,): the same whatever path found them.

    One dot product per row, so that a score depends neither on the path by which the row was found nor on the
    rows beside it; a matrix product would round differently with its shape.
    """
    found = matrix.take(rows, axis=0)
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
    matrix: FloatMatrix,
    queries: FloatMatrix,
    k: int,
    metric: Metric,
    *,
    first: int = 0,
    allowed: npt.NDArray[np.uint8] | None = None,
) -> list[Rows]:
    """Return, per query, rows of [first, len(matrix)) among which the exact top *k* lie.

    Args:
        matrix: (rows, d), mapped.
        queries: (n, d).
        first: first row to consider.
        allowed: packed bits (little-endian) of the rows to consider; None for all.

    """
    if (
        len(queries) == 1
        and first == 0
        and allowed is None
        and metric is not Metric.L2
        and len(matrix) <= _BLOCK_FLOATS
    ):
        return [_nearest(matrix @ queries[0], k)]  # the common case of a small collection, without the bookkeeping
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


def _considered(low: int, high: int, first: int, allowed: npt.NDArray[np.uint8] | None) -> Rows | None:
    """Return the rows of [low, high) to consider; None for all."""
    if allowed is None and low >= first:
        return None
    if allowed is None:
        return np.arange(max(low, first), high)
    bits = np.unpackbits(allowed[low // 8 : (high + 7) // 8], count=high - low, bitorder="little")
    ids = np.flatnonzero(bits) + low
    return ids[ids >= first]


def _closeness(part: FloatMatrix, queries: FloatMatrix, metric: Metric) -> npt.NDArray[np.float32]:
    """Return float32 (queries, rows of part), higher is closer; good enough to choose candidates by."""
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
