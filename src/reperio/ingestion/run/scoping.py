"""The metadata that a run gives to all chunks: what the caller says, and what the scope of the collection demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reperio.errors import InvalidInput
from reperio.strict_json import NotKept, encode_object
from reperio.types import CONTEXT_FIELD


def to_metadata(given: Any) -> Mapping[str, Any] | None:
    """Return metadata that can be kept.

    Raises:
        InvalidInput: it cannot, or has a name that ingestion gives itself.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InvalidInput(f"metadata is {given!r:.80}; pass a dictionary such as {{'team': 'sales'}}")
    for taken in ("source", "start", CONTEXT_FIELD):
        if taken in given:
            raise InvalidInput(f"metadata has {taken!r}, which ingestion sets itself; choose another name")
    try:
        encode_object(dict(given))
    except NotKept as complaint:
        raise InvalidInput(f"metadata{complaint}") from None
    return dict(given)


def fixed_by(scope: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields that a scope demands to have one value: whatever is ingested through it gets them."""
    fixed: dict[str, Any] = {}
    for key, value in (scope or {}).items():
        if key == "$and":
            for part in value:
                fixed |= fixed_by(part)
        elif not key.startswith("$") and "." not in key:
            if isinstance(value, Mapping):
                value = value.get("$eq")
            if isinstance(value, (str, int, float, bool)) and key not in ("source", "start"):
                fixed[key] = value
    return fixed
