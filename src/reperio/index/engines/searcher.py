"""A loaded index as searches see it, whatever library it is of: knobs in, candidate rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.engines.codes import GraphCodes
from reperio.types import FloatMatrix, OperatingPoint, Rows


class Searcher(ABC):
    """A loaded index that is searched and never changed, by any number of threads.

    Args:
        index: row r has id r, for rows [0, index.ntotal).
        points: how it may be searched and what that gives, from `tuning.measure`; without any, searches are exact.
        gather: µs that exact search costs per row picked out of the vector file, from `tuning.measure`.

    Attributes:
        rows: that it covers.
        codes: of a graph that has 4-bit codes of its rows next to it, those; else None. They are scanned instead of the
            graph, not after it: candidates are rescored exactly in any case.
        search: (queries (n, d), count, params) → candidate rows, int64 (n, count), on all cores; −1 where the index
            found fewer.
        search_one: the same for one query of shape (d,), on one thread: concurrent searches share the cores. The result
            may be this thread's own buffer, valid until its next search.
    """

    # Attributes instead of methods: one Python call less per search.
    search: Callable[[FloatMatrix, int, Any], Rows]
    search_one: Callable[[FloatMatrix, int, Any], Rows]
    codes: GraphCodes | None

    def __init__(self, index: Any, points: Sequence[OperatingPoint], gather: float) -> None:
        self.index, self.points, self.gather = index, points, gather
        self.rows = int(index.ntotal)

    @property
    def waits(self) -> bool:
        """Say whether a part of the index is not loaded, without which a search takes longer."""
        return False

    @property
    @abstractmethod
    def is_graph(self) -> bool:
        """Say whether candidates are found by walking from row to row."""

    @property
    @abstractmethod
    def takes_selector(self) -> bool:
        """Say whether the library can restrict a search to a set of rows."""

    @property
    @abstractmethod
    def returns_prefixes(self) -> bool:
        """Say whether fewer candidates are the first of more."""

    @property
    @abstractmethod
    def most_effort(self) -> int:
        """The largest effort with a meaning; 0 for an index without a knob."""

    @abstractmethod
    def params(self, effort: int, count: int, selector: Any | None = None) -> Any | None:
        """Return what `search` takes to find *count* candidates; None for the library's defaults.

        Args:
            effort: `nprobe` of lists, `efSearch` of a graph; without meaning elsewhere.
            count: candidates wanted.
            selector: FAISS selector of the rows that may be found, where `takes_selector`.
        """

    @property
    def lists(self) -> npt.NDArray[np.int32] | None:
        """The list of each row; None where the nearest lists cannot be had exactly, or there are none."""
        return None

    def search_lists(
        self, query: FloatMatrix, count: int, effort: int, allowed: npt.NDArray[np.int64], selector: Any
    ) -> Rows:
        """Return candidate rows for one query, (count,), from the nearest lists that hold rows that may be found.

        Only where there are `lists`.

        Args:
            query: (d,).
            count: candidates wanted.
            effort: `nprobe`.
            allowed: how many allowed rows each list holds, (nlist,).
            selector: FAISS's, of the allowed rows.
        """
        raise NotImplementedError
