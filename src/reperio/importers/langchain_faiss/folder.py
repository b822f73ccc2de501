"""Read what LangChain's ``FAISS.save_local`` wrote: two files, one of them a pickle, joined by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reperio import index, layout
from reperio.errors import InvalidInput
from reperio.importers.conversion import DROPPED, Conversion
from reperio.importers.matching import places_of
from reperio.importers.pickles import MAX_BYTES, Instance, Name, read_pickle, shown
from reperio.importers.reading import read_file, to_integer
from reperio.importers.stand_ins import PLAIN_NAMES
from reperio.importers.storing import ForeignContent
from reperio.index import ForeignIndex
from reperio.types import Chunk

# Wherever they have been defined: the name in a pickle is that of the defining module, in the version that wrote it.
_CORE = ("langchain_core.documents", "langchain_core.documents.base")
_SCHEMA = ("langchain.docstore.document", "langchain.schema", "langchain.schema.document")
_STORES = ("langchain", "langchain_classic", "langchain_community")
DOCUMENTS = frozenset(Name(each, "Document") for each in (*_CORE, *_SCHEMA, "langchain_community.docstore.document"))
DOCSTORES = frozenset(Name(f"{each}.docstore.in_memory", "InMemoryDocstore") for each in _STORES)
ALLOWED = DOCUMENTS | DOCSTORES | PLAIN_NAMES
"""All that the pickle may name."""

_SAYS_NOTHING = {"type": "Document", "lookup_str": "", "lookup_index": 0}
_EXPANSION = 64  # characters that one byte of a pickle may come to, on average, in addition to...
_EXPANSION_LEAST = 64 << 20  # ...this many for all of it


def read_folder(folder: Path, name: str) -> ForeignContent:
    """Read and check a folder as passed to ``save_local``, with its ``index_name``; nothing in it is executed."""
    if not name or Path(name).name != name or "\0" in name:
        raise InvalidInput(f"index_name is {name!r}; it is the name of the two files in the folder, without .faiss")
    vectors, documents = folder / f"{name}.faiss", folder / f"{name}.pkl"
    layout.require_path(folder)
    missing = [path.name for path in (vectors, documents) if not layout.is_there(path)]
    if missing:
        # Most often the folder is right and the name of its files is another.
        there = sorted(path.stem for path in folder.glob("*.faiss")) if folder.is_dir() else []
        hint = f"; index_name could be {', '.join(map(repr, there[:5]))}" if there else ""
        raise InvalidInput(
            f"{folder} has no {' and no '.join(missing)}: it is not what LangChain's FAISS.save_local has written{hint}"
        )
    docstore, positions = _unpickled(documents)
    return _matched(docstore, positions, index.read_foreign(vectors), documents)


def _unpickled(path: Path) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Return the documents by id, and the ids by number of their vector."""
    held = read_pickle(read_file(path, MAX_BYTES), allowed=ALLOWED, where=str(path))
    try:
        docstore, positions = held
        found = docstore.state["_dict"]
        if docstore.made_by not in DOCSTORES or type(found) is not dict or type(positions) is not dict:
            raise TypeError
    except (TypeError, ValueError, KeyError, AttributeError):
        raise InvalidInput(
            f"{path} holds something else than LangChain's FAISS.save_local writes: an InMemoryDocstore, and the ids "
            "by the numbers of their vectors"
        ) from None
    return found, positions


def _matched(
    docstore: Mapping[Any, Any], positions: Mapping[Any, Any], vectors: ForeignIndex, path: Path
) -> ForeignContent:
    """Bring documents and vectors together."""
    conversion = Conversion(_EXPANSION_LEAST + _EXPANSION * path.stat().st_size, str(path))
    documents = {_id(key, path): value for key, value in docstore.items()}
    for _ in range(sum(type(key) is not str for key in docstore)):
        conversion.note("(id)", "int", "string")
    # LangChain keeps both, a collection one: which of them, the user decides.
    if len(documents) < len(docstore):
        raise InvalidInput(f"{path} has documents with the ids 1 and '1', or the like, which are one as a string")
    places: dict[str, int] = {}
    claimed = np.zeros(len(vectors.numbers), dtype=bool)
    duplicates: dict[str, None] = {}
    asked = sorted((_number(number, path), _id(key, path)) for number, key in positions.items())
    for place, (_, key) in zip(places_of([number for number, _ in asked], vectors.numbers), asked, strict=True):
        if place >= 0 and key in documents:
            claimed[place] = True
            if key in places:
                duplicates[key] = None
            places[key] = place
    if vectors.lost is not None:  # what takes the place of its vectors needs a text
        places = {key: place for key, place in places.items() if _has_text(documents[key])}
    kept = [key for key in documents if key in places]
    at = np.array([places[key] for key in kept], dtype=np.int64)
    return ForeignContent(
        what="the folder",
        kind=vectors.kind,
        dimension=vectors.dimension,
        metric=vectors.metric,
        documents=len(documents),
        chunks=[_chunk(key, documents[key], conversion, path) for key in kept],
        vectors=lambda rows: vectors.vectors(at[rows]),
        lost=vectors.lost,
        without_vector=tuple(key for key in documents if key not in places),
        without_document=tuple(vectors.numbers[~claimed].tolist()),
        duplicates=tuple(duplicates),
        changed=conversion.changed,
    )


def _number(number: Any, path: Path) -> int:
    if type(number) is not int or to_integer(number) is None:
        raise InvalidInput(f"{path} knows a vector by {shown(number)}, which is no integer of 64 bits")
    return number


def _id(key: Any, path: Path) -> str:
    if type(key) is int and key.bit_length() < 128:
        return str(key)
    if type(key) is str and key and not any("\ud800" <= character <= "\udfff" for character in key):
        return key
    raise InvalidInput(f"{path} has a document with the id {shown(key)}; an id is a non-empty string")


def _chunk(chunk_id: str, document: Any, conversion: Conversion, path: Path) -> Chunk:
    fields = _fields(document)
    text, metadata = fields.pop("page_content", None), fields.pop("metadata", None)
    if type(text) is not str or not (metadata is None or type(metadata) is dict):
        raise InvalidInput(f"{path}: document {chunk_id!r:.80} is no Document with a text and a dictionary of metadata")
    # The id in the store is the one that LangChain finds it by.
    if fields.pop("id", None) not in (None, chunk_id):
        conversion.note("(document)", "an id of its own, next to that in the store", DROPPED)
    for name, value in fields.items():
        if _SAYS_NOTHING.get(name, _SAYS_NOTHING) != value:
            conversion.note("(document)", f"the field {name if type(name) is str else shown(name):.40}", DROPPED)
    return Chunk(chunk_id, conversion.to_text(text, "(text)"), conversion.to_metadata(metadata or {}))


def _has_text(document: Any) -> bool:
    text = _fields(document).get("page_content")
    return type(text) is not str or bool(text.strip())  # what is no text is refused elsewhere, by its id


def _fields(document: Any) -> dict[Any, Any]:
    """Return the attributes of a document, whichever version of pydantic, or none, has made it."""
    if type(document) is not Instance or document.made_by not in DOCUMENTS or type(document.state) is not dict:
        return {}
    inner = document.state.get("__dict__", document.state)
    return dict(inner) if type(inner) is dict else {}
