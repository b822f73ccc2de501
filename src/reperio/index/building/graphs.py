"""Build graphs of SymphonyQG, and make them cover rows that came later.

A graph takes no further rows. So newer rows get a graph of their own, which is joined with the one before as long as
that is not much longer: as log-structured merge trees grow. A row is in a build about once for each graph that there
is, and a search walks few graphs, of which most are short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import IndexBuildFailed
from reperio.index.building import training
from reperio.index.building.resuming import SavedGraph, Saving, discard
from reperio.index.library.symphony import Graph, Graphs, Shape, build_graph, require_possible, shape_of
from reperio.index.recipes.families import SYMPHONY_CONSTRUCTION, mask_codes
from reperio.index.recipes.goal import Recipe
from reperio.types import Metric, Progress
from reperio.vectors import StoredMatrix, to_float32

_LONGER = 4  # times as long as what follows, a graph stays as it is
_SHORTEST = 1024  # rows of a graph, where there is another one to join them with


def build(
    recipe: Recipe,
    shape: Shape,
    matrix: StoredMatrix,
    metric: Metric,
    *,
    workers: int,
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> Graphs:
    """Do what `engines.build` says, for a graph.

    Codes come first, saved in the scratch directory as any FAISS index; then the graph in one call, saved as well, so
    that who is killed while it is measured does not build it twice. Memory: the graph, and the vectors as float32 where
    they are stored as float16.
    """
    require_possible(shape, len(matrix), matrix.shape[1])
    saved = None if scratch is None else SavedGraph(scratch, recipe, matrix, metric)
    try:
        codes = training.build(
            replace(recipe, factory=mask_codes(matrix.shape[1])),
            matrix,
            metric,
            workers=workers,
            progress=progress,
            scratch=scratch,
            saving=Saving(finished=True),
        )
        graph = None if saved is None else saved.load()
        if graph is None:
            graph = _one(matrix, 0, shape, metric, recipe.construction, workers, progress)
            if saved is not None:
                saved.save(graph)
    except IndexBuildFailed:
        if scratch is not None:
            discard(scratch)
        raise
    return Graphs(codes, [graph])


def extend(graphs: Graphs, matrix: StoredMatrix, metric: Metric, factory: str, *, workers: int) -> Graphs:
    """Return an index over all rows of *matrix*; the graphs that stay are shared with the one before.

    Args:
        graphs: the index before; its codes get the new rows.
        matrix: all rows.
        metric: of the collection.
        factory: name of the graph.
        workers: threads.

    Raises:
        MissingDependency: rabitqlib is not installed.
    """
    shape = shape_of(factory)
    assert shape is not None
    require_possible(shape, len(matrix), matrix.shape[1])
    kept, first = joined(graphs.graphs, len(matrix))
    training.extend(graphs.codes, matrix, workers=workers)
    newest = _one(matrix, first, shape, metric, SYMPHONY_CONSTRUCTION, workers, None) if first < len(matrix) else None
    return Graphs(graphs.codes, [*kept, newest] if newest is not None else kept)


def joined(graphs: Sequence[Graph], rows: int) -> tuple[list[Graph], int]:
    """Return the graphs that stay when there are *rows* rows, and the first row of the new one."""
    kept = list(graphs)
    first = kept[-1].first + kept[-1].rows if kept else 0
    while first < rows and kept and (kept[-1].rows < _LONGER * (rows - first) or rows - first < _SHORTEST):
        first = kept.pop().first
    return kept, first


def _one(
    matrix: StoredMatrix,
    first: int,
    shape: Shape,
    metric: Metric,
    construction: int,
    workers: int,
    progress: Progress | None,
) -> Graph:
    rows = len(matrix) - first
    if progress is not None:
        progress("graph", 0, rows)
    vectors: Any = np.ascontiguousarray(to_float32(matrix[first:]))
    graph = build_graph(vectors, first, shape, metric, construction=construction, workers=workers)
    if progress is not None:
        progress("graph", rows, rows)
    return graph
