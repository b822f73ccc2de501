"""What has been ingested."""

from __future__ import annotations

from reperio.collection import Collection
from reperio.ingestion.ledger.records import Ledger
from reperio.ingestion.results import Source


def sources(collection: Collection) -> list[Source]:
    """Return the files whose chunks are in a collection, by name, as the last run has left them."""
    ledger = Ledger(collection)
    roots = ledger.roots()
    return [
        Source(
            file.source,
            str(roots[file.root].path_of(file.inside)) if file.root in roots else "",
            file.chunks,
            stored,
        )
        for file, stored in ledger.dated_files()
    ]
