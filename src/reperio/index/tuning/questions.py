"""Choose held-out queries to tune an index with: the user's, kept next to the index, or displaced stored vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.index.exact.nearest import nearest
from reperio.index.recipes.ranking import is_graph
from reperio.layout import QUERIES, copy_regular, create_file, is_there, open_regular, storage_errors
from reperio.types import FloatMatrix, Metric
from reperio.vectors import StoredMatrix, load_array

# Fewer held-out queries than these say too little; the interval assumes that their mean is about normal.
FEWEST_QUERIES = 30
_MOST_QUERIES, _QUICK_QUERIES = 1000, 200
_DEAREST = 4e12  # multiplications spent on exact answers: a minute on one core
_SEED = 7
_SLICE_ROWS = 100_000
# With these displacements no recall asked for is missed by more than 0.001 (eval/bench/displaced.py).
_OF_LISTS, _OF_SYMPHONY, _OF_REDUCED_GRAPHS, _OF_GRAPHS = 0.65, 0.8, 0.95, 1.0


class Questions(NamedTuple):
    """Held-out queries."""

    vectors: FloatMatrix  # float32 (n, d)
    origin: str  # where they come from, in words
    given: bool  # True for queries that users bring, False for displaced stored vectors


def questions(
    matrix: StoredMatrix, metric: Metric, *, given: FloatMatrix | None, factory: str, thorough: bool
) -> Questions:
    """Choose the queries to tune with.

    Args:
        matrix: (rows, d), what will be searched.
        metric: of the collection.
        given: held-out queries from the user, (n, d); a thousand of them suffice.
        factory: of the index; empty for exact search.
        thorough: False for a quick look, as after a build in the background.

    Returns:
        The given ones, or stored vectors moved away from where they are stored.
    """
    # Stored vectors flatter an index: each is a node of the graph, and the nearest of its list. Moved by a part of the
    # distance to its tenth neighbour, in a direction in which neighbours differ, they are about as hard as held-out
    # questions of the same kind (docs/decisions/0007-tuning.md); questions of another kind than what is stored may
    # still be harder, which only real ones can tell.
    rng = np.random.default_rng(_SEED)
    most = _MOST_QUERIES if thorough else _QUICK_QUERIES
    most = max(_QUICK_QUERIES // 2, min(most, int(_DEAREST / max(1, matrix.size))))
    if given is not None:
        if len(given) <= most:
            return Questions(given, f"{len(given):,} queries given", True)
        chosen = np.sort(rng.choice(len(given), most, replace=False))
        return Questions(given[chosen], f"{most:,} of {len(given):,} queries given", True)
    rows = np.sort(rng.choice(len(matrix), min(most, len(matrix)), replace=False))
    vectors = displaced(matrix, rows, metric, displacement(factory), rng)
    return Questions(vectors, f"{len(rows):,} stored vectors, displaced: real questions may be harder", False)


def displacement(factory: str) -> float:
    """Return how far to move a stored vector, relative to the distance to its tenth neighbour."""
    # Measured, for each kind of index: a graph of FAISS is flattered most by vectors that are among its nodes.
    if "SymphonyQG" in factory:
        return _OF_SYMPHONY
    if not is_graph(factory):
        return _OF_LISTS
    return _OF_REDUCED_GRAPHS if "PCA" in factory else _OF_GRAPHS


def drawn(texts: Sequence[str]) -> Sequence[str]:
    """Return as many of a log's questions as are worth embedding, drawn at random."""
    if len(texts) <= _MOST_QUERIES:
        return texts
    rows = np.sort(np.random.default_rng(_SEED).choice(len(texts), _MOST_QUERIES, replace=False))
    return [texts[row] for row in rows]


def displaced(
    matrix: StoredMatrix, rows: npt.NDArray[np.int64], metric: Metric, part: float, rng: np.random.Generator
) -> FloatMatrix:
    """Return *rows* of (n, d) vectors, moved by *part* of the distance to their tenth neighbour; float32."""
    start = np.asarray(matrix[rows], dtype=np.float32)
    sample = matrix[:: max(1, len(matrix) // _SLICE_ROWS)]
    thinned = len(matrix) / max(1, len(sample))  # the tenth neighbour of all is about the first of every tenth
    rank = max(1, min(round(10 / thinned), len(sample) - 2))
    near, _ = nearest(sample, start, rank + 1, Metric.L2)
    other = np.asarray(sample[np.maximum(near[:, -1], 0)], dtype=np.float32)
    gaps = other - start
    # A random mixture of differences between neighbours spreads as they do, without an eigendecomposition.
    mixture = rng.standard_normal((len(rows), min(64, len(rows))), dtype=np.float32)
    ways = mixture @ gaps[rng.choice(len(rows), mixture.shape[1], replace=False)]
    lengths = np.linalg.norm(ways, axis=1, keepdims=True)
    ways = np.divide(ways, lengths, out=np.zeros_like(ways), where=lengths > 0)
    moved = start + part * np.linalg.norm(gaps, axis=1, keepdims=True) * ways
    if metric is Metric.COSINE:
        norms = np.linalg.norm(moved, axis=1, keepdims=True)
        moved = np.where(norms > 1e-6, moved / np.maximum(norms, 1e-6), start)
    return np.ascontiguousarray(moved, dtype=np.float32)


def keep(queries: FloatMatrix, directory: Path) -> None:
    """Keep the user's queries next to the index, for when it is built again in the background."""
    # Not synced: losing them costs a less honest tuning, never an answer.
    fresh = directory / f"{QUERIES}.new"
    with storage_errors(fresh, "write"):
        try:
            with open(create_file(fresh), "wb") as file:
                np.save(file, queries, allow_pickle=False)
            fresh.replace(directory / QUERIES)
        finally:
            fresh.unlink(missing_ok=True)


def kept(directory: Path, dimension: int) -> FloatMatrix | None:
    """Return the queries that were kept; None where there are none, or they cannot be used."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        with open(open_regular(directory / QUERIES), "rb") as file:
            found = load_array(file)
        # The file may be anybody's: nothing of it is used before it is what `keep` writes.
        alike = isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape[1:] == (dimension,)
        if alike and len(found) >= FEWEST_QUERIES and np.isfinite(found).all():
            return np.ascontiguousarray(found)
    return None


def copy_kept(source: Path, target: Path) -> None:
    """Copy the queries that were kept, if there are any, to the index of another generation."""
    if is_there(source / QUERIES):
        copy_regular(source / QUERIES, target / QUERIES)
