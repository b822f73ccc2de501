"""Write a collection as Parquet or JSON lines, and read it again."""

from reperio.exchange.exporting import ExportReport, export_collection
from reperio.exchange.importing import ImportedExport, import_collection

__all__ = ["ExportReport", "ImportedExport", "export_collection", "import_collection"]
