"""Import the folder of a LangChain FAISS store, without executing its pickle."""

from reperio.importers.langchain_faiss.conversion import Changed
from reperio.importers.langchain_faiss.importing import ImportReport, import_langchain_faiss

__all__ = ["Changed", "ImportReport", "import_langchain_faiss"]
