"""Describe a collection: its settings, counts, sizes and index."""

from __future__ import annotations

import stat
from pathlib import Path

from reperio import layout
from reperio.collection import reading
from reperio.collection.handle.handle import Handle
from reperio.types import CollectionInfo


def describe(handle: Handle) -> CollectionInfo:
    """Collect the facts of `Collection.info`. Through a scope, leave out those that tell of what lies outside."""
    generation, session = handle.session()
    with session:
        state = session.state
    whole = handle.scope.tree is None
    description = generation.description() if whole else None
    covered = min(description.rows, state.rows) if description else 0
    settings = generation.settled()
    return CollectionInfo(
        path=str(handle.root.root),
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
    )


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
