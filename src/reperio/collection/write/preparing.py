"""Prepare chunks for the store: check them, compare them with what is there, and embed what is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from reperio.embedding.contract import Settings, embed
from reperio.embedding.passages import stored_passage
from reperio.errors import InvalidChunk, InvalidInput
from reperio.store import NewChunk, Store, StoredChunk, is_intact
from reperio.strict_json import NotKept, encode_object
from reperio.types import AddResult, Chunk, Embedder, Limits
from reperio.vectors import StoredMatrix, to_stored


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for `Store.put`, and what it amounts to."""

    chunks: list[NewChunk]
    matrix: StoredMatrix
    replaced: list[int]
    result: AddResult


def check_chunks(chunks: Sequence[Chunk], first: int) -> list[NewChunk]:
    """Check a batch; *first* is the number of its first chunk in the whole input, for messages.

    Raises:
        InvalidChunk: a chunk cannot be stored; the message names it and the cure.
    """
    try:
        checked = [
            # The common case in place: a thousand calls to say that nothing is wrong are a tenth of what a batch costs.
            NewChunk(chunk.id, chunk.text, encode_object(chunk.metadata))
            if type(chunk) is Chunk
            and type(chunk.id) is str
            and type(chunk.text) is str
            and type(chunk.metadata) is dict
            and chunk.id
            and chunk.id.isascii()
            and chunk.text.isascii()
            else _checked(chunk, number)
            for number, chunk in enumerate(chunks, start=first)
        ]
    except NotKept:  # which says nothing of the chunk: the slow way names it
        checked = [_checked(chunk, number) for number, chunk in enumerate(chunks, start=first)]
    if len({chunk.id for chunk in checked}) < len(checked):
        _refuse_duplicate(checked, first)
    return checked


def require_sizes(chunks: Sequence[NewChunk], limits: Limits) -> None:
    """Refuse a chunk whose text or metadata is beyond the limits.

    Raises:
        InvalidChunk: with the chunk, its size and how the limit is raised.
    """
    for chunk in chunks:
        if len(chunk.text) > limits.text or len(chunk.metadata) > limits.metadata:
            name, size, most = ("text", len(chunk.text), limits.text)
            if size <= most:
                name, size, most = ("metadata", len(chunk.metadata), limits.metadata)
            raise InvalidChunk(
                f"chunk {chunk.id!r:.80}: {name} has {size:,} characters; at most {most:,} are allowed: split it, "
                f"or raise the limit with limits=Limits({name}=…)"
            )


def _refuse_duplicate(chunks: Sequence[NewChunk], first: int) -> None:
    seen: dict[str, int] = {}
    for number, chunk in enumerate(chunks, start=first):
        if chunk.id in seen:
            raise InvalidChunk(
                f"chunks {seen[chunk.id]} and {number} of one batch have the same id {chunk.id!r:.80}; ids are unique: "
                "leave one out, or give them different ids"
            )
        seen[chunk.id] = number


@dataclass(frozen=True, slots=True)
class Ahead:
    """Vectors made before the writing began, so that other writers need not wait for a model.

    Attributes:
        embedder: that made them; None where nothing was made.
        vectors: by what was embedded, as stored.
    """

    embedder: Embedder | None = None
    vectors: Mapping[str, StoredMatrix] = field(default_factory=dict)


def embed_ahead(
    chunks: Sequence[NewChunk],
    existing: Mapping[str, StoredChunk],
    *,
    embedder: Embedder | None,
    settings: Settings,
) -> Ahead:
    """Embed the texts of a checked batch that are new or changed.

    Between that and the writing others may write: `prepare` compares again, embeds what is missing by then, and leaves
    what is no longer needed.

    Args:
        chunks: from `check_chunks`.
        existing: what is stored under their ids.
        embedder: None embeds nothing.
        settings: of the collection.
    """
    if embedder is None:
        return Ahead()
    new = [chunk for chunk in chunks if chunk.id not in existing or not _embeds_alike(existing[chunk.id], chunk)]
    made = embed_checked(new, embedder, settings)
    passages = (stored_passage(chunk.text, chunk.metadata) for chunk in new)
    return Ahead(embedder, dict(zip(passages, made, strict=True)))


def prepare(
    chunks: Sequence[NewChunk],
    given: StoredMatrix | None,
    *,
    store: Store,
    embedder: Embedder | None,
    settings: Settings,
    ahead: Ahead | None = None,
) -> Prepared:
    """Compare a checked batch with the store and find a vector for whatever is new.

    Args:
        chunks: from `check_chunks`.
        given: ready vectors as they are stored, one row per chunk; None to embed.
        store: what is there.
        embedder: needed when a text is new and there are no ready vectors.
        settings: of the collection.
        ahead: from `embed_ahead`; of no use where another embedder has taken the place of the one that made them.

    Unchanged text keeps its vector and is not embedded again; a chunk of which nothing changed is left out. A vector
    is unchanged when it rounds to what is stored. Of a chunk that is not whole by its checksum nothing is kept.
    """
    existing = store.existing([chunk.id for chunk in chunks])
    # Only a replaced row's vector is ever looked at, so an empty collection maps nothing.
    stored = store.map(store.state.rows) if existing else np.empty((0, 0), dtype=settings.dtype)
    kept: list[int] = []  # positions in the batch
    carried: dict[int, int] = {}  # position → row whose vector is taken over
    for position, chunk in enumerate(chunks):
        old = existing.get(chunk.id)
        if old is None or not is_intact(old, stored):  # what is damaged is replaced, and nothing of it is taken over
            kept.append(position)
            continue
        same_vector = given is None or np.array_equal(stored[old.row], given[position])
        same_text = old.text == chunk.text
        if same_text and same_vector and _same_json(old.metadata, chunk.metadata):
            continue
        kept.append(position)
        if same_text and given is None and _embeds_alike(old, chunk):
            carried[position] = old.row
    if given is not None:
        matrix, embedded = given if len(kept) == len(given) else given[kept], 0
    else:
        done = ahead.vectors if ahead is not None and ahead.embedder is embedder else {}
        carried_rows = {position: stored[row] for position, row in carried.items()}
        matrix, embedded = _vectors_for(chunks, kept, carried_rows, done, embedder=embedder, settings=settings)
    replaced = [existing[chunks[position].id].row for position in kept if chunks[position].id in existing]
    result = AddResult(
        added=len(kept) - len(replaced),
        updated=len(replaced),
        unchanged=len(chunks) - len(kept),
        embedded=embedded,
    )
    return Prepared([chunks[position] for position in kept], matrix, replaced, result)


def _vectors_for(
    chunks: Sequence[NewChunk],
    kept: list[int],
    carried: Mapping[int, StoredMatrix],
    done: Mapping[str, StoredMatrix],
    *,
    embedder: Embedder | None,
    settings: Settings,
) -> tuple[StoredMatrix, int]:
    """Return one vector per kept chunk, and how many texts were embedded.

    Args:
        chunks: the whole batch.
        kept: positions in it of what is to be stored.
        carried: vectors taken over from older versions, by position.
        done: vectors embedded before, by text.
        embedder: embeds what is missing.
        settings: of the collection.
    """
    rows: dict[int, Any] = dict(carried)
    if done:
        passages = {at: stored_passage(chunks[at].text, chunks[at].metadata) for at in kept if at not in carried}
        rows |= {at: done[text] for at, text in passages.items() if text in done}
    missing = [position for position in kept if position not in rows]
    made = embed_checked([chunks[position] for position in missing], embedder, settings)
    if not rows:
        return made, len(missing)
    rows |= dict(zip(missing, made, strict=True))
    return np.stack([rows[position] for position in kept]), len(kept) - len(carried)


def embed_checked(chunks: Sequence[NewChunk], embedder: Embedder | None, settings: Settings) -> StoredMatrix:
    """Return the vectors of chunks from `check_chunks` as they are stored; refuse one without text.

    Raises:
        InvalidInput: there is no embedder.
        InvalidChunk: there is nothing to embed.
        EmbedderFailed, InvalidVectors: the embedder does not give one vector each.
    """
    if not chunks:
        return np.empty((0, 0), dtype=settings.dtype)
    if embedder is None:
        raise InvalidInput(
            "this collection has no embedder: pass vectors=, or open it with embedder= (a sentence-transformers name, "
            "a local path, or an Embedder)"
        )
    for chunk in chunks:
        if not chunk.text.strip():
            raise InvalidChunk(f"chunk {chunk.id!r} has no text to embed; give it text, or pass vectors=")
    passages = [stored_passage(chunk.text, chunk.metadata) for chunk in chunks]
    made = embed(embedder, passages, settings.metric, queries=False)
    return to_stored(made, settings.dtype, what=f"vectors from {embedder.name}")


def _embeds_alike(old: StoredChunk, new: NewChunk) -> bool:
    """Tell whether the vector of a stored chunk is that of another one with the same id, too."""
    if old.text != new.text:
        return False
    return old.metadata == new.metadata or (
        stored_passage(old.text, old.metadata) == stored_passage(new.text, new.metadata)
    )


def _checked(chunk: Any, number: int) -> NewChunk:
    if type(chunk) is not Chunk and not isinstance(chunk, Chunk):
        raise InvalidChunk(f"chunk {number} is a {type(chunk).__name__}; pass Chunk(id=…, text=…, metadata=…)")
    chunk_id, text = chunk.id, chunk.text
    if not isinstance(chunk_id, str) or not chunk_id:
        raise InvalidChunk(f"chunk {number} has the id {chunk_id!r}; an id is a non-empty string")
    if not isinstance(text, str):
        raise InvalidChunk(f"chunk {chunk_id!r}: text is a {type(text).__name__}; it must be a string")
    if not chunk_id.isascii():
        _require_unicode(chunk_id, "id", chunk_id)
    if not text.isascii():
        _require_unicode(text, "text", chunk_id)
    return NewChunk(chunk_id, text, _to_json(chunk.metadata, chunk_id))


def _require_unicode(value: str, name: str, chunk_id: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidChunk(
            f"chunk {chunk_id!r}: {name} holds a lone surrogate at position {error.start}, which is no Unicode text; "
            "decode the source with errors='replace'"
        ) from None


def _to_json(metadata: Any, chunk_id: str) -> str:
    if not isinstance(metadata, Mapping):
        raise InvalidChunk(
            f"chunk {chunk_id!r}: metadata is a {type(metadata).__name__}; it must be a JSON object, i.e. a dict"
        )
    if not metadata:
        return "{}"
    try:
        return encode_object(metadata if type(metadata) is dict else dict(metadata))
    except NotKept as complaint:
        raise InvalidChunk(f"chunk {chunk_id!r}: metadata{complaint}") from None


def _same_json(left: str, right: str) -> bool:
    """Compare as JSON: the order of keys does not matter, the kind of a number does (1, 1.0 and true differ)."""
    if left == right:
        return True
    sort = orjson.OPT_SORT_KEYS
    return orjson.dumps(orjson.loads(left), option=sort) == orjson.dumps(orjson.loads(right), option=sort)
