"""Delete chunks by id and by filter."""

from __future__ import annotations

from collections.abc import Sequence

from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.inside import require_inside, stored
from reperio.filters import Filter, matches
from reperio.origins import Change

_BLOCK = 1000  # chunks read at once where only their metadata is looked at


def delete(handle: Handle, tree: Filter) -> int:
    """Delete what matches as of now, in one commit; return how many there were."""

    def attempt(generation: OpenGeneration) -> int:
        with generation.store.session() as session:
            matrix = generation.matrix_of(session)
            rows = generation.matching(tree, session).tolist()
            session.require_rows(rows, matrix)  # damage to its metadata alone would have chosen a chunk, for good
            require_inside(handle, session, matrix, rows, own=True)
            elsewhere = (
                handle.origin.elsewhere(generation, lambda: Change(deleted=session.ids_of(rows))) if rows else None
            )
        generation.store.delete(rows, seen=session.state.seq, elsewhere=elsewhere)
        return len(rows)

    return handle.commit(attempt)


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
        elsewhere = (
            handle.origin.elsewhere(generation, lambda: Change(deleted=[one.id for one in found])) if found else None
        )
        generation.store.delete([one.row for one in found], seen=session.state.seq, elsewhere=elsewhere)
        return len(found)

    return handle.commit(attempt)
