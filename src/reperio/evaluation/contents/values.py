"""Describe metadata values: their type, how they are written, and which source they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from reperio.filters import join_path

DEPTH = 4
"""Levels of nested metadata that are looked at."""

_LONGEST = 64  # characters of a value that is kept; longer ones by their beginning
_SHAPED = 24  # characters of a value whose every character class is told; of a longer one only the case
_TYPES = {str: "text", int: "number", float: "number", bool: "true or false", type(None): "null", list: "list"}
_UPPER, _LOWER, _DIGITS = re.compile(r"[^\W\d_a-z]+"), re.compile(r"[a-z]+"), re.compile(r"\d+")
_WORDS = re.compile(r"\s+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?", re.IGNORECASE)


def type_of(kind: type) -> str:
    """Return the name of a type of values, as people call it."""
    return _TYPES.get(kind, kind.__name__)


def key_of(value: Any) -> str:
    """Return a value as it is kept: as JSON, which tells 7 from "7"; a long one by its beginning and length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)})"


def shape_of(value: Any) -> str:
    """Return how a value is written: letters as A or a, digits as 0, the rest as it is; of a number its size."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        digits = len(str(abs(int(value)))) if abs(value) < 1e15 else 16
        return f"{'-' if value < 0 else ''}{digits} digits"
    text = str(value)
    if not text.strip():
        return "empty"
    if len(text) > _SHAPED or " " in text.strip():
        case = "upper" if text.isupper() else "lower" if text.islower() else "mixed"
        return f"{case} case, {'long' if len(text) > 10 * _SHAPED else 'short'}"
    return _DIGITS.sub("0", _LOWER.sub("a", _UPPER.sub("A", text)))


def plain(key: str) -> str:
    """Return a kept value without what only its spelling adds: case, spaces and quotes."""
    return _WORDS.sub("", key.strip('"')).casefold()


@lru_cache(maxsize=65536)
def source_of(value: str | int, depth: int) -> str:
    """Return the source that a value names: the host of an address, the first *depth* parts of a path, or itself."""
    text = str(value)
    address = _SCHEME.match(text)
    parts = [part for part in text[address.end() if address else 0 :].replace("\\", "/").split("/") if part]
    if len(parts) <= 1:
        return text[:_LONGEST] if not address else "".join(parts)[:_LONGEST]
    return "/".join(parts[:depth])[:_LONGEST]


def value_at(metadata: Mapping[str, Any], steps: tuple[str, ...]) -> Any:
    """Return the value at a path; None where there is none."""
    value: Any = metadata
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def walk(metadata: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every field with its value; of nested metadata also what is inside, by its path."""
    for name, value in metadata.items():
        if name:
            yield _joined(above, name), value
            if type(value) is dict and len(above) + 1 < DEPTH:
                yield from walk(value, (*above, name))


@lru_cache(maxsize=4096)
def _joined(above: tuple[str, ...], name: str) -> str:
    return join_path((*above, name))
