"""Noticing a document that is inserted twice, under other node ids, by an index that does not know the collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from reperio import Chunk, Collection
from reperio.errors import warn_caller

from llama_index.vector_stores.reperio.conversion.documents import RESERVED
from llama_index.vector_stores.reperio.conversion.filters import of_documents

_BLOCK = 1000  # documents asked for at once

_Place: TypeAlias = tuple[Any, ...]


def warn_of_repetition(collection: Collection, chunks: Sequence[Chunk]) -> None:
    """Warn of chunks that are about to be stored, and are there already under other ids."""
    twice = repeated(collection, chunks)
    if twice:
        warn_caller(
            f"{len(twice)} nodes, of document {twice[0]!r} among others, are stored already under other ids, and now a "
            "second time: this index does not know the collection. Delete the document first, or make the index with "
            "storage_context=store.storage_context(), whose refresh_ref_docs and update_ref_doc do so"
        )


def repeated(collection: Collection, chunks: Sequence[Chunk]) -> list[str]:
    """Return, per chunk about to be stored that is there under another id, its document.

    The same is what has the same text, at the same place of the same document. Parts of one document may come in
    several calls, and a heading may occur in it twice, without being taken for it.
    """
    given = {chunk.id for chunk in chunks}
    documents = list(dict.fromkeys(chunk.metadata[RESERVED]["doc_id"] for chunk in chunks))
    stored: dict[_Place, str] = {}
    for first in range(0, len(documents), _BLOCK):
        for chunk in collection.get(where=of_documents(documents[first : first + _BLOCK])):
            if chunk.id not in given:
                stored[_place(chunk)] = chunk.id
    return [chunk.metadata[RESERVED]["doc_id"] for chunk in chunks if stored and _place(chunk) in stored]


def _place(chunk: Chunk) -> _Place:
    own = chunk.metadata[RESERVED]
    return own["doc_id"], own["node"].get("start_char_idx"), chunk.text
