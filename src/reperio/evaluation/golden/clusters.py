"""Chunks that lie far from each other, by clusters of their vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.types import Chunk, FloatMatrix

_SEED = 20_261_121  # fixed, so that one collection gives one draft
_SAMPLED, _ITERATIONS = 4000, 10  # vectors that are clustered; steps, after which centres hardly move


@dataclass(frozen=True, slots=True)
class Cluster:
    """Chunks that lie near each other."""

    chunk: Chunk  # the one nearest to the centre
    share: float  # of the sampled chunks that belong to it
    members: frozenset[str]  # their ids


def sampled(collection: Collection) -> list[Chunk]:
    """Return chunks with a text, the same ones always: clustering every vector of a large collection takes minutes."""
    ids = collection.ids()
    chosen = sorted(np.random.default_rng(_SEED).permutation(len(ids))[:_SAMPLED])
    return [chunk for chunk in collection.get([ids[at] for at in chosen]) if chunk.text.strip()]


def spread(collection: Collection, number: int) -> list[Chunk]:
    """Return chunks that lie far from each other, *number* at most.

    Raises:
        InvalidInput: no chunk has a text.
    """
    return [each.chunk for each in clusters(collection, sampled(collection), number)]


def clusters(collection: Collection, chunks: list[Chunk], number: int) -> list[Cluster]:
    """Return clusters of chunks, *number* at most; see `spread`."""
    if not chunks:
        raise InvalidInput("no chunk has a text; draft from a log instead: --from-log")
    vectors = collection.vectors([chunk.id for chunk in chunks])
    nearest, owner = _centres(vectors, min(number, len(chunks)), np.random.default_rng(_SEED))
    found = []
    for at, row in enumerate(nearest):
        own = np.flatnonzero(owner == at)
        members = frozenset(chunks[each].id for each in own) | {chunks[row].id}
        found.append(Cluster(chunks[row], len(own) / len(chunks), members))
    return found


def _centres(vectors: FloatMatrix, number: int, rng: np.random.Generator) -> tuple[list[int], npt.NDArray[np.intp]]:
    """Return the vector nearest to the centre of each cluster of k-means (Lloyd's), each once, and every owner."""
    centres = vectors[rng.permutation(len(vectors))[:number]].copy()
    for _ in range(_ITERATIONS):
        owner = _distances(vectors, centres).argmin(axis=1)
        for at in range(number):
            own = vectors[owner == at]
            if len(own):  # a centre without vectors stays where it is
                centres[at] = own.mean(axis=0)
    distances = _distances(vectors, centres)
    found: list[int] = []
    for at in range(number):
        order = (int(each) for each in np.argsort(distances[:, at]))
        found.append(next(each for each in order if each not in found))
    return found, distances.argmin(axis=1)


def _distances(vectors: FloatMatrix, centres: FloatMatrix) -> FloatMatrix:
    squares = (centres * centres).sum(axis=1)
    return np.asarray(squares - 2 * (vectors @ centres.T), dtype=np.float32)
