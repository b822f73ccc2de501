"""Cut what an agent gets to a number of characters, and say so: an agent's context is small and costs money."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reperio import Chunk
from reperio.printable import harmless

_MOST_METADATA = 2_000  # characters of one chunk's metadata as JSON
_SHORT = 200  # characters of a value that is kept where metadata are cut
_HIDDEN = "embedding_context"  # it repeats what other fields say


def fit(chunks: Sequence[Chunk], characters: int, *, offset: int = 0) -> list[dict[str, Any]]:
    """Return chunks as objects whose texts and metadata share a budget; what is left by short ones goes to the others.

    Args:
        chunks: in the order in which they are shown.
        characters: of texts and metadata, in all; metadata take half of them at most.
        offset: character at which each text begins.
    """
    most = min(_MOST_METADATA, characters // (2 * max(1, len(chunks))))
    shown = [_described(chunk, most) for chunk in chunks]
    left = characters - sum(len(json.dumps(one["metadata"], ensure_ascii=False)) for one in shown)
    texts = [chunk.text[offset:] for chunk in chunks]
    parts = _shares([len(text) for text in texts], left)
    for one, chunk, text, part in zip(shown, chunks, texts, parts, strict=True):
        one["text"] = harmless(text[:part])
        if offset or part < len(text):
            one["characters"] = f"{offset} to {offset + min(part, len(text))} of {len(chunk.text)}"
        if part < len(text):
            one["cut"] = f"call get with this id and offset {offset + part} for the rest"
    return shown


def _shares(lengths: Sequence[int], characters: int) -> list[int]:
    """Return how many characters each text gets: the shortest first, each at most an equal part of what is left."""
    parts = [0] * len(lengths)
    left = characters
    for done, position in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        parts[position] = min(lengths[position], left // (len(lengths) - done))
        left -= parts[position]
    return parts


def _described(chunk: Chunk, most: int) -> dict[str, Any]:
    metadata = {key: value for key, value in chunk.metadata.items() if key != _HIDDEN}
    if len(json.dumps(metadata, ensure_ascii=False)) <= most:
        return {"id": chunk.id, "metadata": clean(metadata)}
    short: dict[str, Any] = {}
    for key, value in metadata.items():
        if len(json.dumps({**short, key: value}, ensure_ascii=False)) <= most and len(str(value)) <= _SHORT:
            short[key] = value
    return {"id": chunk.id, "metadata": clean(short), "metadata_left_out": len(metadata) - len(short)}


def clean(value: Any) -> Any:
    """Return a JSON value with its strings made harmless."""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, Mapping):
        return {harmless(key): clean(each) for key, each in value.items()}
    return [clean(each) for each in value] if isinstance(value, list) else value
