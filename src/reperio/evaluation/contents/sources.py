"""Tell which source a chunk is from, so that what goes wrong in one of them is not drowned by the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reperio.collection import Collection
from reperio.evaluation.contents.profile import EVERYTHING, OTHERS, Profile
from reperio.evaluation.contents.values import source_of, value_at
from reperio.filters import parse_path

COUNTED, KEPT = 256, 24
"""Sources that are counted apart, and that a profile keeps."""

_SEED = 20_261_129  # fixed, so that one collection is always told by one field
_PEEKED = 2000  # chunks by which the field is chosen
_DEPTHS = (1, 2, 3)  # parts of a path that may name a source
_SHARE = 0.5  # of the chunks that must have the field
_NAMES = (
    "source", "site", "origin", "corpus", "dataset", "domain", "repo", "repository", "product", "collection",
    "namespace", "url", "path", "file", "filename", "document",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceBy:
    """How a chunk's source is told.

    Attributes:
        field: path of the metadata field; empty where nothing tells it.
        depth: parts of its value that name the source.
        steps: the field, split.
    """

    field: str
    depth: int
    steps: tuple[str, ...]

    def name(self, metadata: Mapping[str, Any]) -> str:
        """Return the name of a chunk's source; empty where it has none."""
        value = value_at(metadata, self.steps) if self.steps else None
        return source_of(value, self.depth) if isinstance(value, (str, int)) else EVERYTHING


def by(field: str, depth: int) -> SourceBy:
    """Return how a source is told by a field."""
    return SourceBy(field, depth, tuple(parse_path(field)) if field else ())


def chosen(collection: Collection, document_field: str) -> SourceBy:
    """Choose the field, and how much of its value, that tells sources apart: two of them at least, and not too many."""
    ids = collection.ids()
    # By chance: every third of chunks that came from three sources in turns would be of one source alone.
    rows = np.random.default_rng(_SEED).permutation(len(ids))[:_PEEKED]
    peeked = [chunk.metadata for chunk in collection.get([ids[row] for row in rows])]
    for field in dict.fromkeys([document_field, *_NAMES]):
        if not field:
            continue
        steps = tuple(parse_path(field))
        values = [value for each in peeked if isinstance(value := value_at(each, steps), (str, int))]
        if not values or len(values) < _SHARE * len(peeked):
            continue
        for depth in _DEPTHS:
            names = Counter(source_of(value, depth) for value in values)
            if 1 < len(names) <= COUNTED // 4:
                return SourceBy(field, depth, steps)
    return by("", 1)


def kept(counts: Mapping[str, int], before: Profile | None) -> frozenset[str]:
    """Return the sources to keep: those of before, and else the largest; the rest are counted together."""
    if before is not None:
        known = set(before.sources)
        # Where some were counted together then, a new name may be one of them.
        return frozenset(known if OTHERS in known else known | set(_largest(counts, 2 * KEPT)))
    return frozenset(_largest(counts, KEPT))


def _largest(counts: Mapping[str, int], number: int) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))[:number]
