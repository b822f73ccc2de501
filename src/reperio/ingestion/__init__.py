"""Ingestion: files are found, read as items, split into chunks, and the collection brought up to date with them."""

from reperio.ingestion.finding import Skipped, find_files
from reperio.ingestion.ingesting import IngestResult, ingest
from reperio.ingestion.items import ReadingOptions

__all__ = ["IngestResult", "ReadingOptions", "Skipped", "find_files", "ingest"]
