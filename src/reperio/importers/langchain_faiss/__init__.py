"""Import the folder of a LangChain FAISS store, without executing its pickle."""

from reperio.importers.conversion import Changed
from reperio.importers.langchain_faiss.importing import import_langchain_faiss
from reperio.importers.storing import ImportReport

__all__ = ["Changed", "ImportReport", "import_langchain_faiss"]
