"""Folders as LangChain's FAISS store would leave them, written without LangChain; and those that others have made."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from reperio.importers.pickles import Name

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(path for path in DATA.iterdir() if path.is_dir())
FOLDERS = [folder for version in VERSIONS for folder in sorted(version.iterdir()) if folder.name != "quantized"]
NEWEST = VERSIONS[-1]
DIMENSION = 8


class Plain:
    """Pickles as an object of a LangChain class: the name, and a state."""

    def __init__(self, name: Name, state: Any) -> None:
        self.name = name
        self.state = state


class Writer(pickle._Pickler):  # type: ignore[misc, name-defined]  # in Python, so that a class can be named that is not there
    """Writes `Plain` as LangChain would be written."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(value, Plain):
            super().save(value, save_persistent_id)
            return
        self.save(value.name.module)
        self.save(value.name.name)
        self.write(pickle.STACK_GLOBAL + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.save(value.state)
        self.write(pickle.BUILD)


DOCUMENT = Name("langchain_core.documents.base", "Document")
STORE = Name("langchain_community.docstore.in_memory", "InMemoryDocstore")


def document(text: Any = "text", metadata: Any = None, *, name: Name = DOCUMENT, **more: Any) -> Plain:
    return Plain(name, {"__dict__": {"page_content": text, "metadata": metadata or {}, "type": "Document", **more}})


def write(
    folder: Path,
    documents: dict[Any, Any],
    positions: dict[Any, Any] | None = None,
    *,
    vectors: npt.NDArray[np.float32] | None = None,
    index: Any = None,
    store: Name = STORE,
) -> Path:
    """Write a folder as ``save_local`` does."""
    folder.mkdir(exist_ok=True)
    made = index
    if made is None:
        rows = np.eye(len(documents), 4, dtype=np.float32) + 1 if vectors is None else vectors
        made = faiss.IndexFlatL2(rows.shape[1])
        made.add(rows)
    faiss.write_index(made, str(folder / "index.faiss"))
    if positions is None:
        positions = dict(enumerate(documents))
    with open(folder / "index.pkl", "wb") as file:
        Writer(file, 4).dump((Plain(store, {"_dict": documents}), positions))
    return folder


def unpacked(path: Path, into: Path) -> Path:
    """Unpack an archive that the real packages' folders were packed into; return the folder."""
    # Python 3.10 and 3.11 know the filter since their security releases of 2023, and Debian's may be older.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(path) as file:
        file.extractall(into, **options)
    return into
