"""Import a FAISS index and a file with the texts of its vectors."""

from reperio.importers.conversion import Changed
from reperio.importers.raw_faiss.importing import import_faiss
from reperio.importers.storing import ImportReport

__all__ = ["Changed", "ImportReport", "import_faiss"]
