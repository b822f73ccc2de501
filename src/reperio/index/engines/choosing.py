"""The searcher of an index, by the library that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reperio.index.engines.faiss_searcher import FaissSearcher
from reperio.index.engines.graph_searcher import GraphSearcher
from reperio.index.engines.searcher import Searcher
from reperio.index.library.symphony import Graphs
from reperio.types import OperatingPoint


def searcher_of(index: Any, points: Sequence[OperatingPoint] = (), gather: float = 0.05) -> Searcher:
    """Return what searches a loaded index: one of FAISS, or `Graphs`. For the arguments see `Searcher`."""
    if isinstance(index, Graphs):
        return GraphSearcher(index, points, gather)
    return FaissSearcher(index, points, gather)
