"""Find the chunks that a handle may see, replace and delete: those within its scope."""

from __future__ import annotations

from collections.abc import Sequence

from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Scope
from reperio.errors import InvalidInput
from reperio.store import Session, StoredChunk
from reperio.vectors import StoredMatrix

_BLOCK = 1000  # chunks read at once where only their metadata is looked at


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


def require_inside(
    handle: Handle, session: Session, matrix: StoredMatrix, rows: Sequence[int], *, own: bool = False
) -> None:
    """Check once more that the chunks of *rows* are within the handle's scope, as a search does with what it found.

    With *own* the caller deletes them afterwards: none may be shared with other scopes.
    """
    if handle.scope.tree is None:
        return
    for first in range(0, len(rows), _BLOCK):
        chunks = session.read(rows[first : first + _BLOCK], matrix)
        handle.scope.require_found(chunks, handle.root.root)
        if own:
            handle.scope.require_own(chunks)
