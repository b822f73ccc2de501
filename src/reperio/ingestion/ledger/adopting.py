"""Take over what was ingested before there was a ledger."""

from __future__ import annotations

from reperio.collection import Collection
from reperio.ingestion.finding.sources import FoundFiles
from reperio.ingestion.ledger.ids import made_by_ingest, stem_of
from reperio.ingestion.ledger.records import FileRecord, Ledger

_RUN = "adopted"


def adopt(collection: Collection, ledger: Ledger, found: FoundFiles) -> None:
    """Record the chunks of these files and folders that only ingestion can have made: their ids hold their hashes.

    They are compared with the files afterwards, and not embedded again. Chunks that had the ids of their items stay as
    they are: nothing tells them from a program's own.
    """
    if collection.scope is not None or not collection.count():
        return
    files = {file.source: file for file in found.files}
    suffixes: dict[str, list[str]] = {}
    for chunk in collection:
        source = made_by_ingest(chunk)
        if source is not None and (source in files or source.startswith(tuple(found.folders))):
            suffixes.setdefault(source, []).append(chunk.id[len(stem_of("", source)) :])
    if not suffixes:
        return
    ledger.announce(_RUN, 0, suffixes)
    records = []
    for source, names in suffixes.items():
        file = files.get(source)
        root, _, inside = (file.root, "", file.inside) if file else source.partition("/")
        records.append(FileRecord(source, root, inside, "", "", _RUN, len(names), None))
    ledger.finish(records, [])
