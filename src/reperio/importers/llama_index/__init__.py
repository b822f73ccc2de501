"""Import the folder that LlamaIndex's storage context has persisted."""

from reperio.importers.conversion import Changed
from reperio.importers.llama_index.importing import import_llama_index
from reperio.importers.storing import ImportReport

__all__ = ["Changed", "ImportReport", "import_llama_index"]
