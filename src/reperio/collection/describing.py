"""Describe a collection: its settings, counts, sizes and index."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from reperio import layout
from reperio.collection import reading
from reperio.collection.handle.handle import Handle
from reperio.collection.replica.held import Held, held_by
from reperio.collection.replica.replica import Replica
from reperio.types import CollectionInfo, OriginInfo


def describe(handle: Handle) -> CollectionInfo:
    """Collect the facts of `Collection.info`. Through a scope, leave out those that tell of what lies outside."""
    generation, session = handle.session()
    with session:
        state, held = session.state, held_by(session)
    whole = handle.scope.tree is None
    description = generation.description() if whole else None
    covered = min(description.rows, state.rows) if description else 0
    settings = generation.settled()
    return CollectionInfo(
        path=handle.name,
        count=reading.count(handle, handle.scope.tree),
        deleted=state.rows - state.live if whole else None,
        tail=state.rows - covered if whole else None,
        dimension=settings.dimension,
        metric=settings.metric,
        dtype=settings.dtype,
        embedder=settings.contract.name if settings.contract else None,
        index=description.to_info() if description and not description.exact else None,
        disk=sizes(generation.paths.root) if whole else {},
        generation=generation.paths.name,
        format_version=layout.FORMAT_VERSION,
        origin=_origin(handle.origin.replica, held) if whole else None,
    )


def _origin(replica: Replica | None, held: Held | None) -> OriginInfo | None:
    if held is None:
        return None
    number = held.position.number
    if replica is None or replica.latest is None:
        trouble = replica.trouble if replica is not None else ""
        return OriginInfo(held.where, number, held.committed, number, None, trouble)
    newest = max(number, replica.latest.position.number)
    return OriginInfo(replica.where, number, held.committed, newest, time.monotonic() - replica.heard, replica.trouble)


def sizes(root: Path) -> dict[str, int]:
    """Return the sizes in bytes of the regular files of a generation, by name, without links.

    Two levels down, as far as ours go: a stranger's folders may go deeper than Python's stack.
    """
    found: dict[str, int] = {}
    for folder in (root, root / "index", root / "index" / layout.BUILDING):
        if not layout.is_directory(folder):
            continue
        for path in folder.iterdir():
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # the WAL comes and goes
            if stat.S_ISREG(status.st_mode):
                found[str(path.relative_to(root))] = status.st_size
    return dict(sorted(found.items()))
