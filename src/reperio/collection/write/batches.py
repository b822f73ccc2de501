"""Cut an iterable of any length, and the vectors that come with it, into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

import numpy as np

from reperio.arguments import is_iterable
from reperio.errors import InvalidChunk, InvalidVectors
from reperio.types import Chunk

MOST_CHARACTERS = 1 << 25
"""Characters of the texts of one batch from which on it is full: it is held in memory, and copied there."""


def batches(chunks: Iterable[Chunk], vectors: Any | None, size: int) -> Iterator[tuple[list[Chunk], Any | None]]:
    """Yield (chunks, vectors) of up to *size* each, or `MOST_CHARACTERS`; vectors are None when there are none.

    Args:
        chunks: any iterable; it is never held whole.
        vectors: anything with a length that can be sliced, shape (n, d), or an iterable of vectors.
        size: at least 1.

    Raises:
        InvalidVectors: there are more or fewer vectors than chunks. Known lengths are compared before the first batch.
    """
    if type(chunks) is not list and (isinstance(chunks, (Chunk, str, bytes, Mapping)) or not is_iterable(chunks)):
        raise InvalidChunk(f"chunks is one {type(chunks).__name__}; pass a list, or any iterable, of Chunk")
    if vectors is not None and not (isinstance(vectors, np.ndarray) and vectors.ndim):
        vectors = _in_order(vectors)
    sliceable = hasattr(vectors, "__len__") and hasattr(vectors, "__getitem__")
    if sliceable and hasattr(chunks, "__len__") and len(vectors) != len(chunks):  # type: ignore[arg-type]  # just asked
        raise InvalidVectors(_mismatch(str(len(chunks)), str(len(vectors))))  # type: ignore[arg-type]  # likewise
    source = iter(chunks)
    rows = None if sliceable or vectors is None else iter(vectors)
    done = 0
    while batch := _taken(source, size):
        part: Any | None = None
        if vectors is not None:
            part = list(islice(rows, len(batch))) if rows is not None else vectors[done : done + len(batch)]
            if len(part) != len(batch):
                raise InvalidVectors(_mismatch(f"at least {done + len(batch)}", str(done + len(part))))
        done += len(batch)
        yield batch, part
    left_over = (
        len(vectors) > done  # type: ignore[arg-type]  # likewise
        if sliceable
        else rows is not None and next(rows, None) is not None
    )
    if left_over:
        raise InvalidVectors(_mismatch(str(done), "more"))


def _in_order(vectors: Any) -> Any:
    """Refuse what does not say whose vector each is; read whole what can be neither cut nor gone through."""
    if isinstance(vectors, (str, bytes, bytearray, Mapping, AbstractSet)):
        raise InvalidVectors(f"vectors is a {type(vectors).__name__}; pass a list of vectors, or an array (n, d)")
    if hasattr(vectors, "__array__") and not hasattr(vectors, "__getitem__"):
        vectors = np.asarray(vectors)
    if not is_iterable(vectors):
        raise InvalidVectors(f"vectors is a {type(vectors).__name__}; pass a list of vectors, or an array (n, d)")
    return vectors


def _taken(source: Iterator[Chunk], size: int) -> list[Chunk]:
    batch: list[Chunk] = []
    characters = 0
    for chunk in islice(source, size):
        batch.append(chunk)
        try:
            characters += len(chunk.text)
        except (AttributeError, TypeError):
            continue  # what is no chunk, or has no text, is refused later, by its number
        if characters >= MOST_CHARACTERS:
            break
    return batch


def _mismatch(chunks: str, vectors: str) -> str:
    return f"{chunks} chunks, {vectors} vectors; pass exactly one vector per chunk"
