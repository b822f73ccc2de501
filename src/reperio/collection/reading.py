"""Chunks by filter, without a question: which there are, how many, and their ids. No index is loaded for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Scope
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.filters import Filter, matches
from reperio.store import Session, StoredChunk
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
            yield from _inside(handle, generation, session, matrix)
            return
        for block in session.scan_all():
            session.require(block, matrix)
            yield from (stored.to_chunk() for stored in block)


def _inside(handle: Handle, generation: OpenGeneration, session: Session, matrix: StoredMatrix) -> Iterator[Chunk]:
    """Yield the chunks within the scope; how long that takes must not tell how long the texts of others are."""
    rows = generation.matching(handle.scope.tree, session).tolist()
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        chunks = session.read(block, matrix)
        _require_whole(handle, len(block), len(chunks))
        handle.scope.require_found(chunks, handle.root.root)
        yield from chunks


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
            _require_inside(handle, session, matrix, rows, own=True)
        generation.store.delete(rows, seen=session.state.seq)
        return len(rows)

    return handle.commit(attempt)


def among(handle: Handle, ids: Sequence[str], tree: Filter | None) -> dict[str, Chunk]:
    """Return the chunks with these ids that match, by id."""
    generation, session, matrix = handle.reading()
    with session:
        found = [(one, one.to_chunk()) for one in stored(handle.scope, generation, session, ids).values()]
        matching = [(one, chunk) for one, chunk in found if tree is None or matches(tree, chunk.metadata)]
        session.require([one for one, _ in matching], matrix)
    return {chunk.id: chunk for _, chunk in matching}


def delete_among(handle: Handle, ids: Sequence[str], tree: Filter | None) -> int:
    """Delete those of these ids that match as of now, in one commit; return how many there were."""

    def attempt(generation: OpenGeneration) -> int:
        with generation.store.session() as session:
            found = list(stored(handle.scope, generation, session, ids).values())
            if tree is not None:
                matching = [(one, chunk) for one in found if matches(tree, (chunk := one.to_chunk()).metadata)]
                found = [one for one, _ in matching]
                session.require(found, generation.matrix_of(session))  # without a filter, deleting is a cure of damage
                handle.scope.require_own(chunk for _, chunk in matching)
        generation.store.delete([one.row for one in found], seen=session.state.seq)
        return len(found)

    return handle.commit(attempt)


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


def holds(handle: Handle, chunk_id: str) -> bool:
    """Say whether there is a chunk with this id within the scope, without reading it."""
    generation, session = handle.session()
    with session:
        rows = list(session.located([chunk_id]).values())
        return bool(rows if handle.scope.tree is None else generation.among(handle.scope.tree, session, rows))


def stored(scope: Scope, generation: OpenGeneration, session: Session, ids: Sequence[str]) -> dict[str, StoredChunk]:
    """Return what is stored under these ids within the scope, as it is: `Session.require` says whether it is whole.

    What lies outside is told by the columns, and never read: SQLite finds the metadata of a chunk behind its text, so
    that reading them would take the longer, the longer the text is.

    Raises:
        CollectionDamaged: the columns say otherwise than the metadata.

    """
    if scope.tree is None:
        return session.get(ids)
    found = session.stored(generation.among(scope.tree, session, list(session.located(ids).values())))
    scope.require_found((one.to_chunk() for one in found), generation.paths.root.parent)
    return {one.id: one for one in found}


def require_replaceable(scope: Scope, generation: OpenGeneration, session: Session, ids: Sequence[str]) -> None:
    """Raise `InvalidInput` for an id of a chunk that a handle with this scope may not replace.

    That an id is taken must be told, as ids are unique in the collection; of the chunk that has it, nothing is.
    """
    if scope.tree is None:
        return
    there = session.located(ids)
    if not there:  # as nearly always: the columns are not read for each batch that is new
        return
    inside = set(generation.among(scope.tree, session, list(there.values())))
    for chunk_id, row in there.items():
        if row not in inside:
            raise InvalidInput(
                f"the id {chunk_id!r} is taken by a chunk outside the scope of this handle; ids are unique in the "
                "whole collection: prefix them, say with the tenant's name"
            )
    scope.require_own(one.to_chunk() for one in session.stored(sorted(inside)))


def _require_inside(
    handle: Handle, session: Session, matrix: StoredMatrix, rows: Sequence[int], *, own: bool = False
) -> None:
    """Check once more that the chunks of *rows* are within the handle's scope, as a search does with what it found.

    With *own* they are to be deleted: none may be shared with other scopes.
    """
    if handle.scope.tree is None:
        return
    for first in range(0, len(rows), _BLOCK):
        chunks = session.read(rows[first : first + _BLOCK], matrix)
        handle.scope.require_found(chunks, handle.root.root)
        if own:
            handle.scope.require_own(chunks)


def _require_whole(handle: Handle, live: int, found: int) -> None:
    if found < live:
        raise CollectionDamaged(
            f"{handle.root.root}: {live - found} of {live} live rows hold no chunk; run check(), restore from a backup"
        )
