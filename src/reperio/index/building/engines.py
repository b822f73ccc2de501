"""Build and extend an index, by the library that its recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reperio.errors import DeviceUnavailable, MissingDependency
from reperio.index.building import cagra, graphs, training
from reperio.index.building.gpu import Card
from reperio.index.building.resuming import Saving
from reperio.index.library.symphony import Graphs, shape_of
from reperio.index.recipes.goal import Recipe
from reperio.types import Metric, Progress
from reperio.vectors import StoredMatrix


def build(
    recipe: Recipe,
    matrix: StoredMatrix,
    metric: Metric,
    *,
    workers: int,
    progress: Progress | None = None,
    scratch: Path | None = None,
    saving: Saving | None = None,
    card: Card | None = None,
) -> Any:
    """Train and fill an index over all rows of *matrix*; row r gets id r.

    Deleted rows go in as well: an id is a position, and searches mask what is deleted.

    Args:
        recipe: what to build; not an exact one.
        matrix: float32 or float16 (n, d), mapped or not.
        metric: of the collection.
        workers: threads.
        progress: called as "train" (rows of the sample), "index" (rows in the index; above 0 at once if resumed) and
            "graph" (rows of a graph that is built in one call).
        scratch: a directory that outlives the process, where the state is saved so that a build that was killed goes on
            from its last save when it is called again: with the same recipe, metric and dimension, and the same
            rows, to which others may have been added. What is there of another build is removed, and so is this
            build's state when it fails, or succeeds and *saving* does not say otherwise.
        saving: how often; see `Saving` for the default.
        card: trains lists and finds the list of each row; with cuVS it builds CAGRA graphs. None for the processor.

    Returns:
        An index of FAISS, or `Graphs`.

    Raises:
        IndexBuildFailed: no library knows such an index, or it cannot be built on this data.
        MissingDependency: the library is not installed, or not built for what the index needs.
        DeviceUnavailable: the index needs a card.
    """
    shape = shape_of(recipe.factory)
    if shape is not None:
        return graphs.build(recipe, shape, matrix, metric, workers=workers, progress=progress, scratch=scratch)
    if cagra.degree_of(recipe.factory) is not None:
        links = _graph_builder(recipe.factory, card).links
        return cagra.build(
            recipe, matrix, metric, links=links, workers=workers, progress=progress, scratch=scratch, saving=saving
        )
    flat = None if card is None else card.flat
    return training.build(
        recipe, matrix, metric, workers=workers, progress=progress, scratch=scratch, saving=saving, flat=flat
    )


def _graph_builder(factory: str, card: Card | None) -> Card:
    """Return the card if it can build a CAGRA graph."""
    if card is None:
        raise DeviceUnavailable(
            f"{factory!r:.100} is built by a graphics card, and none is in use here: pass device='gpu' to see why, or "
            'index="hnsw" for a graph that the processor builds'
        )
    if not card.builds_graphs:
        raise MissingDependency(
            f"{factory!r:.100} needs a FAISS with cuVS; run: pip uninstall faiss-gpu, then pip install "
            "'reperio[gpu-cuvs]'; or pass index=\"hnsw\" for a graph that the processor builds"
        )
    return card


def extend(index: Any, matrix: StoredMatrix, metric: Metric, factory: str, *, workers: int) -> Any:
    """Return the index with the rows of *matrix* that it does not hold yet. Never for one that is being searched.

    Raises:
        IndexBuildFailed: FAISS cannot add to this kind of index (NSG).
        MissingDependency: the library is not installed.
    """
    if isinstance(index, Graphs):
        return graphs.extend(index, matrix, metric, factory, workers=workers)
    index = cagra.extendable(index, matrix, workers=workers)
    training.extend(index, matrix, workers=workers)
    return index
