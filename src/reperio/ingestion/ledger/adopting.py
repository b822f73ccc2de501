"""Take over what was ingested before there was a ledger."""

from __future__ import annotations

from collections import Counter

from reperio.collection import Collection
from reperio.ingestion.ledger.ids import made_by_ingest, stem_of
from reperio.ingestion.ledger.records import FileRecord, Ledger
from reperio.types import Chunk

_RUN = "adopted"
_AT_ONCE = 1000  # sources


def adopt(collection: Collection, ledger: Ledger) -> None:
    """Record all chunks that only ingestion can have made: their ids hold the hashes of their texts.

    They are those of every folder, not of those alone that are ingested now: once there is a ledger, nobody looks for
    more. They are compared with the files when these are ingested, and not embedded again. Chunks that had the ids of
    their items stay as they are: nothing tells them from a program's own.
    """
    if not collection.count():
        return
    scoped = collection.scope is not None
    by_prefix: dict[str, dict[str, list[str]]] = {}
    for chunk in collection:
        prefix = _prefix_of(chunk) if scoped else ""
        source = None if prefix is None else made_by_ingest(chunk, prefix)
        if prefix is not None and source is not None:
            by_prefix.setdefault(prefix, {}).setdefault(source, []).append(chunk.id[len(stem_of(prefix, source)) :])
    if not by_prefix:
        return
    prefix = Counter({each: len(sources) for each, sources in by_prefix.items()}).most_common(1)[0][0]
    if scoped:
        ledger.keep_prefix(prefix)
    suffixes = by_prefix[prefix]
    sources = list(suffixes)
    for number, first in enumerate(range(0, len(sources), _AT_ONCE)):
        some = sources[first : first + _AT_ONCE]
        ledger.announce(_RUN, number, {source: suffixes[source] for source in some})
        records = []
        for source in some:
            root, _, inside = source.partition("/")
            records.append(FileRecord(source, root, inside, "", "", _RUN, len(suffixes[source]), None))
        ledger.finish(records, [])


def _prefix_of(chunk: Chunk) -> str | None:
    """Return how the id of a chunk begins before its source, in a scope; None where it is none of ingestion's."""
    prefix, colon, _ = chunk.id.partition(":")
    return prefix if colon and prefix.isalnum() else None
