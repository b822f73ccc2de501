"""What goes wrong with an index: searched too little or too much, trained or filled with other vectors, not its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import faiss
import numpy as np
from case import Case, Deployed, change_index, change_points, change_record, database, drawn, stored_anew
from healthy import chunks

import reperio
from reperio import Chunk

_SEED = 13


def fewer_probes(case: Case) -> Deployed | None:
    """Divide the effort of every operating point."""
    change_points(case, lambda effort: max(1, int(effort / case.strength)), lambda candidates: candidates)
    return None


def dearer_search(case: Case) -> Deployed | None:
    """Multiply effort and candidates of every operating point: a build that rescores far too much."""
    rows = len(case.texts.passages)
    change_points(
        case,
        lambda effort: int(effort * case.strength),
        lambda candidates: min(rows, int(candidates * case.strength)),
    )
    return None


def wrong_training(case: Case) -> Deployed | None:
    """Train lists and codes on a sample of which a share is of another distribution; add the right rows."""

    def train(index: Any, matrix: Any) -> Any:
        fresh = faiss.index_factory(matrix.shape[1], case.kind.factory, index.metric_type)
        sample = matrix.copy()
        # Numbers from 0 to 1, as of images: all in one corner of the space, where no text lies.
        foreign = np.random.default_rng(_SEED).random(matrix.shape, dtype=np.float32)
        rows = drawn(len(matrix), case.strength)
        sample[rows] = foreign[rows] / np.linalg.norm(foreign[rows], axis=1, keepdims=True)
        fresh.train(sample)
        fresh.add(matrix)
        return fresh

    change_index(case, train)
    return None


def foreign_snapshot(case: Case) -> Deployed | None:
    """Put the index file of another collection in the place of this one's."""
    other = case.path.with_name(case.path.name + "-other")
    if not other.exists():
        with reperio.open(other, dimension=case.embedder.dimension, auto_optimize=False) as collection:
            held = [Chunk(f"o{at}") for at in range(len(case.texts.passages) // 2)]
            collection.add(held, vectors=case.texts.passage_vectors[::-1][: len(held)])
            collection.optimize(index=case.kind.factory, queries=case.texts.query_vectors)
    [source], [target] = (path.glob("gen-*/index/snapshot-*") for path in (other, case.path))
    target.write_bytes(source.read_bytes())
    return None


def foreign_rows(case: Case) -> Deployed | None:
    """Put the index of another ingestion here, record and all: a share of the rows are others there."""

    def refill(index: Any, matrix: Any) -> Any:
        rows = drawn(len(matrix), case.strength)
        moved = matrix.copy()
        moved[rows] = matrix[np.random.default_rng(_SEED).permutation(rows)]
        index.reset()
        index.add(moved)
        return index

    change_index(case, refill)
    return None


def stale_tail(case: Case) -> Deployed | None:
    """Fill the index with other vectors for the newest rows: it was made before they were."""

    def refill(index: Any, matrix: Any) -> Any:
        kept = int(len(matrix) * (1 - case.strength))
        index.reset()
        index.add(np.concatenate([matrix[:kept], matrix[: len(matrix) - kept]]))
        return index

    change_index(case, refill)
    return None


def dropped_tail(case: Case) -> Deployed | None:
    """Claim that the index covers all rows, after a share of them was added behind it."""
    rows = len(case.texts.passages)
    kept = int(rows * (1 - case.strength))
    held, vectors = chunks(case.texts), case.texts.passage_vectors
    stored_anew(case, held[:kept], vectors[:kept])
    with reperio.open(case.path, embedder=case.embedder, auto_optimize=False) as collection:
        collection.add(held[kept:], vectors=vectors[kept:])
    change_record(case, lambda record: {**record, "rows": rows})
    with database(case) as connection:
        connection.execute("UPDATE snapshots SET rows = ?", (rows,))
    return None


def other_metric(case: Case) -> Deployed | None:
    """Build the collection with another metric: 1 for l2, 2 for inner product."""
    metric = "l2" if case.strength == 1 else "inner_product"
    stored_anew(case, chunks(case.texts), case.texts.passage_vectors, kind=replace(case.kind, metric=metric))
    return None
