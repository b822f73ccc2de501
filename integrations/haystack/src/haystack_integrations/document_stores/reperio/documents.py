"""Documents to chunks and back, whole.

A chunk has the document's id, its content, and its meta as it is, so that every other way into the collection (the
command line, another framework, the gate) sees plain fields. Whatever else a document is lies in one reserved field:

    {"lang": "en", …, "_haystack": {"norm": 2.5, "no_vector": true, "no_content": true, "blob": {…}, "sparse": {…}}}

A user's key of that very name is moved inside, under "own". Without anything to say, the field is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from reperio import Chunk, Hit
from reperio.filters import Condition, Filter, Operator

RESERVED = "_haystack"
"""The metadata field that holds what a document is besides its id, content and meta."""

HAS_VECTOR: Filter = ~Condition((RESERVED, "no_vector"), Operator.EQ, True)
"""Matches the documents that have an embedding of their own."""

HAS_CONTENT: Filter = ~Condition((RESERVED, "no_content"), Operator.EQ, True)
"""Matches the documents that have a text."""

_LENGTH_ONE = 1e-6


def to_chunk(document: Document) -> Chunk:
    """Return the chunk that keeps *document*, without its embedding."""
    own: dict[str, Any] = {}
    metadata = dict(document.meta)
    if RESERVED in metadata:
        own["own"] = metadata.pop(RESERVED)
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
    return Chunk(document.id, document.content or "", {**metadata, RESERVED: own} if own else metadata)


def to_vector(document: Document, dimension: int) -> Sequence[float]:
    """Return the vector that is stored for *document*: one that stands for none where it has no embedding."""
    return [1.0] + [0.0] * (dimension - 1) if document.embedding is None else document.embedding


def from_chunk(chunk: Chunk, vector: npt.NDArray[np.float32] | None = None, *, unit: bool = False) -> Document:
    """Return the document that a chunk keeps.

    Args:
        chunk: a chunk, whoever added it.
        vector: the vector that is stored for it; None to leave the embedding out.
        unit: the collection keeps vectors at length 1.
    """
    metadata = dict(chunk.metadata)
    own = metadata.pop(RESERVED, None)
    known: Mapping[str, Any] = own if isinstance(own, dict) else {}
    if "own" in known:
        metadata[RESERVED] = known["own"]
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
