"""Query → rows and scores: index candidates and the tail, rescored exactly.

The one promise of this room: min(k, rows to be found) results, and exact scores, whatever the index does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.index import exact
from recollect.index.exact import Ranked
from recollect.index.faiss_library import innermost, load_faiss, threads
from recollect.index.tuning import FLAT_POINTS, HNSW_POINTS, IVF_POINTS, Point
from recollect.types import FloatMatrix, Metric, Rows

_LEAST_K = 10  # a smaller k is searched as carefully as this one


class Searcher:
    """A loaded index that is searched and never changed, by any number of threads.

    Args:
        index: FAISS index; row r has id r, for rows [0, index.ntotal).
        points: how to search it for which recall, from `tune`; None for the starting table.

    """

    def __init__(self, index: Any, points: Sequence[Point] | None = None) -> None:
        self.index = index
        self._inner = innermost(index)
        self._outer = type(index).__name__
        self._kind = type(self._inner).__name__
        self._local = _Local()
        self.rows = int(index.ntotal)
        self.points: Sequence[Point] = self.table if points is None else points

    @property
    def table(self) -> tuple[Point, ...]:
        """The starting table for this kind of index."""
        return IVF_POINTS if "IVF" in self._kind else HNSW_POINTS if "HNSW" in self._kind else FLAT_POINTS

    def point(self, recall: float) -> Point | None:
        """Return how to search for a recall; None when only exact search reaches it."""
        found = next((point for point in self.points if recall <= point.recall), None)
        return found if found is not None and found.candidates else None

    @property
    def is_graph(self) -> bool:
        """Say whether candidates are found by walking from row to row."""
        return "HNSW" in self._kind

    @property
    def takes_selector(self) -> bool:
        """Say whether FAISS can restrict this index to a set of rows; flat fast-scan and refinements cannot."""
        return self._kind not in ("IndexPQFastScan", "IndexRaBitQFastScan") and "Refine" not in self._outer

    def params(self, effort: float, count: int, selector: Any | None) -> Any | None:
        """Return FAISS's search parameters for *count* candidates; None for its defaults."""
        faiss = load_faiss()
        if "Refine" in self._outer:
            return None
        if "IVF" in self._kind:
            nprobe = min(self._inner.nlist, round(effort * self._inner.nlist) + 1)
            params = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
        elif "HNSW" in self._kind:
            params = faiss.SearchParametersHNSW(sel=selector, efSearch=max(count, round(effort * _LEAST_K)))
        elif selector is not None:
            params = faiss.SearchParameters(sel=selector)
        else:
            return None
        if self._outer == "IndexPreTransform":
            return faiss.SearchParametersPreTransform(index_params=params)
        return params

    def candidates(self, queries: FloatMatrix, count: int, effort: float) -> Rows:
        """Return candidate rows of an effort, for `tune`."""
        if "HNSW" in self._kind:
            # efSearch is at least the number of candidates: asking for many would measure another search.
            count = min(count, 4 * _LEAST_K)
        return self.search(queries, count, self.params(effort, count, None))

    def search(self, queries: FloatMatrix, count: int, params: Any | None) -> Rows:
        """Return candidate rows, int64 (n, count), on all cores; −1 where the index found fewer."""
        with threads(len(os.sched_getaffinity(0))):
            return np.asarray(self.index.search(queries, count, params=params)[1])

    def search_one(self, query: FloatMatrix, count: int, params: Any | None) -> Rows:
        """Return candidate rows for one query of shape (d,), on one thread: concurrent searches share the cores.

        The result is this thread's own buffer, valid until its next search. FAISS's Python wrapper would allocate and
        wrap three arrays per call: 10 µs and more of a 200 µs search.
        """
        buffers = self._local.buffers
        mine = buffers.get(count)
        if mine is None:
            mine = buffers[count] = _Buffers(len(query), count)
        mine.query[0] = query
        faiss = load_faiss()
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            self.index.search_c(1, mine.query_pointer, count, mine.distance_pointer, mine.rows_pointer, params)
        finally:
            faiss.omp_set_num_threads(before)
        found: Rows = mine.rows[0]
        return found


class _Local(threading.local):
    """What one thread searches with: buffers by number of candidates."""

    def __init__(self) -> None:
        self.buffers: dict[int, _Buffers] = {}


class _Buffers:
    """What FAISS's C interface reads a query from and writes candidates to, for one thread."""

    __slots__ = ("distance_pointer", "distances", "query", "query_pointer", "rows", "rows_pointer")

    def __init__(self, dimension: int, count: int) -> None:
        pointer = load_faiss().swig_ptr
        self.query = np.empty((1, dimension), dtype=np.float32)
        self.distances = np.empty((1, count), dtype=np.float32)
        self.rows: Rows = np.empty((1, count), dtype=np.int64)
        self.query_pointer = pointer(self.query)
        self.distance_pointer = pointer(self.distances)
        self.rows_pointer = pointer(self.rows)


@dataclass(frozen=True)
class Target:
    """What a search runs over: one committed state.

    Attributes:
        matrix: mapped vectors of all rows (rows, d).
        metric: how they are compared.
        count: rows that may be found.
        allowed: packed bits (little-endian) of those rows; None when all may.
        searcher: the index over the first rows; None for exact search.

    """

    matrix: FloatMatrix
    metric: Metric
    count: int
    allowed: npt.NDArray[np.uint8] | None = None
    searcher: Searcher | None = None

    @cached_property
    def selector(self) -> Any | None:
        """The allowed rows as FAISS takes them."""
        if self.allowed is None:
            return None
        return load_faiss().IDSelectorBitmap(self.allowed)

    @cached_property
    def knobs(self) -> dict[tuple[float, int], tuple[int, Any | None]]:
        """Candidates and search parameters by (recall, k), filled as they are asked for; 0: search exactly."""
        return {}


def search(target: Target, queries: FloatMatrix, k: int, recall: float) -> list[Ranked]:
    """Return, per query, exactly min(k, target.count) rows with their exact scores, best first.

    Args:
        target: what to search.
        queries: float32 (n, d), normalised under cosine. One query runs on one thread, many on all cores.
        k: results wanted, at least 1.
        recall: knn recall@k to aim at, in (0, 1]; what the index cannot reach is searched exactly.

    """
    k = min(k, target.count)
    searcher = target.searcher
    if len(queries) == 1:
        return [search_one(target, queries[0], k, recall)]
    count, params = _knobs(target, searcher, k, recall)
    if searcher is None or count == 0:
        return _exactly(target, queries, k)
    found = searcher.search(queries, count, params)
    tail = _tail(target, searcher, queries, k)
    return [_merged(target, searcher, *parts, k) for parts in zip(found, tail, queries, strict=True)]


def search_one(target: Target, query: FloatMatrix, k: int, recall: float) -> Ranked:
    """Do what `search` does for one query of shape (d,)."""
    k = min(k, target.count)
    searcher = target.searcher
    count, params = _knobs(target, searcher, k, recall)
    if searcher is None or count == 0:
        return _exactly(target, query[None], k)[0]
    found = searcher.search_one(query, count, params)
    if target.allowed is None and searcher.rows == len(target.matrix) and found[-1] >= 0 and count >= k:
        return _ranked(target, found, query, k)
    return _merged(target, searcher, found, _tail(target, searcher, query[None], k)[0], query, k)


def _tail(target: Target, searcher: Searcher, queries: FloatMatrix, k: int) -> list[Rows]:
    """Return the best rows that are newer than the index, per query."""
    if searcher.rows == len(target.matrix):
        return [np.empty(0, dtype=np.int64)] * len(queries)
    return exact.candidates(target.matrix, queries, k, target.metric, first=searcher.rows, allowed=target.allowed)


def _merged(target: Target, searcher: Searcher, found: Rows, tail: Rows, query: FloatMatrix, k: int) -> Ranked:
    """Rank what the index found together with the tail; find exactly what is missing from k.

    HNSW may find fewer than it is asked for, and the probed lists may hold fewer.
    """
    rows = np.concatenate((_live(found, target, searcher), tail))
    if len(rows) < k:
        return _exactly(target, query[None], k)[0]
    return _ranked(target, rows, query, k)


def _knobs(target: Target, searcher: Searcher | None, k: int, recall: float) -> tuple[int, Any | None]:
    """Return how many candidates to ask the index for, and its search parameters; 0 candidates: search exactly."""
    known = target.knobs.get((recall, k))
    if known is None:
        point = searcher.point(recall) if searcher is not None and k > 0 else None
        if searcher is None or point is None:
            return 0, None
        count = min(searcher.rows, point.candidates * max(k, _LEAST_K))
        selector = target.selector if searcher.takes_selector else None
        if target.allowed is not None and selector is None:
            # As many more as are masked on average; the masked ones are dropped afterwards.
            count = min(searcher.rows, round(1.2 * count * len(target.matrix) / target.count) + 10)
        effort = point.effort
        if searcher.is_graph:
            # A graph is walked through masked rows as well: each fills a place that a live one should have. Copies that
            # metadata updates left behind lie all around their live row.
            effort *= len(target.matrix) / target.count
        known = target.knobs[recall, k] = count, searcher.params(effort, count, selector)
    return known


def _live(rows: Rows, target: Target, searcher: Searcher) -> Rows:
    """Drop the padding of a short result, and masked rows that the index could not drop itself."""
    rows = rows[rows >= 0]
    if target.allowed is not None and not searcher.takes_selector:
        rows = rows[(target.allowed[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 == 1]
    return rows


def _ranked(target: Target, rows: Rows, query: FloatMatrix, k: int) -> Ranked:
    return exact.best(rows, exact.scores_of(target.matrix, rows, query, target.metric), k, target.metric)


def _exactly(target: Target, queries: FloatMatrix, k: int) -> list[Ranked]:
    if k == 0:
        return [([], []) for _ in queries]
    found = exact.candidates(target.matrix, queries, k, target.metric, allowed=target.allowed)
    return [_ranked(target, rows, query, k) for rows, query in zip(found, queries, strict=True)]
