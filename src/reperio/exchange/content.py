"""Read the content of a collection as plain data, and make a collection of such data."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reperio import layout
from reperio.collection.facade import Collection, handle_of
from reperio.collection.generation.creating import lay_out, name_current
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.ledger import require_storable
from reperio.collection.write.preparing import check_chunks, require_sizes
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput, InvalidVectors
from reperio.store import Entry, Session, Store, require_intact
from reperio.types import Chunk, Limits, Metric, Progress
from reperio.vectors import StoredMatrix, to_matrix

BLOCK_BYTES = 64 << 20
"""Bytes of vectors in a block, at most: what an export holds in memory at a time, in addition to the texts."""

_BLOCK_ROWS = 8192  # at most, where vectors are short
_UNIT = 1e-3  # the tolerance of check(): float16 rounds a length by less than half of it


class Block(NamedTuple):
    """Some chunks, in the order of adding, and the vector of each, to the bit as it is stored, shape (n, d)."""

    chunks: list[Chunk]
    vectors: StoredMatrix


class Content:
    """One committed state of a collection, to be read once; made by `content_of`."""

    def __init__(self, generation: OpenGeneration, session: Session, matrix: StoredMatrix) -> None:
        self.settings: Mapping[str, Any] = generation.settled().to_json()  # as in collection.json, except its format
        self.chunks = session.state.live
        self.clock = session.clock()  # the time of the last put of a record, in seconds since the epoch
        self._matrix = matrix
        self._session = session
        self._where = generation.paths.root

    def blocks(self) -> Iterator[Block]:
        """Yield all chunks, each compared with its checksum: nothing of a block with a damaged one is yielded."""
        width = max(1, self._matrix.shape[1] * self._matrix.itemsize) if len(self._matrix) else 1
        size, after = max(1, min(_BLOCK_ROWS, BLOCK_BYTES // width)), -1
        while stored := self._session.scan(after, size):
            require_intact(stored, self._matrix, self._where)
            rows = np.array([chunk.row for chunk in stored])
            yield Block([chunk.to_chunk() for chunk in stored], self._matrix.take(rows, axis=0))
            after = stored[-1].row

    def records(self) -> Iterator[Entry]:
        """Yield the records of all spaces that a program has named, by scope, space and key."""
        return (entry for entry in self._session.entries() if not entry.space.startswith("\0"))


@contextmanager
def content_of(collection: Collection) -> Iterator[Content]:
    """Yield what a collection holds, as of one commit; writes go on meanwhile. A handle with a scope is refused."""
    handle = handle_of(collection)
    handle.scope.refuse("an export")
    generation, session, matrix = handle.reading()
    with session:
        yield Content(generation, session, matrix)


def reported(blocks: Iterable[Block], stage: str, total: int, progress: Progress | None) -> Generator[Block, None, int]:
    """Yield blocks, call *progress* when each was used, and return the number of chunks in them."""
    done = 0
    for block in blocks:
        yield block
        done += len(block.chunks)
        if progress is not None:
            progress(stage, done, total)
    return done


def receive(
    root: Path,
    settings: Settings,
    blocks: Iterable[Block],
    records: Iterable[Entry],
    *,
    clock: float,
    limits: Limits,
) -> tuple[int, int]:
    """Make a new collection of what another held: complete under its name, or not there at all.

    Vectors are kept to the bit, so they must be as they would be stored: of the settings' dtype, and of length 1 under
    cosine. No embedder is loaded: the contract is taken over with the settings.

    Args:
        root: an absent or empty directory; after an error nothing is left there.
        settings: as `Settings.from_json` reads them.
        blocks: all chunks, in the order of adding.
        records: all records; one that is later than *clock* moves it.
        clock: the time of the last put of a record, in seconds since the epoch.
        limits: of texts and metadata.

    Returns:
        The numbers of chunks and records.
    """
    with layout.new_directory(root) as fresh:
        paths = layout.Generation(fresh / layout.FIRST_GENERATION, settings.dtype)
        lay_out(paths, settings)
        store = Store(paths, settings.dimension, read_only=False)
        try:
            chunks = _fill(store, settings, blocks, limits)
            # All at once: the ledger is small next to the chunks, and the newest time in it must be known first.
            entries = list(_distinct(records))
            store.put_records(entries, max([clock, *(entry.time for entry in entries)]))
        finally:
            store.close()
        name_current(fresh, paths)
    return chunks, len(entries)


def _distinct(records: Iterable[Entry]) -> Iterator[Entry]:
    """Refuse records that no put would have stored, and a key that occurs twice in its space."""
    seen: set[tuple[str, str, str]] = set()
    for entry in records:
        require_storable(entry)
        if entry[:3] in seen:
            raise InvalidInput(f"key {entry.key!r:.80} comes twice in space {entry.space!r:.80}; leave one of them out")
        seen.add(entry[:3])
        yield entry


def _fill(store: Store, settings: Settings, blocks: Iterable[Block], limits: Limits) -> int:
    done = 0
    for chunks, vectors in blocks:
        checked = check_chunks(chunks, done)
        require_sizes(checked, limits)
        present = store.existing([chunk.id for chunk in checked])
        if present:
            raise InvalidInput(f"chunk {next(iter(present))!r} comes twice; ids are unique: leave one of them out")
        _require_as_stored(vectors, settings, done)
        if len(vectors) != len(checked):
            raise InvalidVectors(f"{len(checked)} chunks from number {done} on, and {len(vectors)} vectors")
        store.put(checked, vectors, [])
        done += len(checked)
    return done


def _require_as_stored(vectors: StoredMatrix, settings: Settings, first: int) -> None:
    """Refuse vectors that `add` would not have stored like this, to the bit."""
    if vectors.dtype != settings.dtype:
        raise InvalidVectors(f"vectors from row {first} on are {vectors.dtype}; the settings say {settings.dtype}")
    # Not to_float32: its halves must be finite, and these come from a file.
    wide = vectors.astype(np.float32)
    to_matrix(wide, dimension=settings.dimension, metric=settings.metric, what="vectors", first=first)
    if settings.metric is Metric.COSINE and len(wide):
        lengths = np.linalg.norm(wide, axis=1)
        worst = int(np.argmax(np.abs(lengths - 1)))
        if abs(lengths[worst] - 1) > _UNIT:
            raise InvalidVectors(
                f"vectors: row {first + worst} has length {lengths[worst]:.4g}; under cosine they are kept with "
                "length 1: divide it by its length"
            )
