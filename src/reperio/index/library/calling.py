"""A FAISS index called as often as there are queries: threads set around each call, arrays made once."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from reperio.index.library.loading import load_faiss, threads
from reperio.types import FloatMatrix, Rows

_BUFFERS = 16  # per thread: as many numbers of candidates as are asked for in turn, whatever k users pass


class Caller:
    """Searches a FAISS index for any number of threads.

    Args:
        index: searched and never changed.
    """

    def __init__(self, index: Any) -> None:
        self.index = index
        self._local = _Local()

    def search(self, queries: FloatMatrix, count: int, params: Any | None) -> Rows:
        """Return candidate rows, int64 (n, count), on all cores; −1 where the index found fewer."""
        with threads(len(os.sched_getaffinity(0))):
            return np.asarray(self.index.search(queries, count, params=params)[1])

    def search_one(self, query: FloatMatrix, count: int, params: Any | None) -> Rows:
        """Return candidate rows for one query of shape (d,), on one thread: concurrent searches share the cores.

        The result is this thread's own buffer, valid until its next search.
        """
        # FAISS's Python wrapper would allocate and wrap three arrays per call: 10 µs and more of a 200 µs search.
        buffers = self._local.buffers
        mine = buffers.get(count)
        if mine is None:
            if len(buffers) >= _BUFFERS:
                buffers.clear()
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
    """The buffers of one thread, by number of candidates."""

    def __init__(self) -> None:
        self.buffers: dict[int, _Buffers] = {}


class _Buffers:
    """Arrays that FAISS's C interface reads a query from and writes candidates to, for one thread."""

    __slots__ = ("distance_pointer", "distances", "query", "query_pointer", "rows", "rows_pointer")

    def __init__(self, dimension: int, count: int) -> None:
        pointer = load_faiss().swig_ptr
        self.query = np.empty((1, dimension), dtype=np.float32)
        self.distances = np.empty((1, count), dtype=np.float32)
        self.rows: Rows = np.empty((1, count), dtype=np.int64)
        self.query_pointer = pointer(self.query)
        self.distance_pointer = pointer(self.distances)
        self.rows_pointer = pointer(self.rows)
