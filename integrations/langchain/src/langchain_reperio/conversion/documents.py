"""LangChain's documents to chunks, and back."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document
from reperio import Chunk, Hit
from reperio.arguments import is_iterable
from reperio.errors import InvalidInput, warn_caller

from langchain_reperio.conversion.values import to_json

OnBlank: TypeAlias = Literal["skip", "error"]
"""The ways to deal with texts in which there is nothing: leave them out with a warning, or refuse the call."""

_DERIVED = uuid.UUID("5f3b0f4e-1d0b-5c57-9a54-0d7e2f6b8a11")  # namespace of the ids made of texts
_PLACES = ("source", "file_path", "page", "page_label", "title", "url")  # what loaders say of where a text is from
_TOLD = 5  # blank texts that a message names


def to_chunks(
    texts: Iterable[str],
    metadatas: Sequence[Mapping[str, Any] | None] | None,
    ids: Sequence[str | None] | None,
    *,
    derive_ids: bool = False,
) -> list[Chunk]:
    """Return one chunk per text. A text without an id gets a random UUID, or one made of it.

    The id is the chunk's own, and the metadata the chunk's own, so that a metadata key "id" is a key like any other.
    As LangChain has it, an empty list of metadatas or ids counts as none given.

    Args:
        texts: of the documents.
        metadatas: one per text; `values` says what becomes of what JSON cannot keep.
        ids: one per text.
        derive_ids: make missing ids of text and metadata, so that the same document gets the same one again.

    Raises:
        InvalidInput: lists of different lengths, or an id that occurs twice: of two documents under one id the first
            would be lost.
    """
    if isinstance(texts, str) or not is_iterable(texts):
        raise InvalidInput(f"texts is {_single(texts)}; pass a list of texts")
    if isinstance(ids, str):
        raise InvalidInput("ids is one string, of which each letter would be an id; pass a list of ids")
    found = list(texts)
    for name, given in (("metadatas", metadatas), ("ids", ids)):
        if given and len(given) != len(found):
            raise InvalidInput(f"{len(found)} texts with {len(given)} {name}; pass exactly one per text, or none")
    kept = [{} if each is None else to_json(each) for each in (metadatas or [None] * len(found))]
    given_ids = ids or [None] * len(found)
    made = _derived(found, kept) if derive_ids else [str(uuid.uuid4()) if each is None else "" for each in given_ids]
    named = [fresh if each is None else each for each, fresh in zip(given_ids, made, strict=True)]
    _refuse_duplicates(named)
    return [Chunk(*each) for each in zip(named, found, kept, strict=True)]


def _single(value: object) -> str:
    return "one string" if isinstance(value, str) else f"a {type(value).__name__}"


def without_blanks(chunks: list[Chunk], on_blank: OnBlank) -> list[Chunk]:
    """Return the chunks whose text can be embedded.

    Args:
        chunks: of one call.
        on_blank: what to do about the others.

    Raises:
        InvalidInput: there are others, and *on_blank* is "error"; their positions and sources are named.

    Warns:
        ReperioWarning: there are others, and *on_blank* is "skip"; likewise.
    """
    if on_blank not in ("skip", "error"):
        raise InvalidInput(f"on_blank is {on_blank!r}; choose 'skip' or 'error'")
    blank = [at for at, chunk in enumerate(chunks) if isinstance(chunk.text, str) and not chunk.text.strip()]
    if not blank:
        return chunks
    named = ", ".join(_place(at, chunks[at]) for at in blank[:_TOLD]) + (", …" if len(blank) > _TOLD else "")
    told = f"{len(blank)} of {len(chunks)} texts {'is' if len(blank) == 1 else 'are'} blank ({named})"
    if on_blank == "error":
        raise InvalidInput(f"{told}, and nothing of this call is stored; leave them out, or pass on_blank='skip'")
    warn_caller(f"{told}, and left out, as nothing can be found by them; on_blank='error' refuses them instead")
    left_out = set(blank)
    return [chunk for at, chunk in enumerate(chunks) if at not in left_out]


def _place(at: int, chunk: Chunk) -> str:
    told = [f"{key} {chunk.metadata[key]!r:.80}" for key in _PLACES if chunk.metadata.get(key) is not None]
    return " ".join([f"position {at}", *told])


def _derived(texts: Sequence[str], metadatas: Sequence[Any]) -> list[str]:
    """Return an id per text, made of text and metadata; equal ones are numbered in their order."""
    seen: Counter[str] = Counter()
    found = []
    for text, metadata in zip(texts, metadatas, strict=True):
        content = json.dumps([text, metadata], sort_keys=True, default=str)
        found.append(str(uuid.uuid5(_DERIVED, f"{seen[content]}:{content}")))
        seen[content] += 1
    return found


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
