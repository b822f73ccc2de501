"""Say what is in a collection: fields with their values, and sources with their chunks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from reperio import Collection
from reperio.printable import one_line

_MOST_CHUNKS = 200_000  # looked at: a second or two
_MOST_FIELDS, _MOST_VALUES = 12, 8
_LONGEST = 40  # characters of a value that is counted
_SOURCE = "source"
_UNTOLD = frozenset({_SOURCE, "embedding_context"})
_ASKED = 1000  # chunks, after which it is asked whether to go on
KEPT = 1_000
"""Fields that are looked at, and different values of each that are counted."""


@dataclass(slots=True)
class FieldSurvey:
    """One metadata field.

    Attributes:
        types: in how many chunks it is, by kind: "text", "number", "true/false", "list", "object", "null".
        values: how often each short value occurs, by the value as JSON; an element of a list is one, too.
        least, most: of its numbers; None where it has none.
    """

    types: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    least: float | None = None
    most: float | None = None

    @property
    def whole(self) -> bool:
        """Whether all short values were counted."""
        return len(self.values) < KEPT

    def add(self, value: Any) -> None:
        """Count what one chunk has in this field."""
        self.types[_type(value)] += 1
        for each in value if isinstance(value, list) else [value]:
            if each is None or isinstance(each, (dict, list)) or (isinstance(each, str) and len(each) > _LONGEST):
                continue
            if isinstance(each, (int, float)) and not isinstance(each, bool):
                self.least = each if self.least is None else min(self.least, each)
                self.most = each if self.most is None else max(self.most, each)
            known = json.dumps(each, ensure_ascii=False)
            if known in self.values or len(self.values) < KEPT:
                self.values[known] += 1


@dataclass
class Survey:
    """What was found in a collection.

    Attributes:
        chunks: that were looked at.
        whole: whether these were all.
        sources: chunks by source.
        fields: by name.
    """

    chunks: int = 0
    whole: bool = True
    sources: Counter[str] = field(default_factory=Counter)
    fields: dict[str, FieldSurvey] = field(default_factory=dict)

    def ranked(self) -> list[tuple[str, FieldSurvey]]:
        """Return the fields with their names, most frequent first."""
        return sorted(self.fields.items(), key=lambda each: -each[1].types.total())

    def in_words(self) -> list[str]:
        """Return lines about the fields, most frequent first."""
        some = "" if self.whole else f" of the first {self.chunks:,} chunks"
        lines = [f"{len(self.sources):,} sources{some} (list_sources names them)"] if self.sources else []
        ranked = self.ranked()
        for name, found in ranked[:_MOST_FIELDS]:
            counts = found.values.most_common(_MOST_VALUES)
            told = ", ".join(f"{_quoted(json.loads(value))} ({count:,})" for value, count in counts)
            more = ", …" if len(found.values) > _MOST_VALUES or not found.whole else ""
            kinds = "/".join(sorted(found.types))
            lines.append(f"field {_quoted(name)} ({kinds}, in {found.types.total():,} chunks): {told}{more}")
        if len(ranked) > _MOST_FIELDS:
            lines.append(f"{len(ranked) - _MOST_FIELDS:,} more fields")
        return lines


def survey(collection: Collection, *, goes_on: Callable[[], bool] = lambda: True) -> Survey:
    """Look at the metadata of a collection, within its scope; no further once *goes_on* returns False."""
    found = Survey()
    chunks = iter(collection)
    for chunk in islice(chunks, _MOST_CHUNKS):
        if found.chunks % _ASKED == 0 and not goes_on():
            break
        found.chunks += 1
        source = chunk.metadata.get(_SOURCE)
        if isinstance(source, str):
            found.sources[source] += 1
        for name, value in chunk.metadata.items():
            if name not in _UNTOLD and (name in found.fields or len(found.fields) < KEPT):
                found.fields.setdefault(name, FieldSurvey()).add(value)
    found.whole = next(chunks, None) is None
    return found


def _quoted(value: Any) -> str:
    """Return a value as JSON in one line: stored data must not look like our own words."""
    return json.dumps(one_line(value[:_LONGEST]) if isinstance(value, str) else value, ensure_ascii=False)


def _type(value: Any) -> str:
    names = {bool: "true/false", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names.get(type(value), "null")
