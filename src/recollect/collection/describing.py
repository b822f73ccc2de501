"""What there is to tell about a collection."""

from __future__ import annotations

from recollect import layout
from recollect.collection import selecting
from recollect.collection.handle import Handle
from recollect.types import CollectionInfo


def describe(handle: Handle) -> CollectionInfo:
    """Collect the facts of `Collection.info`; through a scope those alone that say nothing of what lies outside."""
    generation, session = handle.session()
    with session:
        state = session.state
    whole = handle.scope.tree is None
    record = generation.record() if whole else None
    covered = min(record.rows, state.rows) if record else 0
    settings = generation.settled()
    return CollectionInfo(
        path=str(handle.root.root),
        count=selecting.count(handle, handle.scope.tree),
        deleted=state.rows - state.live if whole else None,
        tail=state.rows - covered if whole else None,
        dimension=settings.dimension,
        metric=settings.metric,
        dtype=settings.dtype,
        embedder=settings.contract.name if settings.contract else None,
        index=record.to_info() if record and not record.exact else None,
        disk=_disk(generation.paths) if whole else {},
        generation=generation.paths.name,
        format_version=layout.FORMAT_VERSION,
    )


def _disk(paths: layout.Generation) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for path in sorted(paths.root.rglob("*")):
        try:
            if path.is_file():
                sizes[str(path.relative_to(paths.root))] = path.stat().st_size
        except FileNotFoundError:
            continue  # the WAL comes and goes
    return sizes
