"""Make graphs whose links come from a card: CAGRA, as an `IndexHNSWCagra` that a processor searches.

The graph has the ground level of an HNSW alone, which takes no further rows. When rows come after it, `extendable` adds
the levels above, on any machine; from then on it grows like any HNSW.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import IndexBuildFailed
from reperio.index.building import filling, training
from reperio.index.building.gpu import FEWEST_ROWS, Links, ground_links
from reperio.index.building.resuming import Saving, Scratch
from reperio.index.building.sampling import BLOCK_ROWS
from reperio.index.library.loading import innermost, load_faiss, threads, transforms
from reperio.index.recipes.goal import Recipe
from reperio.types import FloatMatrix, Metric, Progress
from reperio.vectors import StoredMatrix

_NAME = re.compile(r"(?:^|,)(CAGRA([0-9]{1,4}),?)", re.IGNORECASE)
_STORAGES = ("IndexScalarQuantizer", "IndexFlat", "IndexFlatIP", "IndexFlatL2")
_LINKED = range(16, 257, 2)
# Rows drawn for each query, of which the nearest is where a walk begins. With FAISS's 256 a walk to recall .90 takes a
# third longer, and to .98 a tenth, and finds no more; with 1 it takes two thirds longer (30,000 real questions).
ENTRY_POINTS = 64


def degree_of(factory: str) -> int | None:
    """Return the links per row that a factory string asks of a CAGRA graph; None where it asks for none.

    Raises:
        IndexBuildFailed: there is no such graph.
    """
    match = _NAME.search(factory)
    if match is None:
        return None
    degree = int(match[2])
    if degree not in _LINKED:
        raise IndexBuildFailed(
            f"{factory!r:.100} names no CAGRA graph: it has {_LINKED[0]} to {_LINKED[-1]} links per row, an even "
            'number; pass "CAGRA64,SQ8"'
        )
    return degree


def build(
    recipe: Recipe,
    matrix: StoredMatrix,
    metric: Metric,
    *,
    links: Callable[[FloatMatrix, int, Metric], Links],
    workers: int,
    progress: Progress | None = None,
    scratch: Path | None = None,
    saving: Saving | None = None,
) -> Any:
    """Do what `engines.build` says, for a CAGRA graph.

    A build that was killed after it is resumed whole; before, it begins again. Memory: besides the index, the vectors
    as float32, behind the reduction where there is one.

    Args:
        recipe, matrix, metric, workers, progress, scratch, saving: as there.
        links: returns the neighbours of each row, as `gpu.Card.links` does.
    """
    degree = degree_of(recipe.factory)
    assert degree is not None
    if len(matrix) < max(FEWEST_ROWS, 4 * degree):
        raise IndexBuildFailed(
            f"a CAGRA graph of {degree} links needs at least {max(FEWEST_ROWS, 4 * degree):,} rows, and there are "
            f"{len(matrix):,}; choose another index, or none for the recommended one"
        )
    state = None if scratch is None else Scratch(scratch, recipe, matrix, metric, saving or Saving())
    index = None if state is None else state.load()
    if index is None:
        stored = training.build(
            replace(recipe, factory=_NAME.sub(_without, recipe.factory)),
            matrix,
            metric,
            workers=workers,
            progress=progress,
        )
        if progress is not None:
            progress("graph", 0, len(matrix))
        index = linked(stored, links(_moved(stored, matrix), degree, metric))
        if progress is not None:
            progress("graph", len(matrix), len(matrix))
    elif index.ntotal < len(matrix):
        index = extendable(index, matrix, workers=workers)
        training.extend(index, matrix, workers=workers, progress=progress)
    if state is not None:
        state.finish(index)
    return index


def _without(match: re.Match[str]) -> str:
    return "," if match[0].startswith(",") else ""


def linked(stored: Any, links: Links) -> Any:
    """Return an index in which the rows of *stored* are found by walking along *links*.

    Args:
        stored: trained and filled, of codes that are all scanned; behind transforms, in front of a refinement, or not.
        links: of each row, (n, degree).

    Raises:
        IndexBuildFailed: the rows are kept otherwise.
    """
    faiss = load_faiss()
    kept = innermost(stored)
    if type(kept).__name__ not in _STORAGES:
        raise IndexBuildFailed(f"a CAGRA graph is over SQ8, SQfp16 or Flat, and a FAISS {type(kept).__name__} is none")
    rows, degree = links.shape
    graph = _graph_over(kept, degree)
    graph.base_level_only, graph.num_base_level_search_entrypoints = True, ENTRY_POINTS
    faiss.copy_array_to_vector(np.ones(rows, dtype=np.int32), graph.hnsw.levels)
    faiss.copy_array_to_vector(np.arange(rows + 1, dtype=np.uint64) * np.uint64(degree), graph.hnsw.offsets)
    faiss.copy_array_to_vector(np.ascontiguousarray(links, dtype=np.int32).ravel(), graph.hnsw.neighbors)
    graph.hnsw.entry_point, graph.hnsw.max_level, graph.ntotal = 0, 0, rows
    return _put_in(stored, graph)


def extendable(index: Any, matrix: StoredMatrix, *, workers: int) -> Any:
    """Return an index with the levels above the ground, so that rows can be added; the same one where it has them.

    Args:
        index: any, not being searched.
        matrix: the rows that it holds, and more.
        workers: threads.
    """
    faiss = load_faiss()
    inner = innermost(index)
    if not getattr(inner, "base_level_only", False):
        return index
    links = ground_links(inner)
    empty = faiss.clone_index(faiss.downcast_index(inner.storage))
    empty.reset()
    graph = _graph_over(empty, links.shape[1])
    graph.init_level0 = False
    front = transforms(index)
    with threads(workers):
        for start in range(0, index.ntotal, BLOCK_ROWS):
            block = filling.through(front, matrix[start : min(start + BLOCK_ROWS, index.ntotal)])
            filling.set_levels(graph, start + len(block))
            graph.add(block)
    graph.init_level0 = True
    first = faiss.vector_to_array(graph.hnsw.offsets)[:-1].astype(np.int64)
    every = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    every[first[:, None] + np.arange(links.shape[1])] = links
    if graph.hnsw.entry_point < 0:
        graph.hnsw.entry_point, graph.hnsw.max_level = 0, 0
    return _put_in(index, graph)


def _graph_over(storage: Any, degree: int) -> Any:
    """Return a CAGRA graph without rows over a storage, which it does not own but keeps alive."""
    faiss = load_faiss()
    graph = faiss.IndexHNSWCagra(storage.d, degree // 2, storage.metric_type)
    # The empty storage that it came with is lost, 200 bytes per build: taking it over (`this.own`) breaks FAISS's
    # wrapper, which counts its own types wrongly then.
    graph.storage, graph.own_fields = storage, False
    graph.referenced_objects = [storage]
    return graph


def _put_in(index: Any, graph: Any) -> Any:
    """Return what *index* is, with a graph in place of its innermost index; the rest is shared, and kept alive."""
    made = _around(index, graph)
    # The very object that owns what is shared: FAISS's wrappers of its parts are mere pointers.
    made.referenced_objects = [*getattr(made, "referenced_objects", []), index]
    return made


def _around(index: Any, graph: Any) -> Any:
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefine(_around(index.base_index, graph), faiss.downcast_index(index.refine_index))
    if not isinstance(index, faiss.IndexPreTransform):
        return graph
    made = faiss.IndexPreTransform(_around(index.index, graph))
    for place in reversed(range(index.chain.size())):
        made.prepend_transform(faiss.downcast_VectorTransform(index.chain.at(place)))
    return made


def _moved(index: Any, matrix: StoredMatrix) -> FloatMatrix:
    """Return all rows as the innermost index sees them, float32."""
    front = transforms(index)
    if not front and matrix.dtype == np.float32:
        return np.ascontiguousarray(matrix)
    moved = np.empty((len(matrix), innermost(index).d), dtype=np.float32)
    for start in range(0, len(matrix), BLOCK_ROWS):
        moved[start : start + BLOCK_ROWS] = filling.through(front, matrix[start : start + BLOCK_ROWS])
    return moved
