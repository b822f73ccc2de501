"""Chunks by filter, without a question: which there are, how many, and their ids. No index is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence

from recollect.collection.handle import Handle
from recollect.errors import CollectionDamaged
from recollect.filters import Filter
from recollect.store import Session
from recollect.types import Chunk

_BLOCK = 1000  # chunks read at once where only their metadata is looked at


def selected(handle: Handle, tree: Filter | None, *, limit: int | None = None, offset: int = 0) -> list[Chunk]:
    """Return chunks that match, in the order of adding."""
    generation, session = handle.session()
    with session:
        rows = generation.matching(tree, session)[offset : None if limit is None else offset + limit]
        chunks = session.read(rows.tolist())
    _require_whole(handle, len(rows), len(chunks))
    handle.scope.require_found(chunks, handle.root.root)
    return chunks


def selected_ids(handle: Handle, tree: Filter | None) -> list[str]:
    """Return the ids of the chunks that match, in the order of adding."""
    generation, session = handle.session()
    with session:
        rows = generation.matching(tree, session).tolist()
        _require_inside(handle, session, rows)
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
    with handle.writing:  # nobody else writes: what matches in the session still does afterwards
        handle.require_writable()
        generation = handle.followed()
        with generation.store.session() as session:
            rows = generation.matching(tree, session).tolist()
            _require_inside(handle, session, rows)
        generation.store.delete(rows)
    return len(rows)


def _require_inside(handle: Handle, session: Session, rows: Sequence[int]) -> None:
    """Check once more that the chunks of *rows* are within the handle's scope, as a search does with what it found."""
    if handle.scope.tree is None:
        return
    for first in range(0, len(rows), _BLOCK):
        handle.scope.require_found(session.read(rows[first : first + _BLOCK]), handle.root.root)


def _require_whole(handle: Handle, live: int, found: int) -> None:
    if found < live:
        raise CollectionDamaged(
            f"{handle.root.root}: {live - found} of {live} live rows hold no chunk; run check(), restore from a backup"
        )
