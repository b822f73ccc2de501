"""Keep a collection up to date while files change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reperio.collection import Collection
from reperio.ingestion.finding.paths import Paths, listed_paths
from reperio.ingestion.results import IngestResult
from reperio.optional import OptionalImport

if TYPE_CHECKING:
    import threading

    from watchfiles import Change

_STEP_MS = 200
"""Changes are gathered until there are none for so long, so that a file is whole when it is read."""
_LOOK_MS = 1000


def watch(
    collection: Collection,
    paths: Paths,
    run: Callable[[], IngestResult],
    *,
    stop: threading.Event | None = None,
) -> Iterator[IngestResult]:
    """Run at once, and again whenever something changed beneath the paths; yield each result.

    Args:
        collection: that the run writes; if it lies beneath the paths, its own changes count for nothing.
        paths: what to look at.
        run: calls `ingest` with these paths. A run over unchanged files reads none of them.
        stop: ends the watching when it is set; without it, an interrupt does.

    Raises:
        MissingDependency: run ``pip install 'reperio[watch]'``.
        InvalidInput: a path does not exist.
    """
    with OptionalImport("watching", "watchfiles", extra="watch"):
        import watchfiles
    named = [path.resolve() for path, _ in listed_paths(paths)]
    itself = Path(collection.info().path).resolve()

    def counts(_: Change, path: str) -> bool:
        # What a run passes over need not wake it; editors write hidden files next to those that they save.
        where = Path(path)
        if where.name.startswith(".") or where.is_relative_to(itself):
            return False
        return any(where.is_relative_to(one) for one in named)

    yield run()
    begun = False
    for changed in watchfiles.watch(
        # The folder of a file, since editors put another file in its place, which nobody would watch.
        *{one if one.is_dir() else one.parent for one in named},
        recursive=any(one.is_dir() for one in named),
        watch_filter=counts,
        step=_STEP_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        stop_event=stop,
    ):
        # The first time also without a change: there may have been one before the watching began.
        if changed or not begun:
            begun = True
            result = run()
            if changed or result.added or result.updated or result.removed:
                yield result
