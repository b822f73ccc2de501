"""Read a Chroma directory: one database for documents and catalogue, and a folder of vectors for each collection."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from reperio import layout
from reperio.errors import InvalidInput
from reperio.importers.chroma.catalogue import Catalogued, read_catalogue
from reperio.importers.chroma.log import (
    apply_to_documents,
    apply_to_vectors,
    last_taken,
    read_documents,
    read_log,
    read_log_vectors,
)
from reperio.importers.chroma.vectors import VectorFiles, read_vector_files
from reperio.importers.conversion import Conversion
from reperio.importers.storing import ForeignContent
from reperio.store import ForeignDatabase
from reperio.types import Chunk, FloatMatrix, Rows

_DATABASE = "chroma.sqlite3"
_DOCUMENT, _URI = "chroma:document", "chroma:uri"
_EXPANSION, _EXPANSION_LEAST = 64, 64 << 20  # characters that a byte of the database may come to; and for all of it


def read_folder(folder: Path, wanted: str | None, opened: ExitStack) -> ForeignContent:
    """Read and check a collection of the folder of a ``chromadb.PersistentClient``; nothing in it is executed.

    Args:
        folder: the directory.
        wanted: name or id of the collection.
        opened: closes what stays open, for the vectors.
    """
    layout.require_path(folder)
    path = folder / _DATABASE
    if not layout.is_there(path):
        raise InvalidInput(f"{folder} has no {_DATABASE}: it is not what chromadb.PersistentClient(path) has written")
    cure = "open the folder once with the Chroma that wrote it, close it, and import it again"
    database = opened.enter_context(ForeignDatabase(path, cure=cure))
    entry = read_catalogue(database, wanted)
    files = read_vector_files(folder / entry.vectors, entry.metric, opened) if entry.in_files else None
    documents, places, lost = _replayed(database, entry, files)
    dimension = entry.dimension or (files.dimension if files else 0)
    if files and files.dimension != dimension:
        raise InvalidInput(f"{files.path} has vectors of {files.dimension} dimensions, {path} says {dimension}")
    if not dimension:
        raise InvalidInput(f"{path}: collection {entry.name!r:.80} is empty, and has no dimension yet; add to it first")
    conversion = Conversion(_EXPANSION_LEAST + _EXPANSION * path.stat().st_size, str(path))
    if lost is None:
        kept = [key for key in documents if key in places]
    else:  # what takes the place of its vectors needs a text
        kept = [key for key, held in documents.items() if _has_text(held)]
    chosen = set(kept)
    content = ForeignContent(
        what="the folder",
        kind=f"Chroma {entry.name}",
        dimension=dimension,
        metric=entry.metric,
        documents=len(documents),
        chunks=[_chunk(key, documents[key], conversion) for key in kept],
        vectors=_reader(database, files, np.array([places.get(key, 0) for key in kept], dtype=np.int64), dimension),
        lost=lost,
        without_vector=tuple(key for key in documents if key not in chosen),
        without_document=files.orphans if files else (),
        changed=conversion.changed,
        notes=entry.notes,
    )
    database.require_unchanged()
    return content


def _replayed(
    database: ForeignDatabase, entry: Catalogued, files: VectorFiles | None
) -> tuple[dict[str, dict[str, Any]], dict[str, int], str | None]:
    """Return the documents, where their vectors are, and why these are lost: with what is in the log alone."""
    documents = read_documents(database, entry.metadata)
    places = dict(files.places) if files else {}
    read = last_taken(database, entry.metadata) or 0
    taken = last_taken(database, entry.vectors)
    if taken is None:
        taken = files.last if files else None
    for each in read_log(database, entry.id, min(read, taken or 0)):
        if each.number > read:
            apply_to_documents(documents, each)
        if each.number > (taken or 0):
            apply_to_vectors(places, each)
    gone = files is None and entry.in_files and bool(taken) and any(key not in places for key in documents)
    lost = (
        f"{database.path.parent / entry.vectors} has no index_metadata.pickle: its vectors are gone" if gone else None
    )
    return documents, places, lost


def _reader(database: ForeignDatabase, files: VectorFiles | None, places: Rows, dimension: int) -> Any:
    def vectors(rows: Rows) -> FloatMatrix:
        found = np.empty((len(rows), dimension), dtype=np.float32)
        at = places[rows]
        for which in (at >= 0, at < 0):
            if which.any():
                there = files is not None and at[which][0] >= 0
                found[which] = (
                    files.vectors(at[which])
                    if files is not None and there
                    else read_log_vectors(database, -at[which], dimension)
                )
        return found

    return vectors


def _has_text(metadata: dict[str, Any]) -> bool:
    text = metadata.get(_DOCUMENT)
    return type(text) is str and bool(text.strip())


def _chunk(key: str, metadata: dict[str, Any], conversion: Conversion) -> Chunk:
    text, uri = metadata.pop(_DOCUMENT, None), metadata.pop(_URI, None)
    if type(text) is not str:
        conversion.note("(text)", "no document", "an empty text")
        text = ""
    if uri is not None and "uri" not in metadata:
        conversion.note("(uri)", "a URI", "the field uri")
        metadata["uri"] = uri
    return Chunk(conversion.to_text(key, "(id)"), conversion.to_text(text, "(text)"), conversion.to_metadata(metadata))
