"""Search a loaded FAISS index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.engines.codes import GraphCodes
from reperio.index.engines.packing import holds_codes
from reperio.index.engines.searcher import Searcher
from reperio.index.library.calling import Caller
from reperio.index.library.huge_pages import settle
from reperio.index.library.loading import innermost, load_faiss, transforms
from reperio.types import FloatMatrix, OperatingPoint, Rows

_FAIR = 2.5  # lists are of uneven length, and those that hold few allowed rows are near the query as often as others


class FaissSearcher(Searcher):
    """Searches an index of FAISS: see `Searcher`. Codes next to a graph are those of ``HNSW…,Refine(PQ…x4)``."""

    def __init__(self, index: Any, points: Sequence[OperatingPoint] = (), gather: float = 0.05) -> None:
        super().__init__(index, points, gather)
        self._inner = innermost(index)
        self._kind = type(self._inner).__name__
        self.codes = self._codes()
        # With codes the graph alone is walked; the index as a whole is what is written and extended.
        self._walked = load_faiss().downcast_index(index.base_index) if self.codes is not None else index
        self._outer = type(self._walked).__name__
        self._transforms = transforms(self._walked)
        self._caller = Caller(self._walked)
        self.search, self.search_one = self._caller.search, self._caller.search_one
        settle(index)

    def _codes(self) -> GraphCodes | None:
        if type(self.index).__name__ != "IndexRefine" or not self.is_graph:
            return None
        codes = self.index.refine_index
        return GraphCodes(codes) if holds_codes(codes) else None

    @property
    def is_graph(self) -> bool:
        """Say whether candidates are found by walking from row to row."""
        return "HNSW" in self._kind or "NSG" in self._kind

    @property
    def is_partitioned(self) -> bool:
        """Say whether rows lie in lists, of which some are probed."""
        return "IVF" in self._kind

    @property
    def takes_selector(self) -> bool:
        """Say whether FAISS can restrict this index to a set of rows; flat fast-scan and refinements cannot."""
        return self._kind not in ("IndexPQFastScan", "IndexRaBitQFastScan") and "Refine" not in self._outer

    @property
    def returns_prefixes(self) -> bool:
        """Say whether fewer candidates are the first of more: not of an index that rescores them itself."""
        return "Refine" not in self._outer

    @property
    def most_effort(self) -> int:
        """The largest effort with a meaning: `nlist`; the rows of a graph; 0 for an index without a knob."""
        if "Refine" in self._outer:
            return 0
        if self.is_partitioned:
            return int(self._inner.nlist)
        return self.rows if "HNSW" in self._kind else 0

    def params(self, effort: int, count: int, selector: Any | None = None) -> Any | None:
        """Return FAISS's search parameters for *count* candidates; None for its defaults."""
        faiss = load_faiss()
        if "Refine" in self._outer:
            return None
        if self.is_partitioned:
            params = faiss.SearchParametersIVF(sel=selector, nprobe=max(1, min(self.most_effort, effort)))
        elif "HNSW" in self._kind:
            params = faiss.SearchParametersHNSW(sel=selector, efSearch=max(count, effort))
        elif selector is not None:
            params = faiss.SearchParameters(sel=selector)
        else:
            return None
        if self._outer == "IndexPreTransform":
            return faiss.SearchParametersPreTransform(index_params=params)
        return params

    @cached_property
    def lists(self) -> npt.NDArray[np.int32] | None:
        """The list of each row; None where the nearest lists cannot be had exactly, or there are none."""
        faiss = load_faiss()
        if not self.is_partitioned or "Flat" not in type(faiss.downcast_index(self._inner.quantizer)).__name__:
            return None
        found = np.zeros(self.rows, dtype=np.int32)
        inverted = self._inner.invlists
        for number in range(self._inner.nlist):
            size = inverted.list_size(number)
            if size:
                ids = inverted.get_ids(number)
                found[faiss.rev_swig_ptr(ids, size)] = number
                inverted.release_ids(number, ids)
        return found

    def search_lists(
        self, query: FloatMatrix, count: int, effort: int, allowed: npt.NDArray[np.int64], selector: Any
    ) -> Rows:
        """Return candidate rows for one query from the nearest lists: see `Searcher`."""
        # Of those lists the *effort* nearest, and as many more as it takes to see the same part of the allowed rows as
        # *effort* is of all lists: where these lie together, the lists nearest to the query hold few or none.
        if not allowed.any():
            return np.empty(0, dtype=np.int64)
        faiss = load_faiss()
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            moved = np.ascontiguousarray(query[None])
            for transform in self._transforms:
                moved = transform.apply(moved)
            distances, order = self._inner.quantizer.search(moved, int(self._inner.nlist))
            held = allowed[order[0]]
            chosen = np.flatnonzero(held)
            part = min(1.0, _FAIR * effort / len(held)) * held.sum()
            chosen = chosen[: max(effort, int(np.searchsorted(held[chosen].cumsum(), part)) + 1)]
            order, distances = np.ascontiguousarray(order[:, chosen]), np.ascontiguousarray(distances[:, chosen])
            found: Rows = np.empty((1, count), dtype=np.int64)
            scores = np.empty((1, count), dtype=np.float32)
            params = faiss.SearchParametersIVF(sel=selector, nprobe=len(chosen))
            pointers = (faiss.swig_ptr(each) for each in (order, distances, scores, found))
            # The Python wrapper of this method refuses parameters.
            self._inner.search_preassigned_c(1, faiss.swig_ptr(moved), count, *pointers, False, params)
        finally:
            faiss.omp_set_num_threads(before)
        candidates: Rows = found[0]
        return candidates
