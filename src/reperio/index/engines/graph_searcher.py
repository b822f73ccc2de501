"""Search graphs of SymphonyQG: walk each of them, and take the nearest of what they found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from reperio.index.engines.codes import GraphCodes
from reperio.index.engines.searcher import Searcher
from reperio.index.library.symphony import Graph, Graphs, walk
from reperio.types import FloatMatrix, OperatingPoint, Rows


class GraphSearcher(Searcher):
    """Walks the graphs of an index: see `Searcher`.

    Without graphs, which are not loaded yet or cannot be, of the points those remain that scan the codes.
    """

    index: Graphs
    codes: GraphCodes

    def __init__(self, index: Graphs, points: Sequence[OperatingPoint] = (), gather: float = 0.05) -> None:
        walks = bool(index.graphs)
        super().__init__(index, points if walks else [point for point in points if not point.effort], gather)
        self.codes = GraphCodes(index.codes, index.packed)
        # Methods of another object: with its own it would refer to itself, and a graph would wait for the collector.
        walker = _Walker(index.graphs)
        self.search = walker.search
        self.search_one = walker.search_one if len(index.graphs) == 1 else walker.search_each

    @property
    def waits(self) -> bool:
        """Say whether the graphs are not loaded, or cannot be."""
        return not self.index.graphs

    @property
    def is_graph(self) -> bool:
        """Say that candidates are found by walking from row to row."""
        return True

    @property
    def takes_selector(self) -> bool:
        """Say that a walk cannot be restricted to a set of rows."""
        return False

    @property
    def returns_prefixes(self) -> bool:
        """Say that fewer candidates are the first of more, up to rows that its codes cannot tell apart."""
        return True

    @property
    def most_effort(self) -> int:
        """The largest effort with a meaning: all rows."""
        return self.rows

    def params(self, effort: int, count: int, selector: Any | None = None) -> int:
        """Return how many rows are kept in view on the way."""
        assert selector is None
        return max(effort, count)


class _Walker:
    """Searches of graphs that cover runs of rows."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = graphs
        self._cores = len(os.sched_getaffinity(0))

    def search(self, queries: FloatMatrix, count: int, effort: int) -> Rows:
        return self._nearest(np.ascontiguousarray(queries), count, effort, self._cores)

    def search_one(self, query: FloatMatrix, count: int, effort: int) -> Rows:
        """Search where there is one graph only."""
        found: Rows = walk(self._graphs[0], query[None], count, effort, 1)[0][0]
        return found

    def search_each(self, query: FloatMatrix, count: int, effort: int) -> Rows:
        found: Rows = self._nearest(query[None], count, effort, 1)[0]
        return found

    def _nearest(self, queries: FloatMatrix, count: int, effort: int, workers: int) -> Rows:
        """Return the *count* nearest of what all graphs find: their estimates of a distance are comparable."""
        parts = [
            walk(graph, queries, min(count, graph.rows), min(effort, graph.rows), workers) for graph in self._graphs
        ]
        if len(parts) == 1:
            return parts[0][0]
        rows, far = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        far[rows < 0] = np.inf
        order = np.argsort(far, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(rows, order, axis=1)
