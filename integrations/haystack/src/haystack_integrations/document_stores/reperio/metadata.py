"""What a document store tells of the fields of its documents' meta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reperio import Chunk
from reperio.errors import InvalidInput

from haystack_integrations.document_stores.reperio.documents import RESERVED
from haystack_integrations.document_stores.reperio.filters import of_meta

_TYPES = {bool: "boolean", int: "long", float: "double", str: "keyword", list: "array", dict: "object"}


def values_of(chunks: Iterable[Chunk], field: str) -> list[Any]:
    """Return the distinct values of a field, in the order in which they are met: 1, 1.0, True and "1" are four."""
    path = of_meta(field)
    found: dict[tuple[type, str], Any] = {}
    for chunk in chunks:
        value: Any = chunk.metadata
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found.setdefault((type(value), repr(value)), value)
    return list(found.values())


def page_of(values: list[Any], search_term: str | None, first: int, size: int) -> tuple[list[Any], int]:
    """Return a page of values in a stable order, and how many there are of which the text contains *search_term*."""
    if not (type(first) is int and type(size) is int and first >= 0 and size >= 0):
        raise InvalidInput(f"from_ is {first!r:.40}, size {size!r:.40}; both are integers from 0 on")
    if search_term is not None and not isinstance(search_term, str):
        raise InvalidInput(f"search_term is {search_term!r:.60}; it is a text, or None")
    if search_term is not None:
        values = [value for value in values if search_term.casefold() in str(value).casefold()]
    ordered = sorted(values, key=lambda value: (str(value), type(value).__name__))
    return ordered[first : first + size], len(ordered)


def range_of(values: list[Any]) -> dict[str, Any]:
    """Return the least and the greatest of the numbers among values; of the texts where there are no numbers."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    compared: list[Any] = numbers or [value for value in values if isinstance(value, str)]
    return {"min": min(compared, default=None), "max": max(compared, default=None)}


def types_of(chunks: Iterable[Chunk]) -> dict[str, dict[str, str]]:
    """Return the type of each field, by the value in which it was met first."""
    found: dict[str, dict[str, str]] = {}
    for chunk in chunks:
        for name, value in chunk.metadata.items():
            if name != RESERVED and value is not None:
                found.setdefault(name, {"type": _TYPES.get(type(value), "object")})
    return found
