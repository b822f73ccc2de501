"""Judge shards as one collection: what the checks ask of files is asked of each shard, and told together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.collection import open as open_collection
from reperio.collection.facade import handle_of
from reperio.collection.reading import everything_with_vectors, selections
from reperio.sharding.keeping.upkeep import backup_shards, check_shards
from reperio.sharding.manifest import is_sharded
from reperio.sharding.serving.collection import ShardedCollection
from reperio.sharding.serving.opening import open_shards
from reperio.types import CheckReport, Chunk, Embedder, FloatMatrix

_BLOCK = 1000  # chunks read at once


def opened(path: str | os.PathLike[str], embedder: Embedder | None = None) -> Collection:
    """Open a collection to read, or the shards of a directory that has ``shards.json``."""
    if is_sharded(Path(path).expanduser()):
        return open_shards(path, embedder=embedder)
    return open_collection(path, embedder=embedder, read_only=True)


def everything(collection: Collection) -> Iterator[tuple[list[Chunk], FloatMatrix]]:
    """Yield all chunks with their vectors, float32 (n, d), in blocks."""
    if not isinstance(collection, ShardedCollection):
        yield from everything_with_vectors(handle_of(collection))
        return
    ids = collection.ids()
    for first in range(0, len(ids), _BLOCK):
        there = {chunk.id: chunk for chunk in collection.get(ids[first : first + _BLOCK])}
        yield list(there.values()), collection.vectors(list(there))


def selected_by(
    collection: Collection, filters: Sequence[Mapping[str, Any]], ids: Sequence[str]
) -> list[tuple[npt.NDArray[np.bool_], int]]:
    """Return per filter which of some chunks match, and how many chunks there are that do."""
    if not isinstance(collection, ShardedCollection):
        handle = handle_of(collection)
        return selections(handle, [handle.scope.narrowed(where) for where in filters], ids)
    found = []
    for where in filters:
        matching = set(collection.ids(where=where))
        found.append((np.array([one in matching for one in ids], dtype=bool), len(matching)))
    return found


def checked(collection: Collection) -> CheckReport:
    """Return the report of `Collection.check`, or of all shards together, each problem with the name of its shard."""
    if not isinstance(collection, ShardedCollection):
        return collection.check()
    found = check_shards(collection.info().path)
    problems = [
        replace(problem, what=f"{name}: {problem.what}")
        for name, report in found.shards.items()
        for problem in report.problems
    ]
    return CheckReport([*found.problems, *problems], found.rows)


def back_up(collection: Collection, destination: Path) -> None:
    """Write a copy of a collection or of shards, which `opened` opens."""
    if isinstance(collection, ShardedCollection):
        backup_shards(collection.info().path, destination)
    else:
        collection.backup(destination)
