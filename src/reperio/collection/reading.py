"""Read chunks by filter or id, without a question. No index is loaded for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.inside import require_inside, stored
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.filters import Filter, matches
from reperio.store import Session
from reperio.types import Chunk, FloatMatrix
from reperio.vectors import StoredMatrix, to_float32

_BLOCK = 1000  # chunks read at once where only their metadata is looked at


def selected(handle: Handle, tree: Filter | None, *, limit: int | None = None, offset: int = 0) -> list[Chunk]:
    """Return chunks that match, in the order of adding."""
    generation, session, matrix = handle.reading()
    with session:
        rows = generation.matching(tree, session)[offset : None if limit is None else offset + limit]
        chunks = session.read(rows.tolist(), matrix)
    _require_whole(handle, len(rows), len(chunks))
    handle.scope.require_found(chunks, handle.root.root)
    return chunks


def everything(handle: Handle) -> Iterator[Chunk]:
    """Yield all chunks of one commit, in the order of adding."""
    generation, session, matrix = handle.reading()
    with session:
        if handle.scope.tree is not None:
            for _, chunks in _blocks_inside(handle, generation, session, matrix):
                yield from chunks
            return
        for block in session.scan_all():
            session.require(block, matrix)
            yield from (stored.to_chunk() for stored in block)


def everything_with_vectors(handle: Handle) -> Iterator[tuple[list[Chunk], FloatMatrix]]:
    """Yield all chunks of one commit with their vectors, float32 (n, d), in blocks, in the order of adding."""
    generation, session, matrix = handle.reading()
    with session:
        if handle.scope.tree is None:
            for block in session.scan_all():
                session.require(block, matrix)
                yield [one.to_chunk() for one in block], to_float32(matrix[[one.row for one in block]])
            return
        for part, chunks in _blocks_inside(handle, generation, session, matrix):
            yield chunks, to_float32(matrix[part])


def _blocks_inside(
    handle: Handle, generation: OpenGeneration, session: Session, matrix: StoredMatrix
) -> Iterator[tuple[list[int], list[Chunk]]]:
    """Yield the chunks within the scope; how long that takes must not tell how long the texts of others are."""
    rows = generation.matching(handle.scope.tree, session).tolist()
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        chunks = session.read(block, matrix)
        _require_whole(handle, len(block), len(chunks))
        handle.scope.require_found(chunks, handle.root.root)
        yield block, chunks


def selected_ids(handle: Handle, tree: Filter | None) -> list[str]:
    """Return the ids of the chunks that match, in the order of adding."""
    generation, session, matrix = handle.reading()
    with session:
        rows = generation.matching(tree, session).tolist()
        if tree is not None:  # else no metadata has told which
            session.require_rows(rows, matrix)
        require_inside(handle, session, matrix, rows)
        ids = session.ids_of(rows)
    _require_whole(handle, len(rows), len(ids))
    return ids


def selections(
    handle: Handle, trees: Sequence[Filter | None], ids: Sequence[str]
) -> list[tuple[npt.NDArray[np.bool_], int]]:
    """Return, for each filter, which of some chunks it selects, bool (n,), and how many chunks in all.

    By the filter columns of one commit. No id of what matches is read, which takes most of the time of `selected_ids`.
    """
    generation, session, _ = handle.reading()
    with session:
        located = session.located(ids)
        rows = np.array([located.get(each, -1) for each in ids], dtype=np.int64)
        found = [generation.matching(tree, session) for tree in trees]
    return [(np.isin(rows, matching), len(matching)) for matching in found]


def count(handle: Handle, tree: Filter | None) -> int:
    """Return how many chunks match."""
    generation, session = handle.session()
    with session:
        return session.state.live if tree is None else len(generation.matching(tree, session))


def among(handle: Handle, ids: Sequence[str], tree: Filter | None) -> dict[str, Chunk]:
    """Return the chunks with these ids that match, by id."""
    generation, session, matrix = handle.reading()
    with session:
        found = [(one, one.to_chunk()) for one in stored(handle.scope, generation, session, ids).values()]
        matching = [(one, chunk) for one, chunk in found if tree is None or matches(tree, chunk.metadata)]
        session.require([one for one, _ in matching], matrix)
    return {chunk.id: chunk for _, chunk in matching}


def vectors(handle: Handle, ids: Sequence[str]) -> FloatMatrix:
    """Return the vectors of these chunks, in their order; each must exist within the scope."""
    generation, session, matrix = handle.reading()
    with session:
        found = stored(handle.scope, generation, session, ids)
        rows = {key: one.row for key, one in found.items()}
        session.require(list(found.values()), matrix)
        missing = next((key for key in ids if key not in rows), None)
        if missing is not None:
            raise InvalidInput(f"there is no chunk {missing!r:.200} to return the vector of; ask get() which there are")
        return np.array(to_float32(matrix[[rows[key] for key in ids]]) if ids else to_float32(matrix[:0]))


def with_vectors(handle: Handle, ids: Sequence[str] | None, tree: Filter | None) -> tuple[list[Chunk], FloatMatrix]:
    """Return chunks of one committed state and their vectors: those with these ids that exist, else what matches."""
    generation, session, matrix = handle.reading()
    with session:
        if ids is None:
            rows = generation.matching(tree, session).tolist()
            chunks = session.read(rows, matrix)
        else:
            known = stored(handle.scope, generation, session, ids)
            found = [known[key] for key in dict.fromkeys(ids) if key in known]
            session.require(found, matrix)
            rows, chunks = [one.row for one in found], [one.to_chunk() for one in found]
        vectors = np.array(to_float32(matrix[rows]))
    _require_whole(handle, len(rows), len(chunks))
    handle.scope.require_found(chunks, handle.root.root)
    return chunks, vectors


def holds(handle: Handle, chunk_id: str) -> bool:
    """Say whether there is a chunk with this id within the scope, without reading it."""
    generation, session = handle.session()
    with session:
        rows = list(session.located([chunk_id]).values())
        return bool(rows if handle.scope.tree is None else generation.among(handle.scope.tree, session, rows))


def _require_whole(handle: Handle, live: int, found: int) -> None:
    if found < live:
        raise CollectionDamaged(
            f"{handle.root.root}: {live - found} of {live} live rows hold no chunk; run check(), restore from a backup"
        )
