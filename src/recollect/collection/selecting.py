"""Chunks by filter, without a question: which there are, how many, and their ids. No index is loaded for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recollect.collection.generation import OpenGeneration
from recollect.collection.handle import Handle
from recollect.errors import CollectionDamaged, InvalidInput
from recollect.filters import Filter, matches
from recollect.store import Session
from recollect.types import Chunk, FloatMatrix
from recollect.vectors import StoredMatrix, to_float32

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
    _, session, matrix = handle.reading()
    with session:
        for block in session.scan_all():
            inside = [stored for stored in block if handle.scope.holds_stored(stored)]
            session.require(inside, matrix)
            yield from (stored.to_chunk() for stored in inside)


def selected_ids(handle: Handle, tree: Filter | None) -> list[str]:
    """Return the ids of the chunks that match, in the order of adding."""
    generation, session, matrix = handle.reading()
    with session:
        rows = generation.matching(tree, session).tolist()
        if tree is not None:  # else no metadata has told which
            session.require_rows(rows, matrix)
        _require_inside(handle, session, matrix, rows)
        ids = session.ids_of(rows)
    _require_whole(handle, len(rows), len(ids))
    return ids


def count(handle: Handle, tree: Filter | None) -> int:
    """Return how many chunks match."""
    generation, session = handle.session()
    with session:
        return session.state.live if tree is None else len(generation.matching(tree, session))


def delete(handle: Handle, tree: Filter) -> int:
    """Delete what matches as of now, in one commit; return how many there were."""

    def attempt(generation: OpenGeneration) -> int:
        with generation.store.session() as session:
            matrix = generation.matrix_of(session)
            rows = generation.matching(tree, session).tolist()
            session.require_rows(rows, matrix)  # damage to its metadata alone would have chosen a chunk, for good
            _require_inside(handle, session, matrix, rows)
        generation.store.delete(rows, seen=session.state.seq)
        return len(rows)

    return handle.commit(attempt)


def among(handle: Handle, ids: Sequence[str], tree: Filter | None) -> dict[str, Chunk]:
    """Return the chunks with these ids that match, by id."""
    _, session, matrix = handle.reading()
    with session:
        found = [(one, one.to_chunk()) for one in session.get(ids).values()]
        matching = [(one, chunk) for one, chunk in found if tree is None or matches(tree, chunk.metadata)]
        # Afterwards: that a chunk outside of its scope is damaged is nothing that a handle may know.
        session.require([one for one, _ in matching], matrix)
    return {chunk.id: chunk for _, chunk in matching}


def delete_among(handle: Handle, ids: Sequence[str], tree: Filter | None) -> int:
    """Delete those of these ids that match as of now, in one commit; return how many there were."""

    def attempt(generation: OpenGeneration) -> int:
        with generation.store.session() as session:
            found = list(session.get(ids).values())
            if tree is not None:
                found = [one for one in found if matches(tree, one.to_chunk().metadata)]
                session.require(found, generation.matrix_of(session))  # without a filter, deleting is a cure of damage
        generation.store.delete([one.row for one in found], seen=session.state.seq)
        return len(found)

    return handle.commit(attempt)


def vectors(handle: Handle, ids: Sequence[str]) -> FloatMatrix:
    """Return the vectors of these chunks, in their order; each must exist within the scope."""
    _, session, matrix = handle.reading()
    with session:
        scope = handle.scope
        stored = {key: one for key, one in session.get(ids).items() if scope.holds_stored(one)}
        rows = {key: one.row for key, one in stored.items()}
        session.require(list(stored.values()), matrix)
        missing = next((key for key in ids if key not in rows), None)
        if missing is not None:
            raise InvalidInput(f"there is no chunk {missing!r:.200} to return the vector of; ask get() which there are")
        return np.array(to_float32(matrix[[rows[key] for key in ids]]) if ids else to_float32(matrix[:0]))


def _require_inside(handle: Handle, session: Session, matrix: StoredMatrix, rows: Sequence[int]) -> None:
    """Check once more that the chunks of *rows* are within the handle's scope, as a search does with what it found."""
    if handle.scope.tree is None:
        return
    for first in range(0, len(rows), _BLOCK):
        handle.scope.require_found(session.read(rows[first : first + _BLOCK], matrix), handle.root.root)


def _require_whole(handle: Handle, live: int, found: int) -> None:
    if found < live:
        raise CollectionDamaged(
            f"{handle.root.root}: {live - found} of {live} live rows hold no chunk; run check(), restore from a backup"
        )
