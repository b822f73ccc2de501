"""Query → rows and scores: index candidates and the tail, rescored exactly.

The one promise of this room: min(k, rows to be found) results, and exact scores, whatever the index does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.index import exact
from recollect.index.exact import Scores
from recollect.index.faiss_library import innermost, load_faiss, threads
from recollect.types import FloatMatrix, Metric, Rows

EXACT_RECALL = 0.999
"""A recall above this is answered by exact search."""

_CANDIDATES_PER_RESULT = 4
_MIN_CANDIDATES = 40

# recall → part of the IVF lists probed. Measured on 100k question embeddings, 256 lists: docs/decisions/0003.
_PROBED = ((0.80, 0.08), (0.90, 0.18), (0.95, 0.28), (0.97, 0.40), (0.98, 0.50), (0.99, 0.75), (1.0, 1.0))
# recall → efSearch per result. HNSW32 over 8-bit codes, the same data.
_EF_SEARCH = ((0.80, 2), (0.90, 4), (0.95, 8), (0.97, 16), (0.98, 24), (0.99, 48), (1.0, 96))


class Searcher:
    """A loaded index that is searched and never changed.

    Args:
        index: FAISS index; row r has id r, for rows [0, index.ntotal).

    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._inner = innermost(index)
        self._kind = type(self._inner).__name__
        self._plain_params: dict[tuple[float, int], Any] = {}
        self.rows = int(index.ntotal)

    @property
    def takes_selector(self) -> bool:
        """Say whether FAISS can restrict this index to a set of rows; flat fast-scan and refinements cannot."""
        return (
            self._kind not in ("IndexPQFastScan", "IndexRaBitQFastScan") and "Refine" not in type(self._index).__name__
        )

    def search(self, queries: FloatMatrix, count: int, recall: float, selector: Any | None) -> Rows:
        """Return candidate rows, int64 (n, count); −1 where the index found fewer."""
        key = (recall, count)
        params = self._plain_params.get(key) if selector is None else None
        if params is None:
            params = self._params(recall, count, selector)
            if selector is None:
                self._plain_params[key] = params
        return np.asarray(self._index.search(queries, count, params=params)[1])

    def _params(self, recall: float, count: int, selector: Any | None) -> Any:
        faiss = load_faiss()
        if "IVF" in self._kind:
            part = _at(recall, _PROBED)
            nprobe = max(1, min(self._inner.nlist, round(part * self._inner.nlist + 1)))
            params = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
        elif "HNSW" in self._kind:
            ef = max(count, round(_at(recall, _EF_SEARCH) * count / _CANDIDATES_PER_RESULT), 16)
            params = faiss.SearchParametersHNSW(sel=selector, efSearch=ef)
        elif selector is not None:
            params = faiss.SearchParameters(sel=selector)
        else:
            return None
        if type(self._index).__name__ == "IndexPreTransform":
            return faiss.SearchParametersPreTransform(index_params=params)
        return params if self._index is self._inner or "Refine" not in type(self._index).__name__ else None


def _at(recall: float, table: tuple[tuple[float, float], ...]) -> float:
    """Return the first entry whose recall is at least the one asked for; the tables end at 1."""
    return next(value for reached, value in table if recall <= reached)


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


def search(target: Target, queries: FloatMatrix, k: int, recall: float) -> list[tuple[Rows, Scores]]:
    """Return, per query, exactly min(k, target.count) rows with their exact scores, best first.

    Args:
        target: what to search.
        queries: float32 (n, d), normalised under cosine. One query runs on one thread, many on all cores.
        k: results wanted, at least 1.
        recall: knn recall@k to aim at, in (0, 1]; above `EXACT_RECALL` the search is exact.

    """
    k = min(k, target.count)
    if k == 0:
        return [(np.empty(0, dtype=np.int64), np.empty(0)) for _ in queries]
    if target.searcher is None or recall > EXACT_RECALL:
        return _exactly(target, queries, k)
    found = _from_index(target, target.searcher, queries, k, recall)
    tail = _from_tail(target, target.searcher.rows, queries, k)
    results = [
        _ranked(target, np.concatenate((index_rows[index_rows >= 0], tail_rows)), query, k)
        for index_rows, tail_rows, query in zip(found, tail, queries, strict=True)
    ]
    short = [i for i, (rows, _) in enumerate(results) if len(rows) < k]
    for i in short:  # HNSW may find fewer than k, and probed lists may hold fewer
        results[i] = _exactly(target, queries[i : i + 1], k)[0]
    return results


def _ranked(target: Target, rows: Rows, query: FloatMatrix, k: int) -> tuple[Rows, Scores]:
    return exact.best(rows, exact.scores_of(target.matrix, rows, query, target.metric), k)


def _exactly(target: Target, queries: FloatMatrix, k: int) -> list[tuple[Rows, Scores]]:
    found = exact.candidates(target.matrix, queries, k, target.metric, allowed=target.allowed)
    return [_ranked(target, rows, query, k) for rows, query in zip(found, queries, strict=True)]


def _from_tail(target: Target, first: int, queries: FloatMatrix, k: int) -> list[Rows]:
    if first >= len(target.matrix):
        return [np.empty(0, dtype=np.int64)] * len(queries)
    return exact.candidates(target.matrix, queries, k, target.metric, first=first, allowed=target.allowed)


def _from_index(target: Target, searcher: Searcher, queries: FloatMatrix, k: int, recall: float) -> Rows:
    wanted = min(searcher.rows, max(_CANDIDATES_PER_RESULT * k, _MIN_CANDIDATES))
    if target.allowed is None or searcher.takes_selector:
        return _run(searcher, queries, wanted, recall, target.selector)
    # No selector: fetch as many more as are masked on average, and drop those. What is then missing is found exactly.
    more = min(searcher.rows, round(1.2 * wanted * len(target.matrix) / target.count) + 10)
    rows = _run(searcher, queries, more, recall, None)
    bits = np.unpackbits(target.allowed, bitorder="little")
    return np.where((rows >= 0) & (bits[rows] == 1), rows, -1)


def _run(searcher: Searcher, queries: FloatMatrix, count: int, recall: float, selector: Any | None) -> Rows:
    # One query, one thread: concurrent searches then do not fight for cores.
    with threads(1 if len(queries) == 1 else len(os.sched_getaffinity(0))):
        return searcher.search(queries, count, recall, selector)
