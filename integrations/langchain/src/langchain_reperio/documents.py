"""LangChain's documents to chunks, and back."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from reperio import Chunk, Hit
from reperio.errors import InvalidInput


def to_chunks(
    texts: Iterable[str],
    metadatas: Sequence[Mapping[str, Any] | None] | None,
    ids: Sequence[str | None] | None,
) -> list[Chunk]:
    """Return one chunk per text. A text without an id gets a random UUID.

    The id is the chunk's own, and the metadata the chunk's own, so that a metadata key "id" is a key like any other.
    As LangChain has it, an empty list of metadatas or ids counts as none given.

    Raises:
        InvalidInput: lists of different lengths, or an id that occurs twice: of two documents under one id the first
            would be lost.
    """
    if isinstance(texts, str):
        raise InvalidInput("texts is one string; pass a list of texts")
    found = list(texts)
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given and len(given) != len(found):
            raise InvalidInput(f"{len(found)} texts with {len(given)} {name}; pass exactly one per text, or none")
    named = [str(uuid.uuid4()) if each is None else each for each in (ids or [None] * len(found))]
    _refuse_duplicates(named)
    return [
        Chunk(chunk_id, text, {} if metadata is None else metadata)
        for chunk_id, text, metadata in zip(named, found, metadatas or [None] * len(found), strict=True)
    ]


def _refuse_duplicates(ids: Sequence[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: dict[str, int] = {}
    for position, each in enumerate(ids):
        if each in seen:
            raise InvalidInput(
                f"documents {seen[each]} and {position} have the same id {each!r}; the second would replace the first: "
                "leave one out, or give them different ids"
            )
        seen[each] = position


def from_chunk(chunk: Chunk) -> Document:
    """Return a chunk as a document; its metadata is the caller's own, to be changed at will."""
    return Document(id=chunk.id, page_content=chunk.text, metadata=dict(chunk.metadata))


def from_hit(hit: Hit) -> tuple[Document, float]:
    """Return what was found, and its score, which is not put into the metadata."""
    return from_chunk(hit.chunk), hit.score
