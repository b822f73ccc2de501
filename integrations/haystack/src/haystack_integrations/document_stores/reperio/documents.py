"""Documents to chunks and back, whole.

A chunk has the document's id, its content, and its meta as it is, so that every other way into the collection (the
command line, another framework, the gate) sees plain fields. Whatever else a document is lies in one reserved field:

    {"lang": "en", …, "_haystack": {"norm": 2.5, "no_vector": true, "no_content": true, "blob": {…}, "sparse": {…}}}

A user's key of that very name is moved inside, under "own". Without anything to say, the field is left out. Where
another program has stored something else under that name, it is a field of meta like any other.

Each chunk needs a vector. That of a document without an embedding is [1, 0, …], and the field says so.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from reperio import Chunk, CollectionInfo, Hit
from reperio.errors import InvalidVectors
from reperio.filters import Condition, Filter, Operator
from reperio.vectors import to_matrix, to_stored

RESERVED = "_haystack"
"""The metadata field that holds what a document is besides its id, content and meta."""

HAS_VECTOR: Filter = ~Condition((RESERVED, "no_vector"), Operator.EQ, True)
"""Matches the documents that have an embedding of their own: ``collection.search(vector=…, where=HAS_VECTOR)``."""

HAS_CONTENT: Filter = ~Condition((RESERVED, "no_content"), Operator.EQ, True)
"""Matches the documents that have a text."""

_LENGTH_ONE = 1e-6


def to_chunk(document: Document) -> Chunk:
    """Return the chunk that keeps *document*, without its embedding."""
    own: dict[str, Any] = {}
    if document.content is None:
        own["no_content"] = True
    if document.embedding is None:
        own["no_vector"] = True
    elif abs((norm := float(np.linalg.norm(np.asarray(document.embedding, dtype=np.float64)))) - 1) > _LENGTH_ONE:
        own["norm"] = norm  # under cosine, a collection keeps directions
    if document.blob is not None:
        own["blob"] = {
            "data": base64.b64encode(document.blob.data).decode(),
            "meta": document.blob.meta,
            "mime_type": document.blob.mime_type,
        }
    if document.sparse_embedding is not None:
        own["sparse"] = document.sparse_embedding.to_dict()
    return Chunk(document.id, document.content or "", _joined(document.meta, own))


def with_meta(chunk: Chunk, meta: Mapping[str, Any]) -> Chunk:
    """Return the chunk with fields of meta set; whatever else the document is stays."""
    old, own = _split(chunk.metadata)
    return Chunk(chunk.id, chunk.text, _joined({**old, **meta}, own))


def _joined(meta: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a chunk: a document's meta, and whatever else it is."""
    metadata, kept = dict(meta), dict(own)
    if RESERVED in metadata:
        kept["own"] = metadata.pop(RESERVED)
    return {**metadata, RESERVED: kept} if kept else metadata


def _split(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a document's meta, and whatever else it is: what `_joined` was given."""
    meta = dict(metadata)
    if not _is_ours(meta.get(RESERVED)):
        return meta, {}
    own = dict(meta.pop(RESERVED))
    if "own" in own:
        meta[RESERVED] = own.pop("own")
    return meta, own


def _is_ours(value: Any) -> bool:
    """Say whether the reserved field holds what `to_chunk` writes: other programs may store anything under its name."""
    return (
        isinstance(value, dict) and bool(value) and all(name in _KINDS and _KINDS[name](value[name]) for name in value)
    )


def _is_blob(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"data", "meta", "mime_type"}:
        return False
    try:
        base64.b64decode(value["data"], validate=True)
    except (TypeError, ValueError):
        return False
    return isinstance(value["meta"], dict) and isinstance(value["mime_type"], str | None)


def _is_sparse(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"indices", "values"}:
        return False
    indices, values = value["indices"], value["values"]
    return (
        isinstance(indices, list)
        and isinstance(values, list)
        and len(indices) == len(values)
        and all(isinstance(each, (int, float)) for each in [*indices, *values])
    )


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 and np.isfinite(value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "own": lambda _: True,
    "no_content": lambda value: value is True,
    "no_vector": lambda value: value is True,
    "norm": _is_length,
    "blob": _is_blob,
    "sparse": _is_sparse,
}


def to_vector(document: Document, dimension: int) -> Sequence[float]:
    """Return the vector that is stored for *document*: one that stands for none where it has no embedding."""
    return [1.0] + [0.0] * (dimension - 1) if document.embedding is None else document.embedding


def to_vectors(documents: Sequence[Document], kept: CollectionInfo) -> list[Sequence[float]]:
    """Return the vectors that are stored for documents.

    Args:
        documents: all that are stored by one call.
        kept: how the collection keeps vectors.

    Raises:
        InvalidVectors: an embedding that cannot be stored, with the id of its document.
    """
    vectors = [to_vector(document, kept.dimension) for document in documents]
    try:
        _require_vectors(vectors, kept, "embeddings")
    except InvalidVectors:
        for document, vector in zip(documents, vectors, strict=True):
            _require_vectors([vector], kept, f"document {document.id!r:.80}: embedding")
        raise
    return vectors


def _require_vectors(vectors: Sequence[Sequence[float]], kept: CollectionInfo, what: str) -> None:
    matrix = to_matrix(vectors, dimension=kept.dimension, metric=kept.metric, what=what)
    to_stored(matrix, "float16" if kept.dtype == "float16" else "float32", what=what)


def from_chunk(chunk: Chunk, vector: npt.NDArray[np.float32] | None = None, *, unit: bool = False) -> Document:
    """Return the document that a chunk keeps.

    Args:
        chunk: a chunk, whoever added it.
        vector: the vector that is stored for it; None to leave the embedding out.
        unit: the collection keeps vectors at length 1.
    """
    metadata, known = _split(chunk.metadata)
    embedding: list[float] | None = None
    if vector is not None and not known.get("no_vector"):
        scale = known.get("norm", 1.0) if unit else 1.0
        embedding = [float(value) for value in vector.astype(np.float64) * scale]
    blob, sparse = known.get("blob"), known.get("sparse")
    return Document(
        id=chunk.id,
        content=None if known.get("no_content") else chunk.text,
        blob=blob and ByteStream(base64.b64decode(blob["data"]), blob["meta"], blob["mime_type"]),
        meta=metadata,
        embedding=embedding,
        sparse_embedding=sparse and SparseEmbedding.from_dict(sparse),
    )


def from_hit(hit: Hit) -> Document:
    """Return the document of a hit with its score, without its embedding."""
    return replace(from_chunk(hit.chunk), score=float(hit.score))
