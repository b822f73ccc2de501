"""Build a filter by clicks, of the fields and values that a survey has found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reperio.serving.survey import KEPT, FieldSurvey, Survey

_MOST_FIELDS, _MOST_VALUES = 30, 12
_SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a field: in how many chunks it is, whether the filter asks for it, and the filter after a click."""

    label: str
    count: int
    chosen: bool
    where: str


@dataclass(frozen=True, slots=True)
class Facet:
    """A field to filter by."""

    name: str
    kinds: str
    chunks: int
    values: tuple[Value, ...]
    more: bool  # whether there are more values than these
    least: float | None
    most: float | None

    @property
    def chosen(self) -> bool:
        """Whether the filter asks for one of its values."""
        return any(value.chosen for value in self.values)


def facets(found: Survey, where: Mapping[str, Any] | None) -> list[Facet]:
    """Return the fields, most frequent first, each with its most frequent values."""
    shown = []
    source = FieldSurvey(Counter({"text": found.sources.total()}), Counter(_sources(found)))
    for name, about in [*([(_SOURCE, source)] if found.sources else []), *found.ranked()[:_MOST_FIELDS]]:
        values = [
            Value(_label(each), count, each in _chosen(where, name), to_text(_toggled(where, name, each)))
            for each, count in about.values.most_common(_MOST_VALUES)
        ]
        more = len(about.values) > len(values) or not about.whole
        kinds = ", ".join(sorted(about.types))
        shown.append(Facet(name, kinds, about.types.total(), tuple(values), more, about.least, about.most))
    return shown


def _sources(found: Survey) -> dict[str, int]:
    return {_as_json(name): count for name, count in found.sources.most_common(KEPT - 1)}


def to_text(where: Mapping[str, Any] | None) -> str:
    """Return a filter as JSON; empty for none."""
    return json.dumps(where, ensure_ascii=False) if where else ""


def path_of(name: str) -> str:
    """Return the path that names a field as it stands, whatever signs are in its name."""
    path = name.replace("\\", "\\\\").replace(".", "\\.")
    return f"\\{path}" if path.startswith("$") else path


def _chosen(where: Mapping[str, Any] | None, name: str) -> list[str]:
    """Return the values that a filter asks of a field, as JSON."""
    asked = (where or {}).get(path_of(name))
    if isinstance(asked, Mapping):
        several = asked.get("$in")
        return [_as_json(each) for each in several] if set(asked) == {"$in"} and isinstance(several, list) else []
    return [] if asked is None or isinstance(asked, list) else [_as_json(asked)]


def _toggled(where: Mapping[str, Any] | None, name: str, value: str) -> dict[str, Any]:
    """Return a filter with one value more, or less, of a field; the rest of it stays."""
    chosen = _chosen(where, name)
    chosen = [each for each in chosen if each != value] if value in chosen else [*chosen, value]
    rest = {key: each for key, each in (where or {}).items() if key != path_of(name)}
    values = [json.loads(each) for each in chosen]
    if not values:
        return rest
    return {**rest, path_of(name): values[0] if len(values) == 1 else {"$in": values}}


def _label(value: str) -> str:
    read = json.loads(value)
    return (read or "(empty)") if isinstance(read, str) else value


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
