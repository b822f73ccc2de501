"""Ingestion: files are found, read as records, split into chunks, and the collection brought up to date with them.

And what other stores have written is imported.
"""

from recollect.ingestion.conversion import Changed
from recollect.ingestion.finding import Skipped, find_files
from recollect.ingestion.ingesting import IngestResult, ingest
from recollect.ingestion.langchain_faiss import ImportReport, import_langchain_faiss

__all__ = ["Changed", "ImportReport", "IngestResult", "Skipped", "find_files", "import_langchain_faiss", "ingest"]
