"""Survey a collection in one pass: what it holds, and chunks to look closer at."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from reperio.collection import Collection
from reperio.embedding.passages import passage
from reperio.evaluation.contents import sources, vectors
from reperio.evaluation.contents.gathering import SourceTally
from reperio.evaluation.contents.hashing import digest, fingerprint
from reperio.evaluation.contents.marks import Hashes, Marks
from reperio.evaluation.contents.profile import OTHERS, Profile
from reperio.evaluation.contents.texts import seen, words_keys
from reperio.evaluation.contents.values import value_at
from reperio.evaluation.sharded import everything
from reperio.filters import parse_path
from reperio.types import Chunk

SKETCH = 1024
"""Chunks whose hashed ids are kept: those with the smallest hashes, the same in every collection that holds them."""

METADATA = 100_000
"""Chunks whose metadata is kept, about: some 50 MB of small objects."""

LOOKED_AT = 25_000
"""Chunks whose language, markup and words are looked at, about."""

_QUANTILES = (0.05, 0.5, 0.95)  # not the ends, which one odd chunk decides
_NEWEST = 32  # chunks; an import or build that went wrong shows in the last ones
_ALIKE = 3  # chunks of nearly the same words; two may be by chance


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of one pass over a collection.

    Attributes:
        profile: what it holds, in figures.
        metadata: by id, in the order of adding: of every chunk, or, where there are more than `METADATA`, of one in so
            many, drawn by the hash of its id.
        sample: chunks drawn by the hash of their ids: the same ones as long as they exist.
        newest: the chunks added last.
        followed: the chunks that the profile follows by id.
        suspects: ids of chunks whose vector is that of a different text, or all zeros, or constant; some of them.
    """

    profile: Profile
    metadata: Mapping[str, Mapping[str, Any]]
    sample: list[Chunk]
    newest: list[Chunk]
    followed: list[Chunk]
    suspects: vectors.Suspects


def survey(
    collection: Collection,
    *,
    sample: int,
    access: Iterable[str] = (),
    document_field: str = "",
    before: Profile | None = None,
) -> Survey:
    """Go through all chunks once.

    Args:
        collection: to be looked at.
        sample: chunks to draw.
        access: paths of the fields that decide who finds what.
        document_field: path of the field that names a chunk's document; empty for none.
        before: what the figures will be compared with, and are therefore counted by the same sources as.
    """
    told = before if before is not None and before.is_detailed else None
    source = (
        sources.by(told.source_field, told.source_depth)
        if told is not None
        else sources.chosen(collection, document_field)
    )
    deciding = frozenset(access) | (frozenset(told.access) if told else frozenset())
    gone_through = _Pass(collection, source, deciding, max(SKETCH, sample))
    gone_through.run()
    return gone_through.to_survey(sample, told)


class _Pass:
    """One pass over all chunks, and what it has seen so far."""

    def __init__(self, collection: Collection, source: sources.SourceBy, access: frozenset[str], kept: int) -> None:
        self.collection, self.source, self.access = collection, source, access
        count = collection.count()
        self.every_metadata, self.every_text = max(1, count // METADATA), max(1, count // LOOKED_AT)
        self.metadata: dict[str, Mapping[str, Any]] = {}
        self.newest: deque[Chunk] = deque(maxlen=_NEWEST)
        self.tallies: dict[str, SourceTally] = {}
        self.names: dict[str, int] = {}  # number of each source
        self.marks, self.vectors = Marks(), vectors.VectorTally()
        self.texts: list[Hashes] = []  # by block, as are the sources
        self.owners: list[npt.NDArray[np.int32]] = []
        self.words: list[tuple[int, tuple[int, int]]] = []  # number of the source, and keys of the words, by chunk
        self.lengths: list[npt.NDArray[np.int64]] = []
        self.kept: list[tuple[int, int, Chunk]] = []  # a heap of the smallest hashes, the largest of them first
        self.most, self.serial = kept, 0

    def run(self) -> None:
        """Go through all chunks."""
        for chunks, matrix in everything(self.collection):
            ids = _hashes(chunk.id for chunk in chunks)
            texts = _hashes(chunk.text for chunk in chunks)
            passages = np.array([digest(seen(passage(each.text, each.metadata))) for each in chunks], dtype=np.uint64)
            metadata = _hashes(canonical(chunk.metadata) for chunk in chunks)
            hashed = self.vectors.add(matrix, passages)
            self.marks.add(ids, texts=passages, metadata=metadata, vectors=hashed)
            self._count(chunks, ids.tolist())
            self.texts.append(texts)
            self.lengths.append(np.fromiter((len(chunk.text) for chunk in chunks), np.int64, len(chunks)))

    def _count(self, chunks: list[Chunk], ids: list[int]) -> None:
        owners = np.empty(len(chunks), dtype=np.int32)
        for at, (chunk, place) in enumerate(zip(chunks, ids, strict=True)):
            name = self.source.name(chunk.metadata)
            number = self.names.get(name)
            if number is None:
                if len(self.names) >= sources.COUNTED:
                    name = OTHERS
                number = self.names.setdefault(name, len(self.names))
                self.tallies.setdefault(name, SourceTally(self.access.__contains__))
            owners[at] = number
            tally = self.tallies[name]
            tally.add(chunk)
            # By the hash of the id, so that the next survey of as many chunks keeps the same ones.
            if place % self.every_metadata == 0:
                self.metadata[chunk.id] = chunk.metadata
            if place % self.every_text == 0:
                tally.look(chunk)
                keys = words_keys(chunk.text)
                if keys is not None:
                    self.words.append((number, keys))
            self._keep(place, chunk)
        self.newest.extend(chunks)
        self.owners.append(owners)

    def _keep(self, place: int, chunk: Chunk) -> None:
        self.serial += 1  # told apart by it, where two hashes are equal: chunks have no order
        if len(self.kept) < self.most:
            heapq.heappush(self.kept, (-place, self.serial, chunk))
        elif -place > self.kept[0][0]:
            heapq.heapreplace(self.kept, (-place, self.serial, chunk))

    def to_survey(self, sample: int, before: Profile | None) -> Survey:
        """Return what was seen."""
        kept = [chunk for _, _, chunk in sorted(self.kept, key=lambda entry: -entry[0])]
        texts = np.concatenate(self.texts) if self.texts else np.empty(0, np.uint64)
        owners = np.concatenate(self.owners) if self.owners else np.empty(0, np.int32)
        lengths = np.concatenate(self.lengths) if self.lengths else np.empty(0)
        repeated = _repeated(texts)
        count = len(texts)
        followed = kept[:SKETCH]
        profile = Profile(
            count=count,
            lengths=_quantiles(lengths),
            fields=self._fields(count),
            duplicates=float(repeated.mean()) if count else 0.0,
            norms=_quantiles(self.vectors.norms()),
            sketch={fingerprint(chunk.id): fingerprint(chunk.text) for chunk in followed},
            followed=self._followed(followed),
            source_field=self.source.field,
            source_depth=self.source.depth,
            sources=self._sources(repeated, owners, before),
            access=tuple(sorted(self.access)),
            vectors=self.vectors.to_profile(self.collection),
            marks=self.marks.to_text(),
        )
        suspects = self.vectors.suspects
        return Survey(profile, self.metadata, kept[:sample], list(self.newest), followed, suspects)

    def _fields(self, count: int) -> dict[str, float]:
        found: Counter[str] = Counter()
        for tally in self.tallies.values():
            found.update({path: field.present for path, field in tally.fields.items()})
        return {path: present / count for path, present in sorted(found.items())}

    def _followed(self, chunks: list[Chunk]) -> dict[str, str]:
        matrix = self.collection.vectors([chunk.id for chunk in chunks]) if chunks else np.empty((0, 1), np.float32)
        hashed = vectors.hashes(matrix).tolist() if chunks else []
        return {
            fingerprint(chunk.id): fingerprint(canonical(chunk.metadata))
            + fingerprint(seen(passage(chunk.text, chunk.metadata)))
            + f"{vector:016x}"[:8]
            + deciding(chunk.metadata, self.access)
            for chunk, vector in zip(chunks, hashed, strict=True)
        }

    def _sources(
        self, repeated: npt.NDArray[np.bool_], owners: npt.NDArray[np.int32], before: Profile | None
    ) -> dict[str, Any]:
        duplicates = np.bincount(owners[repeated], minlength=len(self.names)) if len(owners) else np.zeros(1, int)
        often = Counter(key for _, keys in self.words for key in keys)
        alike = Counter(number for number, keys in self.words if any(often[key] >= _ALIKE for key in keys))
        figures = {name: [int(duplicates[number]), alike[number]] for name, number in self.names.items()}
        kept = sources.kept({name: tally.count for name, tally in self.tallies.items()}, before)
        merged: dict[str, SourceTally] = {}
        totals: dict[str, list[int]] = {}
        for name, tally in self.tallies.items():
            into = name if name in kept else OTHERS
            if into in merged:
                merged[into].merge(tally)
                totals[into] = [left + right for left, right in zip(totals[into], figures[name], strict=True)]
            else:
                merged[into], totals[into] = tally, figures[name]
        return {
            name: tally.to_profile(duplicates=totals[name][0], alike=totals[name][1])
            for name, tally in sorted(merged.items())
        }


def _repeated(texts: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Say of each text whether another one is the same."""
    if not len(texts):
        return np.empty(0, dtype=bool)
    _, inverse, counts = np.unique(texts, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] > 1)


def _hashes(texts: Iterable[str | bytes]) -> Hashes:
    return np.array([digest(text) for text in texts], dtype=np.uint64)


def deciding(metadata: Mapping[str, Any], access: Iterable[str]) -> str:
    """Return a hash of the values in the fields that decide who finds a chunk."""
    return fingerprint(canonical({path: value_at(metadata, tuple(parse_path(path))) for path in sorted(access)}))


def canonical(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as bytes that do not depend on the order of its keys."""
    found: bytes = orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return found


def _quantiles(values: Any) -> tuple[float, ...]:
    if not len(values):
        return (0.0,) * len(_QUANTILES)
    return tuple(float(value) for value in np.quantile(np.asarray(values, dtype=np.float64), _QUANTILES).round(6))
