"""The metadata that a run gives to all chunks: what the caller says, and what the scope of the collection demands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reperio.collection.handle.scope import Scope
from reperio.errors import InvalidInput
from reperio.filters import holds_wholly, to_dict
from reperio.filters.readings import conditions
from reperio.ingestion.reading.items import TAKEN
from reperio.strict_json import NotKept, encode_object


def to_metadata(given: Any) -> Mapping[str, Any] | None:
    """Return metadata that can be kept.

    Raises:
        InvalidInput: it cannot, or has a name that ingestion gives itself.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InvalidInput(f"metadata is {given!r:.80}; pass a dictionary such as {{'team': 'sales'}}")
    for taken in TAKEN:
        if taken in given:
            raise InvalidInput(f"metadata has {taken!r}, which ingestion sets itself; choose another name")
    try:
        encode_object(dict(given))
    except NotKept as complaint:
        raise InvalidInput(f"metadata{complaint}") from None
    return dict(given)


def require_within(scope: Scope, given: Mapping[str, Any] | None, fixed: Mapping[str, Any]) -> None:
    """Refuse metadata by which every chunk would lie outside the scope, before it is recorded for later runs.

    Args:
        scope: of the handle.
        given: by the caller.
        fixed: from `fixed_by`, for that scope.

    Raises:
        InvalidInput: naming the field, or the scope.
    """
    if scope.tree is None or not given:
        return
    for key, value in fixed.items():
        if key in given and given[key] != value:
            raise InvalidInput(
                f"metadata (--metadata) has {key!r} as {given[key]!r:.80}, and the scope of this handle demands "
                f"{value!r:.80}; leave it out, since the scope gives it to every chunk, or open another scope"
            )
    metadata = {**given, **fixed}
    named = {condition.path[0] for condition in conditions(scope.tree)}
    if named <= metadata.keys() and not holds_wholly(scope.tree, metadata):
        raise InvalidInput(
            f"metadata (--metadata) lies outside the scope of this handle, {to_dict(scope.tree)}; give what matches, "
            "or open another scope"
        )


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
