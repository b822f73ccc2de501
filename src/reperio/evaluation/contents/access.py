"""Find the metadata fields that decide who finds what: a value that moves there opens, or hides, a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

_NAMES = (
    "access", "access_level", "acl", "allowed", "allowed_groups", "allowed_users", "audience", "classification",
    "clearance", "confidentiality", "permission", "permissions", "role", "roles", "security", "sensitivity", "tenant",
    "tenant_id", "visibility",
)  # fmt: skip
"""Fields that are taken for such by their name, whether or not a filter uses them."""


class _Asks(Protocol):
    """What knows filters: a golden set's questions, and those of a log."""

    @property
    def where(self) -> Mapping[str, Any] | None: ...


class _Subject(Protocol):
    golden: Any
    log: Any
    collection: Any


def access_fields(subject: _Subject) -> frozenset[str]:
    """Return the paths of the fields that scopes, the golden set and the log filter by, and those of telling names."""
    asked: list[_Asks] = [*(subject.golden.queries if subject.golden else ()), *subject.log]
    filters = [each.where for each in asked if each.where]
    scope = subject.collection.scope if subject.collection is not None else None
    found = {field for where in [*filters, *([scope] if scope else [])] for field in fields_of(where)}
    return frozenset({*found, *_NAMES})


def fields_of(where: Mapping[str, Any]) -> Iterable[str]:
    """Yield the fields that a filter names, as users write it."""
    for name, value in where.items():
        if not name.startswith("$"):
            yield name
        elif isinstance(value, Mapping):
            yield from fields_of(value)
        elif isinstance(value, (list, tuple)):
            for each in value:
                if isinstance(each, Mapping):
                    yield from fields_of(each)
