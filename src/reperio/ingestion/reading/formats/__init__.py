"""Documents → items: PDF, HTML, office formats, books, letters, notebooks, as Markdown by their headings and pages."""

from reperio.ingestion.reading.formats.documents import read_document

__all__ = ["read_document"]
