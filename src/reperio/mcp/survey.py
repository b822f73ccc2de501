"""Say what is in a collection: fields with their values, and sources with their chunks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from reperio import Collection
from reperio.printable import one_line

_MOST_CHUNKS = 200_000  # looked at: a second or two
_MOST_FIELDS, _MOST_VALUES, _KEPT = 12, 8, 1_000
_LONGEST = 40  # characters of a value that is told
_SOURCE = "source"
_UNTOLD = frozenset({_SOURCE, "embedding_context"})


@dataclass
class Survey:
    """What was found in a collection.

    Attributes:
        chunks: that were looked at.
        whole: whether these were all.
        sources: chunks by source.
        fields: per metadata field, in how many chunks it is, and how often each short value.
    """

    chunks: int = 0
    whole: bool = True
    sources: Counter[str] = field(default_factory=Counter)
    fields: dict[str, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)

    def in_words(self) -> list[str]:
        """Return lines about the fields, most frequent first."""
        some = "" if self.whole else f" of the first {self.chunks:,} chunks"
        lines = [f"{len(self.sources):,} sources{some} (list_sources names them)"] if self.sources else []
        ranked = sorted(self.fields.items(), key=lambda each: -each[1][0].total())
        for name, (types, values) in ranked[:_MOST_FIELDS]:
            told = ", ".join(f"{value} ({count:,})" for value, count in values.most_common(_MOST_VALUES))
            more = ", …" if len(values) > _MOST_VALUES or len(values) >= _KEPT else ""
            kinds = "/".join(sorted(types))
            lines.append(f"field {_quoted(name)} ({kinds}, in {types.total():,} chunks): {told}{more}")
        if len(ranked) > _MOST_FIELDS:
            lines.append(f"{len(ranked) - _MOST_FIELDS:,} more fields")
        return lines


def survey(collection: Collection) -> Survey:
    """Look at the metadata of a collection, within its scope."""
    found = Survey()
    chunks = iter(collection)
    for chunk in islice(chunks, _MOST_CHUNKS):
        found.chunks += 1
        source = chunk.metadata.get(_SOURCE)
        if isinstance(source, str):
            found.sources[source] += 1
        for name, value in chunk.metadata.items():
            if name not in _UNTOLD and (name in found.fields or len(found.fields) < _KEPT):
                types, values = found.fields.setdefault(name, (Counter(), Counter()))
                types[_type(value)] += 1
                for each in value if isinstance(value, list) else [value]:
                    _count(values, each)
    found.whole = next(chunks, None) is None
    return found


def _count(values: Counter[str], value: Any) -> None:
    if value is None or isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) > _LONGEST):
        return
    told = _quoted(value)
    if told in values or len(values) < _KEPT:
        values[told] += 1


def _quoted(value: Any) -> str:
    """Return a value as JSON in one line: stored data must not look like our own words."""
    return json.dumps(one_line(value[:_LONGEST]) if isinstance(value, str) else value, ensure_ascii=False)


def _type(value: Any) -> str:
    names = {bool: "true/false", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names.get(type(value), "null")
