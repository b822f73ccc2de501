"""Chunks by filter, without a question: which there are, how many, and their ids. No index is loaded for it."""

from __future__ import annotations

from recollect.collection.handle import Handle
from recollect.filters import Filter
from recollect.types import Chunk


def selected(handle: Handle, tree: Filter | None, *, limit: int | None = None, offset: int = 0) -> list[Chunk]:
    """Return chunks that match, in the order of adding."""
    generation, session = handle.session()
    with session:
        rows = generation.matching(tree, session)[offset : None if limit is None else offset + limit]
        return session.read(rows.tolist())


def selected_ids(handle: Handle, tree: Filter | None) -> list[str]:
    """Return the ids of the chunks that match, in the order of adding."""
    generation, session = handle.session()
    with session:
        return session.ids_of(generation.matching(tree, session).tolist())


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
        generation.store.delete(rows)
    return len(rows)
