"""Count what chunks hold, source by source, while they are gone through once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from reperio.evaluation.contents import texts
from reperio.evaluation.contents.hashing import digest, fingerprint
from reperio.evaluation.contents.profile import FieldProfile, SourceProfile
from reperio.evaluation.contents.values import key_of, shape_of, type_of, walk
from reperio.types import Chunk

KEPT_VALUES, KEPT_ACCESS_VALUES = 50, 256
"""Different values of a field that are kept, and of a field that decides who finds what."""

_COUNTED = 1024  # different values of a type that are counted one by one; more, and only their shapes are
_FIELDS = 200  # metadata fields of a source that are counted
_SHAPES, _ENDS = 12, 40  # of a field, and openings of a source, that are kept
_BUCKETS = 256  # by which the values of an access field are counted where they are too many
_LEAST = 3  # chunks that begin alike


class FieldTally:
    """The values of one field."""

    def __init__(self, *, access: bool) -> None:
        self.access, self.many, self.present = access, False, 0
        self.by_type: dict[tuple[type, bool], Counter[Any]] = {}  # by type, and whether in a list
        self.types: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self.buckets: Counter[str] = Counter()

    def add(self, value: Any) -> None:
        """Count a value; by its type, as Python takes 1, 1.0 and True for one key."""
        self.present += 1
        kind = type(value)
        if kind is list:
            self.types["list"] += 1
            for element in value[:_COUNTED]:
                if type(element) is not list and type(element) is not dict:
                    self._count(element, inside=True)
        elif kind is dict:
            self.types["object"] += 1
        else:
            self._count(value)

    def _count(self, value: Any, *, inside: bool = False) -> None:
        kind = (type(value), inside)
        counter = self.by_type.get(kind)
        if counter is None:
            counter = self.by_type[kind] = Counter()
        counter[value] = counter.get(value, 0) + 1  # half the time of +=, which asks for what is missing
        if len(counter) > _COUNTED:
            self.many = True
            self._fold(counter, kind)
            counter.clear()

    def _fold(self, counter: Counter[Any], kind: tuple[type, bool]) -> None:
        for value, count in counter.items():
            self.shapes[shape_of(value)] += count
            if self.access:
                self.buckets[f"#{digest(key_of(value)) % _BUCKETS}"] += count
        self.types[type_of(kind[0]) + (" in a list" if kind[1] else "")] += counter.total()

    def merge(self, other: FieldTally) -> None:
        """Take over what another one has counted."""
        self.present, self.many = self.present + other.present, self.many or other.many
        for own, others in ((self.types, other.types), (self.shapes, other.shapes), (self.buckets, other.buckets)):
            own.update(others)
        for kind, counter in other.by_type.items():
            self.by_type.setdefault(kind, Counter()).update(counter)

    def to_profile(self) -> FieldProfile:
        """Return what was counted; nothing can be counted afterwards."""
        values: Counter[str] = Counter()
        for kind, counter in self.by_type.items():
            self._fold(counter, kind)
            values.update({key_of(value): count for value, count in counter.items()} if not self.many else {})
        most = KEPT_ACCESS_VALUES if self.access else KEPT_VALUES
        kept: Mapping[str, int] | None = values
        if self.many or len(values) > most:
            kept = self.buckets if self.access else None
        shapes = Counter(dict(self.shapes.most_common(_SHAPES)))
        if rest := self.shapes.total() - shapes.total():
            shapes["(others)"] += rest
        return FieldProfile(self.present, _plain(self.types), None if kept is None else _plain(kept), _plain(shapes))


class SourceTally:
    """The chunks of one source."""

    def __init__(self, is_access: Callable[[str], bool]) -> None:
        self._is_access = is_access
        self.count = self.mojibake = self.sampled = self.markup = 0
        self.lengths: Counter[int] = Counter()
        self.languages: Counter[str] = Counter()
        self.openings: Counter[str] = Counter()
        self.closings: Counter[str] = Counter()
        self.fields: dict[str, FieldTally] = {}

    def add(self, chunk: Chunk) -> None:
        """Count a chunk."""
        text = chunk.text
        self.count += 1
        self.lengths[len(text)] += 1
        self.mojibake += texts.is_mojibake(text)
        for path, value in walk(chunk.metadata):
            tally = self.fields.get(path)
            if tally is None:
                if len(self.fields) >= _FIELDS:
                    continue
                tally = self.fields[path] = FieldTally(access=self._is_access(path))
            tally.add(value)

    def look(self, chunk: Chunk) -> None:
        """Look closer at a chunk of the sample."""
        text = chunk.text
        self.sampled += 1
        self.languages[texts.language_of(text)] += 1
        self.markup += texts.has_markup(text)
        if len(text) > texts.OPENING:
            self.openings[text[: texts.OPENING]] += 1
            self.closings[text[-texts.OPENING :]] += 1

    def merge(self, other: SourceTally) -> None:
        """Take over what another one has counted."""
        for name in ("count", "mojibake", "sampled", "markup"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("lengths", "languages", "openings", "closings"):
            getattr(self, name).update(getattr(other, name))
        for path, tally in other.fields.items():
            self.fields.setdefault(path, FieldTally(access=tally.access)).merge(tally)

    def to_profile(self, *, duplicates: int, alike: int) -> SourceProfile:
        """Return what was counted, with what only the comparison with all other chunks tells."""
        lengths: Counter[str] = Counter()
        for length, count in self.lengths.items():
            lengths[texts.length_class(length)] += count
        return SourceProfile(
            count=self.count,
            lengths=_plain(lengths),
            duplicates=duplicates,
            mojibake=self.mojibake,
            sampled=self.sampled,
            languages=_plain(self.languages),
            markup=self.markup,
            alike=alike,
            openings=_ends(self.openings),
            closings=_ends(self.closings),
            fields={path: tally.to_profile() for path, tally in sorted(self.fields.items())},
        )


def _ends(found: Counter[str]) -> dict[str, int]:
    return {fingerprint(end): count for end, count in found.most_common(_ENDS) if count >= _LEAST}


def _plain(found: Mapping[str, int]) -> dict[str, int]:
    return {name: found[name] for name in sorted(found)}
