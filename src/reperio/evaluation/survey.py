"""Survey a collection in one pass: for drift, and to sample chunks from."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reperio.collection import Collection
from reperio.filters import join_path
from reperio.types import Chunk

SKETCH = 1024
"""Chunks whose hashed ids are kept: those with the smallest hashes, the same in every collection that holds them."""

METADATA = 100_000
"""Chunks whose metadata is kept, about: some 50 MB of small objects."""

_QUANTILES = (0.05, 0.5, 0.95)  # not the ends, which one odd chunk decides
_NEWEST = 32  # chunks; an import or build that went wrong shows in the last ones
_DEPTH = 4  # of nested metadata


@dataclass(frozen=True, slots=True)
class Profile:
    """A collection in figures small enough for a file that is committed."""

    count: int  # chunks
    lengths: tuple[float, ...]  # of the texts in characters: 5%, 50% and 95% quantile
    fields: Mapping[str, float]  # share of chunks that have a metadata field, by path
    duplicates: float  # share of chunks whose text another one has as well
    norms: tuple[float, ...]  # 5%, 50% and 95% quantile of the vectors' lengths, of a sample
    sketch: Mapping[str, str]  # hash of the text by hash of the id, of the `SKETCH` chunks with the smallest hashes


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of one pass over a collection."""

    profile: Profile
    # By id, in the order of adding: of every chunk, or, where there are more than `METADATA`, of one in so many, drawn
    # by the hash of its id.
    metadata: Mapping[str, Mapping[str, Any]]
    sample: list[Chunk]  # chunks drawn by the hash of their ids: the same ones as long as they exist
    newest: list[Chunk]  # the chunks added last


def survey(collection: Collection, *, sample: int) -> Survey:
    """Go through all chunks once, and draw *sample* of them."""
    metadata: dict[str, Mapping[str, Any]] = {}
    every = max(1, collection.count() // METADATA)
    lengths: list[int] = []
    fields: Counter[str] = Counter()
    texts: Counter[bytes] = Counter()
    newest: deque[Chunk] = deque(maxlen=_NEWEST)

    def seen() -> Iterator[tuple[int, Chunk]]:
        for chunk in collection:
            place = int.from_bytes(_digest(chunk.id), "big")
            # By the hash of its id, so that the next survey of as many chunks keeps the same ones.
            if place % every == 0:
                metadata[chunk.id] = chunk.metadata
            lengths.append(len(chunk.text))
            fields.update(join_path(path) for path in _paths(chunk.metadata))
            texts[_digest(chunk.text)] += 1
            newest.append(chunk)
            yield place, chunk

    kept = [chunk for _, chunk in heapq.nsmallest(max(SKETCH, sample), seen(), key=lambda entry: entry[0])]
    profile = Profile(
        count=len(lengths),
        lengths=_quantiles(lengths),
        fields={name: found / len(lengths) for name, found in sorted(fields.items())},
        duplicates=sum(found for found in texts.values() if found > 1) / max(1, len(lengths)),
        norms=_quantiles(np.linalg.norm(collection.vectors([chunk.id for chunk in kept]), axis=1) if kept else []),
        sketch={fingerprint(chunk.id): fingerprint(chunk.text) for chunk in kept[:SKETCH]},
    )
    return Survey(profile, metadata, kept[:sample], list(newest))


def likeness(before: Profile, now: Profile) -> float:
    """Return the share of chunks that are in both with the same text, by those that both sketches follow."""
    least = min(reach(before), reach(now))
    old, new = ({item for item in each.sketch.items() if item[0] <= least} for each in (before, now))
    return len(old & new) / max(1, len({key for key, _ in old | new}))


def reach(profile: Profile) -> str:
    """Return up to where a sketch holds every chunk there is."""
    return max(profile.sketch, default="") if len(profile.sketch) < profile.count else "g"  # beyond all digits


def fingerprint(text: str) -> str:
    """Return 8 hexadecimal digits that differ for different texts, all but certainly."""
    return _digest(text).hex()[:8]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _quantiles(values: Any) -> tuple[float, ...]:
    if not len(values):
        return (0.0,) * len(_QUANTILES)
    return tuple(float(value) for value in np.quantile(np.asarray(values, dtype=np.float64), _QUANTILES).round(6))


def _paths(metadata: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in metadata.items():
        if name:
            yield (*above, name)
            if isinstance(value, Mapping) and len(above) + 1 < _DEPTH:
                yield from _paths(value, (*above, name))
