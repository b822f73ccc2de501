"""Build and extend an index, by the library that its recipe names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reperio.index.building import graphs, training
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

    Returns:
        An index of FAISS, or `Graphs`.

    Raises:
        IndexBuildFailed: no library knows such an index, or it cannot be built on this data.
        MissingDependency: the library is not installed.
    """
    shape = shape_of(recipe.factory)
    if shape is not None:
        return graphs.build(recipe, shape, matrix, metric, workers=workers, progress=progress, scratch=scratch)
    return training.build(recipe, matrix, metric, workers=workers, progress=progress, scratch=scratch, saving=saving)


def extend(index: Any, matrix: StoredMatrix, metric: Metric, factory: str, *, workers: int) -> Any:
    """Return the index with the rows of *matrix* that it does not hold yet. Never for one that is being searched.

    Raises:
        IndexBuildFailed: FAISS cannot add to this kind of index (NSG).
        MissingDependency: the library is not installed.
    """
    if isinstance(index, Graphs):
        return graphs.extend(index, matrix, metric, factory, workers=workers)
    training.extend(index, matrix, workers=workers)
    return index
