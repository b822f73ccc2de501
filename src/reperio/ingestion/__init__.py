"""Ingestion: files are found, read as records, split into chunks, and the collection brought up to date with them.

And what other stores have written is imported; a collection is exported, and an export imported again.
"""

from recollect.ingestion.conversion import Changed
from recollect.ingestion.exporting import ExportReport, export_collection
from recollect.ingestion.finding import Skipped, find_files
from recollect.ingestion.importing import ImportedExport, import_collection
from recollect.ingestion.ingesting import IngestResult, ingest
from recollect.ingestion.langchain_faiss import ImportReport, import_langchain_faiss

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
