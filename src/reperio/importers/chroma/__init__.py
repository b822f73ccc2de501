"""Import a collection of a Chroma directory, without Chroma and without executing its pickles."""

from reperio.importers.chroma.importing import import_chroma
from reperio.importers.conversion import Changed
from reperio.importers.storing import ImportReport

__all__ = ["Changed", "ImportReport", "import_chroma"]
