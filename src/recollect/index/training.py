"""Training an index on a sample and filling it from the mapped vector file, in blocks."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from recollect.errors import IndexBuildFailed
from recollect.index.faiss_library import ALLOWED_TYPES, innermost, load_faiss, metric_type, threads, type_names
from recollect.index.recipe import Recipe
from recollect.types import FloatMatrix, Metric, Progress

BLOCK_ROWS = 16_384
_SEED = 20_240
_SHARED_TRAINING_ROWS = 65_536
_PQ_ITERATIONS, _PQ_POINTS_PER_CENTROID = 12, 128


def build(
    recipe: Recipe, matrix: FloatMatrix, metric: Metric, *, workers: int, progress: Progress | None = None
) -> Any:
    """Train and fill a FAISS index over all rows of *matrix*; row r gets FAISS id r.

    Deleted rows go in as well: an id is a position, and searches mask what is deleted.

    Raises:
        IndexBuildFailed: FAISS knows no such index, or cannot build it on this data.

    """
    faiss = load_faiss()
    try:
        index = faiss.index_factory(matrix.shape[1], recipe.factory, metric_type(metric))
    except RuntimeError as error:
        raise IndexBuildFailed(
            f"FAISS knows no index {recipe.factory!r} for dimension {matrix.shape[1]}: {_reason(error)}; "
            'examples: "IVF256,PQ192x4fs", "HNSW32,SQ8", "exact"'
        ) from error
    strange = [name for name in type_names(index) if name not in ALLOWED_TYPES]
    if strange:
        raise IndexBuildFailed(
            f"{recipe.factory!r}: a FAISS {strange[0]} cannot serve here; leave it out of the string"
        )
    try:
        if not index.is_trained:
            _train(index, recipe, matrix, workers=workers, progress=progress)
        extend(index, matrix, workers=workers, progress=progress)
    except (RuntimeError, AssertionError) as error:
        raise IndexBuildFailed(
            f"FAISS cannot build {recipe.factory!r} over {len(matrix):,} rows of {matrix.shape[1]} dimensions: "
            f"{_reason(error)}; choose another index, or none for the recommended one"
        ) from error
    return index


def extend(index: Any, matrix: FloatMatrix, *, workers: int, progress: Progress | None = None) -> None:
    """Add the rows of *matrix* that the index does not hold yet. Never on an index that is being searched."""
    if progress is not None:
        progress("index", index.ntotal, len(matrix))
    with threads(workers):
        for start in range(index.ntotal, len(matrix), BLOCK_ROWS):
            index.add(np.ascontiguousarray(matrix[start : start + BLOCK_ROWS]))
            if progress is not None:
                progress("index", index.ntotal, len(matrix))


def _train(index: Any, recipe: Recipe, matrix: FloatMatrix, *, workers: int, progress: Progress | None) -> None:
    wanted = min(len(matrix), recipe.training_rows or len(matrix))
    if progress is not None:
        progress("train", 0, wanted)
    chosen = np.random.default_rng(_SEED).choice(len(matrix), wanted, replace=False)
    chosen.sort()  # in file order, for the sake of the disk
    inner = innermost(index)
    product = getattr(inner, "pq", None)
    for clustering in (getattr(inner, "cp", None), getattr(product, "cp", None)):
        if clustering is not None:
            clustering.min_points_per_centroid = (
                1  # else FAISS prints a line per sub-quantizer; tuning measures the result
            )
    if product is not None:
        # A quarter of FAISS's own effort: with 2 dimensions and 16 centroids recall is the same to the third digit.
        product.cp.niter, product.cp.max_points_per_centroid = _PQ_ITERATIONS, _PQ_POINTS_PER_CENTROID
    # k-means over few points is thousands of parallel regions too short to share.
    with threads(workers if wanted > _SHARED_TRAINING_ROWS else 1):
        index.train(np.ascontiguousarray(matrix[chosen]))
    if progress is not None:
        progress("train", wanted, wanted)


def _reason(error: Exception) -> str:
    # FAISS puts the C++ function, file and line in front, and often the failed condition.
    return re.sub(r"^Error in .*? at \S+:\d+: (Error: )?", "", str(error).strip(), flags=re.S).splitlines()[0]
