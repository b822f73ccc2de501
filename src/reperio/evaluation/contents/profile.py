"""A collection in figures, small enough for a file that is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EVERYTHING = ""
"""Name of the one source of a collection whose chunks do not tell theirs."""

OTHERS = "(others)"
"""Name under which sources are counted together that are too many to be kept."""


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """One metadata field of one source; every figure counts chunks.

    Attributes:
        present: chunks that have the field.
        types: chunks by the type of the value, as JSON calls it; of a list, also the types of its elements.
        values: chunks by value, as JSON; None where there are too many values to be kept.
        shapes: chunks by how the value is written, such as "Aa" or "0-0-0".
    """

    present: int
    types: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, int] | None = None
    shapes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceProfile:
    """The chunks of one source; every figure counts chunks.

    Attributes:
        count: chunks.
        lengths: chunks by the length class of their text: `texts.length_class`.
        duplicates: chunks whose text another chunk has as well, in any source.
        mojibake: chunks with a text that was decoded by the wrong encoding.
        sampled: chunks of which the following is known; drawn by the hash of their ids.
        languages: chunks by language or script.
        markup: chunks with tags or entities of HTML.
        alike: chunks whose words are nearly those of another one.
        openings, closings: chunks by the fingerprint of their first, and last, characters; the most frequent ones.
        fields: metadata fields by path.
    """

    count: int
    lengths: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    mojibake: int = 0
    sampled: int = 0
    languages: Mapping[str, int] = field(default_factory=dict)
    markup: int = 0
    alike: int = 0
    openings: Mapping[str, int] = field(default_factory=dict)
    closings: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, FieldProfile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VectorProfile:
    """All vectors of a collection; every figure counts chunks.

    Attributes:
        shared: chunks whose vector is that of a chunk with a different text.
        largest: different texts that have one vector, at most.
        zeros: chunks whose vector is all zeros.
        constant: chunks whose vector has one value in all places, other than zero.
    """

    shared: int = 0
    largest: int = 0
    zeros: int = 0
    constant: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """A collection in figures.

    Attributes:
        count: chunks.
        lengths: of the texts in characters: 5%, 50% and 95% quantile.
        fields: share of chunks that have a metadata field, by path.
        duplicates: share of chunks whose text another one has as well.
        norms: 5%, 50% and 95% quantile of the vectors' lengths.
        sketch: hash of the text by hash of the id, of the chunks with the smallest hashes.
        followed: hashes of metadata, embedded text, vector and access fields of the same chunks, by hash of the id.
        source_field: path of the metadata field that tells a chunk's source; empty where none does.
        source_depth: parts of its value that name the source, such as 1 for "docs" of "docs/start.md".
        sources: profile of each source, by name.
        access: paths of the fields that decide who finds what.
        vectors: figures of the vectors; None where an earlier version wrote them.
        marks: checksums of ids, texts, metadata and vectors, by what they are of; see `marks`.
    """

    count: int
    lengths: tuple[float, ...]
    fields: Mapping[str, float]
    duplicates: float
    norms: tuple[float, ...]
    sketch: Mapping[str, str]
    followed: Mapping[str, str] = field(default_factory=dict)
    source_field: str = ""
    source_depth: int = 1
    sources: Mapping[str, SourceProfile] = field(default_factory=dict)
    access: tuple[str, ...] = ()
    vectors: VectorProfile | None = None
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_detailed(self) -> bool:
        """Whether it knows sources and fields; profiles of earlier versions do not."""
        return bool(self.sources) or not self.count


def likeness(before: Profile, now: Profile) -> float:
    """Return the share of chunks that are in both with the same text, by those that both sketches follow."""
    least = min(reach(before), reach(now))
    old, new = ({item for item in each.sketch.items() if item[0] <= least} for each in (before, now))
    return len(old & new) / max(1, len({key for key, _ in old | new}))


def reach(profile: Profile) -> str:
    """Return up to where a sketch holds every chunk there is."""
    return max(profile.sketch, default="") if len(profile.sketch) < profile.count else "g"  # beyond all digits


def to_profile(content: Mapping[str, Any]) -> Profile:
    """Return a profile out of a file, whose form `baseline` has checked."""
    sources = {name: _source(each) for name, each in content.get("sources", {}).items()}
    vectors = content.get("vectors")
    listed = {name: tuple(content.get(name, ())) for name in ("lengths", "norms", "access")}
    return Profile(
        **{**content, **listed, "sources": sources, "vectors": None if vectors is None else VectorProfile(**vectors)}
    )


def _source(content: Mapping[str, Any]) -> SourceProfile:
    fields = {path: FieldProfile(**each) for path, each in content.get("fields", {}).items()}
    return SourceProfile(**{**content, "fields": fields})
