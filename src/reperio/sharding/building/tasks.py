"""The two kinds of tasks of a build: pure functions of what they are given, for Ray, Spark, Dask or a process pool.

Both do nothing where what they make is there already, and what they make is there whole or not at all. So it does no
harm that one is killed, is run twice, or is run twice at a time. Run all of `spread` before the first `fill`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reperio.collection.facade import handle_of
from reperio.collection.handle.embedder import resolve
from reperio.collection.opening import open as open_collection
from reperio.collection.write.preparing import check_chunks, embed_checked, require_sizes
from reperio.embedding.contract import Settings
from reperio.errors import (
    CollectionDamaged,
    CollectionExists,
    CollectionNotFound,
    InvalidChunk,
    InvalidInput,
    NotACollection,
    UnsupportedFormat,
)
from reperio.exchange.content import receive
from reperio.layout import is_there, require_absent_or_directory
from reperio.sharding.building.partitions import Batch, Partition, Told
from reperio.sharding.building.parts import PartReport, blocks_of, joined, read_report, write_part
from reperio.sharding.manifest import ShardEntry
from reperio.store import NewChunk
from reperio.types import Embedder, Limits
from reperio.vectors import StoredMatrix, to_matrix, to_stored

_BLOCK = 8192  # chunks of one commit
_EMBEDDED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class SpreadTask:
    """Read one partition, embed what has no vectors, and write what each shard gets of it.

    Attributes:
        building: directory of the build, at the same path on every host.
        number: of the partition, from 1.
        partition: what is read.
        settings: of the shards.
        shards: by their slots.
        embedder: its name, or itself; None where all vectors are ready-made.
        limits: of texts and metadata.
    """

    building: str
    number: int
    partition: Partition
    settings: Settings
    shards: tuple[ShardEntry, ...]
    embedder: Embedder | str | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class FillTask:
    """Make one shard of all parts, and its index.

    Attributes:
        building: as in `SpreadTask`.
        parts: how many there are.
        path: directory of the shard.
        shard: its slots and name.
        settings: of the shard.
        recall: what its index is chosen for; None builds none.
        limits: of texts and metadata.
    """

    building: str
    parts: int
    path: str
    shard: ShardEntry
    settings: Settings
    recall: float | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What there is to tell of a shard that was built.

    Attributes:
        name: of the shard.
        chunks: how many it has.
    """

    name: str
    chunks: int


def spread(task: SpreadTask) -> PartReport:
    """Write the part of one partition, unless it is there.

    Raises:
        InvalidInput, InvalidChunk, InvalidVectors: something in the source cannot be read or stored.
        EmbedderFailed, EmbeddingContractError, MissingDependency: no vectors can be made here.
        StorageFailed: the part cannot be written.
    """
    building = Path(task.building)
    done = read_report(building, task.number)
    if done is not None:
        return done
    embedder = None if task.embedder is None else _embedder(task.embedder, _Held(task.settings))
    told, chunks, embedded = Told([], []), list[NewChunk](), 0
    matrices: list[StoredMatrix] = []
    for batch in task.partition.batches(task.settings, embedder, told):
        if (batch.vectors is None) == (task.embedder is None):  # unlike the first chunk, which the plan was made by
            of = "no vector, and the first one has" if batch.vectors is None else "a vector, and the first one has none"
            raise InvalidInput(f"chunk {batch.chunks[0].id!r:.80} has {of}; all have one, or none")
        checked = check_chunks(batch.chunks, len(chunks))
        require_sizes(checked, task.limits)
        matrices.append(_vectors(batch, checked, task.settings, embedder))
        embedded += len(checked) if batch.vectors is None else 0
        chunks += checked
    _require_distinct(chunks)
    report = PartReport(task.number, len(chunks), embedded, tuple(told.skipped), tuple(told.failed))
    write_part(building, report, chunks, joined(matrices, task.settings), task.shards)
    return report


def fill(task: FillTask) -> ShardReport:
    """Write one shard, unless it is there, and choose and build its index.

    Raises:
        InvalidInput: an id comes twice in the source.
        CollectionDamaged: a part, or a shard that is there already, is not what was written.
        StorageFailed: the shard cannot be written; nothing of it is left.
    """
    path = Path(task.path)
    require_absent_or_directory(path)
    if not is_there(path):
        blocks = blocks_of(Path(task.building), task.parts, task.shard, task.settings, _BLOCK)
        with suppress(CollectionExists):  # the same task, which was thought lost, was quicker
            receive(path, task.settings, blocks, (), clock=0.0, limits=task.limits)
    try:
        _require_of_build(path, task.settings)
        with open_collection(path, auto_optimize=False) as collection:
            count = collection.count()
            if task.recall is not None and count and collection.info().index is None:
                collection.optimize(task.recall)
    except (CollectionDamaged, NotACollection, CollectionNotFound, UnsupportedFormat) as error:  # half a copy, say
        raise CollectionDamaged(
            f"{path} is not what the build has written ({error}); remove it, and run the same build again: it makes it "
            "again"
        ) from error
    return ShardReport(task.shard.name, count)


def _require_of_build(path: Path, settings: Settings) -> None:
    """Refuse what somebody else has put there, before it is written to."""
    with open_collection(path, read_only=True) as collection:
        if handle_of(collection).settings().to_json() != settings.to_json():
            raise CollectionDamaged("it has other settings")


def _vectors(batch: Batch, checked: list[NewChunk], settings: Settings, embedder: Embedder | None) -> StoredMatrix:
    if batch.stored and batch.vectors is not None:
        return np.asarray(batch.vectors)
    if batch.vectors is not None:
        matrix = to_matrix(batch.vectors, dimension=settings.dimension, metric=settings.metric, what="vectors")
        return to_stored(matrix, settings.dtype, what="vectors")
    some = (checked[at : at + _EMBEDDED_AT_ONCE] for at in range(0, len(checked), _EMBEDDED_AT_ONCE))
    return joined([embed_checked(each, embedder, settings) for each in some], settings)


def _require_distinct(chunks: list[NewChunk]) -> None:
    """Refuse an id that comes twice in a partition; one that comes in two is found when its shard is written."""
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.id in seen:
            raise InvalidChunk(f"chunk {chunk.id!r:.80} comes twice; ids are unique: leave one of them out")
        seen.add(chunk.id)


class _Held:
    """Settings, told apart by their contract: what an embedder was compared with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._key = str(settings.contract and settings.contract.to_json())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=1)  # a worker runs many tasks of one build: it loads the model once
def _loaded(embedder: str, held: _Held) -> Embedder:
    return _agreed(resolve(embedder), held.settings)


def _embedder(embedder: Embedder | str, held: _Held) -> Embedder:
    return _loaded(embedder, held) if isinstance(embedder, str) else _agreed(embedder, held.settings)


def _agreed(embedder: Embedder, settings: Settings) -> Embedder:
    """Refuse a model that on this host makes other vectors than where the build was begun."""
    if settings.contract is not None:
        settings.contract.require(embedder, "the build")
    return embedder
