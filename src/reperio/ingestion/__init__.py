"""Ingestion: files are found, read as items, split into chunks, and the collection brought up to date with them."""

from reperio.ingestion.finding.paths import find_files
from reperio.ingestion.ingesting import ingest
from reperio.ingestion.listing import sources
from reperio.ingestion.reading.items import ReadingOptions
from reperio.ingestion.results import Failed, IngestResult, Skipped, Source
from reperio.ingestion.watching import watch

__all__ = [
    "Failed",
    "IngestResult",
    "ReadingOptions",
    "Skipped",
    "Source",
    "find_files",
    "ingest",
    "sources",
    "watch",
]
