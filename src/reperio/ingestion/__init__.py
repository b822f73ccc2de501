"""Ingestion: files are found, read as records, split into chunks, and the collection brought up to date with them.

And what other stores have written is imported; a collection is exported, and an export imported again.
"""

from reperio.ingestion.conversion import Changed
from reperio.ingestion.exporting import ExportReport, export_collection
from reperio.ingestion.finding import Skipped, find_files
from reperio.ingestion.importing import ImportedExport, import_collection
from reperio.ingestion.ingesting import IngestResult, ingest
from reperio.ingestion.langchain_faiss import ImportReport, import_langchain_faiss

__all__ = [
    "Changed",
    "ExportReport",
    "ImportReport",
    "ImportedExport",
    "IngestResult",
    "Skipped",
    "export_collection",
    "find_files",
    "import_collection",
    "import_langchain_faiss",
    "ingest",
]
