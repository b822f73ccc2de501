"""Search the mapped vector file exactly: the truth that an index only approximates.

The file keeps float32 or float16. Rows are chosen by scores in float32, and all that its rounding leaves in doubt are
kept; `scoring` decides among them in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.index.exact.crowd import Crowd
from reperio.index.exact.norms import Norms
from reperio.index.exact.scoring import best_rows, slack, underflow
from reperio.index.library.loading import load_faiss, threads
from reperio.index.library.scanning import scan
from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix, to_float32

Closeness = npt.NDArray[np.float32]

_crowd = Crowd()
_WAKES_ALL = 1 << 18  # numbers in a matrix from which on NumPy may share its product with a vector among cores
_BLOCK_FLOATS = 1 << 22  # scores of one block: 16 MiB of float32
_SPARE = 16  # candidates beyond k, so that those that are taken for slightly worse than they are come in as well
_FEW_QUERIES = 4  # with more, widening the vectors for all of them at once is cheaper than scanning for each
_FEW_ROWS = 0.05  # part of the rows up to which picking out float16 rows costs less than passing over the others
_WIDENED_FLOATS = 1 << 17  # float16 is widened in parts of 512 KiB, which stay in the processor's cache
_DOUBTFUL = 256  # rows beyond 2k that are left to the caller to score; of more, the best are found here
_HELD = 4096  # rows beyond 8k that are held per query between blocks
_UNIT_LENGTH = 1.001  # float16 rounds a length of 1 by less than half of a thousandth


class Blur(NamedTuple):
    """The distance of a float32 score from the true one, at most: relative to itself, and absolute."""

    relative: float
    absolute: float

    def floor(self, last: float) -> float:
        """Return the least float32 score whose true one may reach that of a row with the score *last*."""
        return last - 2 * (self.relative * abs(last) + self.absolute)


class Among(NamedTuple):
    """The rows that queries are compared with."""

    matrix: StoredMatrix  # (rows, d), mapped, as stored
    metric: Metric  # of the collection
    first: int = 0  # first row to consider
    allowed: npt.NDArray[np.uint8] | None = None  # packed bits (little-endian) of the rows to consider; None for all
    few: Rows | None = None  # the rows that *allowed* stands for, in order, where the caller keeps them; with *first* 0
    # No row considered is longer; without meaning except under inner product. None to find out.
    longest: float | None = None

    def blurs(self, queries: FloatMatrix) -> list[Blur]:
        """Return the blur of each query's scores."""
        dimension = queries.shape[1]
        relative, least = slack(dimension), underflow(dimension)
        if self.metric is Metric.L2:
            return [Blur(relative, least)] * len(queries)
        if self.metric is Metric.COSINE:
            return [Blur(0.0, relative * _UNIT_LENGTH + least)] * len(queries)
        longest = Norms().greatest(self.matrix, self.first) if self.longest is None else self.longest
        lengths = np.sqrt(np.vecdot(queries, queries, dtype=np.float64)).tolist()
        return [Blur(0.0, relative * longest * length + least) for length in lengths]


def candidates(among: Among, queries: FloatMatrix, k: int) -> list[Rows]:
    """Return, per query, rows among which the exact top *k* lie, by score, then by row; queries are (n, d)."""
    matrix, metric, first, allowed, few, _ = among
    blur = among.blurs(queries)
    whole, single = first == 0 and len(matrix) <= _BLOCK_FLOATS, len(queries) <= _FEW_QUERIES
    if len(queries) == 1 and whole and matrix.itemsize == 4 and allowed is None and metric is not Metric.L2:
        found = [
            _near(_inner_products(to_float32(matrix), queries[0]), k, blur[0])
        ]  # the common case of a small collection, without bookkeeping
        return _fewer(among, found, queries, k)
    if allowed is not None and whole and single:
        picked = _picked(among, rows_of(allowed, len(matrix)) if few is None else few, queries, k, blur)
        if picked is not None:
            return _fewer(among, picked, queries, k)
    if few is not None and not single:
        return _picked_for_many(among, few, queries, k, blur)
    if matrix.itemsize == 2 and single:
        scanned = [_scanned(among, *each, k) for each in zip(queries, blur, strict=True)]
        if all(rows is not None for rows in scanned):
            return _fewer(among, [rows for rows in scanned if rows is not None], queries, k)
    return _in_blocks(among, queries, k, blur)


def _near(values: Closeness, k: int, blur: Blur) -> Rows:
    """Return the positions, in order, of all values that may belong to the *k* best."""
    if len(values) <= k:
        return np.arange(len(values))
    last = float(np.partition(values, len(values) - k)[len(values) - k])
    # Not "at least the floor": a NaN, of a vector that is damaged, hides no other row.
    return np.flatnonzero(~(values < blur.floor(last)))


def _fewer(among: Among, found: list[Rows], queries: FloatMatrix, k: int) -> list[Rows]:
    """Return the rows found, of a query with many in doubt the exact best alone."""
    many = [i for i, rows in enumerate(found) if len(rows) > 2 * k + _DOUBTFUL]
    if many:
        best = best_rows(among.matrix, [found[i] for i in many], queries[many], k, among.metric)
        for i, rows in zip(many, best, strict=True):
            found[i] = rows
    return found


def _picked(among: Among, few: Rows, queries: FloatMatrix, k: int, blur: list[Blur]) -> list[Rows] | None:
    """Return candidates among some of the rows; None where another way is quicker, or too many of them tie."""
    matrix, metric, *_ = among
    if matrix.itemsize == 4:
        whole = to_float32(matrix)  # as it is, without a copy
        closeness = (_closeness_by_row(whole, few, query, metric) for query in queries)
        return [few[_near(values, k, each)] for values, each in zip(closeness, blur, strict=True)]
    if len(few) > _FEW_ROWS * len(matrix):
        return None
    part = Among(matrix.take(few, axis=0), metric)
    found = [_scanned(part, *each, k) for each in zip(queries, blur, strict=True)]
    known = [few[positions] for positions in found if positions is not None]
    return known if len(known) == len(found) else None


def _picked_for_many(among: Among, few: Rows, queries: FloatMatrix, k: int, blur: list[Blur]) -> list[Rows]:
    """Return candidates of many queries among some of the rows: one copy of them, and one product, for all."""
    part = among.matrix.take(few, axis=0)
    step = max(1, _BLOCK_FLOATS // max(1, len(few)))
    found: list[Rows] = []
    for low in range(0, len(queries), step):
        some = queries[low : low + step]
        values = _closeness(part, some, among.metric)
        near = [few[_near(*each)] for each in zip(values, [k] * len(some), blur[low : low + step], strict=True)]
        found += _fewer(among, near, some, k)
    return found


def _closeness_by_row(matrix: FloatMatrix, few: Rows, query: FloatMatrix, metric: Metric) -> Closeness:
    """Return float32 (few,), higher is closer."""
    # FAISS reads the rows where they lie: a third of the time that a copy and a product of it take. And it stays on
    # this thread, where numpy's product of a few thousand rows wakes all cores: 12 ms, not 0.6, while others compute.
    faiss = load_faiss()
    pointer = faiss.swig_ptr
    close = np.empty(len(few), dtype=np.float32)
    compare = faiss.fvec_L2sqr_by_idx if metric is Metric.L2 else faiss.fvec_inner_products_by_idx
    if len(few):
        with threads(1):
            compare(pointer(close), pointer(query), pointer(matrix), pointer(few), matrix.shape[1], 1, len(few))
    return np.negative(close, out=close) if metric is Metric.L2 else close


def _scanned(among: Among, query: FloatMatrix, blur: Blur, k: int) -> Rows | None:
    """Return candidates of one query among float16 rows; None where so many tie that it takes the long way."""
    matrix, metric, first, allowed, *_ = among
    start = first if allowed is None else first - first % 8  # a mask can be cut between its bytes only
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
        least = blur.floor(float(np.partition(values, len(values) - k)[len(values) - k]))
        if len(found) == count < len(part) and values.min() >= least:
            return None
        found = found[values >= least]
    return np.sort(found) + start


def _in_blocks(among: Among, queries: FloatMatrix, k: int, blur: list[Blur]) -> list[Rows]:
    """Return candidates of any number of queries, from one pass over the rows; memory does not grow with them."""
    # What may belong to the best of its block is held; where that becomes much, it is thinned out before the next.
    matrix, metric, first, allowed, *_ = among
    held = [_Held() for _ in queries]
    block = max(1024, _BLOCK_FLOATS // max(1, len(queries)))
    block -= block % 8  # whole bytes of the mask
    for low in range(first - first % 8, len(matrix), block):
        high = min(low + block, len(matrix))
        ids = _considered(low, high, first, allowed)
        if ids is not None and len(ids) * 4 < high - low:  # few enough for a copy of them to pay
            closeness = _closeness(matrix[ids], queries, metric)
        else:
            closeness = _closeness(matrix[low:high], queries, metric)
            if ids is not None and len(ids) < high - low:
                closeness = closeness[:, ids - low]
        for each, values, own in zip(held, closeness, blur, strict=True):
            positions = _near(values, k, own)
            each.add(positions + low if ids is None else ids[positions], values[positions])
        _thin(among, held, queries, k, blur)
    for each, own in zip(held, blur, strict=True):
        each.keep_near(k, own)
    return _fewer(among, [each.rows() for each in held], queries, k)


class _Held:
    """Rows of one query that may be among its best, in order, and how close they are."""

    def __init__(self) -> None:
        self.count = 0
        self._rows: list[Rows] = []
        self._close: list[Closeness] = []

    def add(self, rows: Rows, close: Closeness) -> None:
        self._rows.append(rows)
        self._close.append(close)
        self.count += len(rows)

    def rows(self) -> Rows:
        return np.concatenate(self._rows) if self._rows else np.empty(0, dtype=np.int64)

    def keep_near(self, k: int, blur: Blur) -> None:
        """Drop what later blocks have shown not to be among the best."""
        if len(self._rows) > 1:
            self._keep(_near(np.concatenate(self._close), k, blur))

    def keep(self, rows: Rows) -> None:
        """Keep some of the rows held, in order."""
        self._keep(np.searchsorted(self.rows(), rows))

    def _keep(self, positions: Rows) -> None:
        rows, close = self.rows()[positions], np.concatenate(self._close)[positions]
        self._rows, self._close, self.count = [rows], [close], len(rows)


def _thin(among: Among, held: list[_Held], queries: FloatMatrix, k: int, blur: list[Blur]) -> None:
    many = [i for i, each in enumerate(held) if each.count > 8 * k + _HELD]
    for i in many:
        held[i].keep_near(k, blur[i])
    many = [i for i in many if held[i].count > 4 * k + _HELD // 2]
    if many:
        # Among what any query holds, its own best are its own: what it does not hold is surely worse.
        best = best_rows(among.matrix, [held[i].rows() for i in many], queries[many], k, among.metric)
        for i, rows in zip(many, best, strict=True):
            held[i].keep(rows)


def _considered(low: int, high: int, first: int, allowed: npt.NDArray[np.uint8] | None) -> Rows | None:
    """Return the rows of [low, high) to consider; None for all."""
    if allowed is None:
        return None if low >= first else np.arange(first, high)
    bits = np.unpackbits(allowed[low // 8 : (high + 7) // 8], count=high - low, bitorder="little")
    ids = np.flatnonzero(bits) + low
    return ids[ids >= first]


def rows_of(allowed: npt.NDArray[np.uint8], rows: int) -> Rows:
    """Return the rows below *rows* whose packed bits are set, in order."""
    return np.flatnonzero(np.unpackbits(allowed, count=rows, bitorder="little").view(np.bool_))


def _closeness(part: StoredMatrix, queries: FloatMatrix, metric: Metric) -> Closeness:
    """Return float32 (queries, rows of part), higher is closer; good enough to choose candidates by."""
    if part.itemsize == 4:
        return _closeness_of_floats(to_float32(part), queries, metric)
    out = np.empty((len(queries), len(part)), dtype=np.float32)
    step = max(1, _WIDENED_FLOATS // part.shape[1])
    for low in range(0, len(part), step):
        widened = to_float32(part[low : low + step])
        out[:, low : low + step] = _closeness_of_floats(widened, queries, metric)
    return out


def _closeness_of_floats(part: FloatMatrix, queries: FloatMatrix, metric: Metric) -> Closeness:
    if metric is not Metric.L2:
        return np.asarray(queries @ part.T) if len(queries) > 1 else _inner_products(part, queries[0])[None]
    faiss = load_faiss()
    out = np.empty((len(queries), len(part)), dtype=np.float32)
    part = np.ascontiguousarray(part)
    for i, query in enumerate(queries):
        faiss.fvec_L2sqr_ny(
            faiss.swig_ptr(out[i]), faiss.swig_ptr(query), faiss.swig_ptr(part), part.shape[1], len(part)
        )
    return np.negative(out, out=out)


def _inner_products(matrix: FloatMatrix, query: FloatMatrix) -> Closeness:
    """Return float32 (rows,)."""
    # NumPy's product of a matrix and a vector, where it is no small one, wakes all cores. For one thread that is up to
    # twice as quick; eight threads on two cores get a tenth of the answers. (Its product of two matrices does no harm.)
    if matrix.size < _WAKES_ALL:
        return np.asarray(matrix @ query)
    with _crowd:
        if not (_crowd.is_there() and matrix.flags.c_contiguous):
            return np.asarray(matrix @ query)
        faiss = load_faiss()
        pointer = faiss.swig_ptr
        close = np.empty(len(matrix), dtype=np.float32)
        query = np.ascontiguousarray(query)
        faiss.fvec_inner_products_ny(pointer(close), pointer(query), pointer(matrix), matrix.shape[1], len(matrix))
        return close
