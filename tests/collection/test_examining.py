"""A collection's answers about itself, for a check before a deployment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import reperio
from reperio import Chunk, Metric
from tests.index.tuning.test_measuring import D, data


def test_sampled_questions_are_as_hard_as_the_index_needs(path: Path) -> None:
    """Stored vectors are moved farther for a graph than without one, also where the graph is of reduced vectors."""
    matrix, _ = data(Metric.L2, 1500, 0)
    with reperio.open(path, dimension=D, metric="l2", auto_optimize=False) as kb:
        kb.add([Chunk(str(row)) for row in range(len(matrix))], vectors=matrix)
        plain, sampled = kb.sample_queries(100), {}
        for factory in ("HNSW8,Flat", "PCA16,HNSW8,SQ8", "IVF4_HNSW8,SQ8"):
            kb.optimize(index=factory)
            sampled[factory] = kb.sample_queries(100)
    # The same vectors, in the same directions.
    graph, reduced, lists = (np.linalg.norm(queries - plain, axis=1) for queries in sampled.values())
    assert (lists == 0).all()
    assert (reduced > 0).all()
    assert (graph > reduced).all()
