"""Tell an evaluation the fixed settings of a collection, and queries that nobody stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from reperio import index
from reperio.collection.handle.handle import Handle
from reperio.embedding.contract import Contract
from reperio.errors import InvalidInput
from reperio.types import FloatMatrix

_SEED = 11
_DIGITS = 4


def fingerprint(handle: Handle) -> dict[str, Any]:
    """Collect the settings that answers depend on, and what tells the embedder from others."""
    settings = handle.settings()
    contract = settings.contract
    return {
        "metric": settings.metric.value,
        "dimension": settings.dimension,
        "dtype": settings.dtype,
        "lexical": settings.lexical,
        "embedder": contract and contract.name,
        "revision": contract and contract.revision,
        "query_prompt": contract and contract.query_prompt,
        "passage_prompt": contract and contract.passage_prompt,
        "canaries": None if contract is None else _cosines(contract),
    }


def sample_queries(handle: Handle, number: int) -> FloatMatrix:
    """Return held-out queries: those kept by `optimize`, then stored vectors displaced from where they are."""
    generation, session = handle.session()
    with session:
        matrix = generation.store.map(session.state.rows)
    if not len(matrix):
        raise InvalidInput(f"{handle.root.root} is empty; there are no queries to sample")
    settings, description = generation.settings, generation.description()
    factory = description.factory if description is not None else ""
    kept = index.kept(generation.paths.index, settings.dimension)
    if kept is not None and len(kept) >= number:
        return _drawn(kept, number)
    displaced = index.questions(matrix, settings.metric, given=None, factory=factory, thorough=True).vectors
    if kept is None:
        return _drawn(displaced, number)
    # Thirty kept ones are enough to tune with, and too few to judge by.
    return np.concatenate([kept, _drawn(displaced, number - len(kept))])


def _drawn(vectors: FloatMatrix, number: int) -> FloatMatrix:
    if len(vectors) <= number:
        return vectors
    chosen = np.random.default_rng(_SEED).choice(len(vectors), number, replace=False)
    return np.ascontiguousarray(vectors[np.sort(chosen)])


def _cosines(contract: Contract) -> list[float]:
    """Return the canaries' cosines to each other: few, and the same for two precisions of one model."""
    parts = [
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (contract.passages, contract.queries)
    ]
    passages, queries = parts
    upper = np.triu_indices(len(passages), 1)
    found = np.concatenate([(passages @ passages.T)[upper], (queries @ passages.T).ravel()])
    return [round(float(each), _DIGITS) for each in found]
