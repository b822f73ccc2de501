"""Building indexes: on demand, and in the background when the tail has become too long to be searched exactly."""

from __future__ import annotations

import logging
import os
import threading
import time

from recollect import index
from recollect.collection.generation import OpenGeneration
from recollect.errors import RecollectError, StorageFailed
from recollect.index import Recipe, Record, Searcher, SnapshotUnusable
from recollect.store import SnapshotRecord
from recollect.types import Progress

_NOTHING, _EVERYTHING = -(1 << 62), 1 << 62  # rows covered by an index that is unusable, and by exact search
_log = logging.getLogger("recollect")
_REST = 4.0
"""A background build is followed by a rest of this many times its duration: at most a fifth of the time is spent."""

_QUIET_SECONDS, _PATIENCE_SECONDS = 0.1, 2.0
"""A bulk load is let pass before a build: until nothing has been committed for so long, but no longer than that."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def build_index(
    generation: OpenGeneration,
    recipe: Recipe,
    *,
    writing: threading.RLock,
    workers: int,
    progress: Progress | None = None,
) -> Record | None:
    """Build the index that *recipe* says over all committed rows, and put it in use.

    Args:
        generation: the writer's.
        recipe: an exact one removes the index.
        writing: held only while the new index is recorded: adds go on during the build.
        workers: threads for FAISS.
        progress: called per block.

    Returns:
        The record of the index now in use; None for exact search.

    Raises:
        IndexBuildFailed, StorageFailed: the index before stays in use.

    """
    matrix = generation.vectors()
    if recipe.exact or len(matrix) == 0:
        exact = Record.of_exact(recipe, generation.settings.metric) if recipe.requested else None
        _put_in_use(generation, exact, None, writing)
        return None
    metric = generation.settings.metric
    searcher = Searcher(index.build(recipe, matrix, metric, workers=workers, progress=progress))
    searcher.points = index.tune(searcher, matrix, metric, searcher.table)
    return _write(generation, searcher, recipe, trained_for=len(matrix), writing=writing)


def extend_index(
    generation: OpenGeneration, record: Record, *, writing: threading.RLock, workers: int
) -> Record | None:
    """Add the rows that are newer than the index to a fresh copy of it, and put that in use."""
    settings = generation.settings
    grown = index.read(record, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
    index.extend(grown, generation.vectors(), workers=workers)
    searcher = Searcher(grown, record.to_points())
    return _write(generation, searcher, record.to_recipe(), trained_for=record.trained_for, writing=writing)


def _write(
    generation: OpenGeneration,
    searcher: Searcher,
    recipe: Recipe,
    *,
    trained_for: int,
    writing: threading.RLock,
) -> Record:
    directory = generation.paths.index
    metric = generation.settings.metric
    # Numbered by commit, no name comes twice, not even that of an index whose file went missing: by the name alone a
    # handle sees that there is another index to load.
    with generation.store.session() as session:
        number = session.state.seq + 1
    record = index.write(searcher, directory, number, recipe=recipe, metric=metric, trained_for=trained_for)
    try:
        _put_in_use(generation, record, searcher, writing)
    except StorageFailed:
        (directory / record.file).unlink(missing_ok=True)  # it takes the space that a full disk lacks
        raise
    return record


def _put_in_use(
    generation: OpenGeneration, record: Record | None, searcher: Searcher | None, writing: threading.RLock
) -> None:
    name = record.name if record else None
    if record and searcher:
        generation.adopt(record.name, searcher)
    with writing:
        entry = SnapshotRecord(record.name, record.rows, record.to_json()) if record else None
        generation.store.record_snapshot(entry)
    for path in generation.paths.index.glob("snapshot-*"):
        if path.name != name:
            path.unlink(missing_ok=True)


class Maintainer:
    """Keeps the index of a writer's collection close behind its rows, in a background thread.

    Args:
        generation: what to maintain; replaced through `watch` when the collection is compacted.
        writing: the lock under which the store is written.
        building: the lock under which indexes are built, one at a time.

    """

    def __init__(
        self,
        generation: OpenGeneration,
        *,
        writing: threading.RLock,
        building: threading.RLock,
        enabled: bool,
    ) -> None:
        self._generation = generation
        self._writing = writing
        self._building = building
        self._enabled = enabled
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._covered: int | None = None  # rows that need no attention; None: not known, ask the record

    def watch(self, generation: OpenGeneration) -> None:
        """Maintain another generation from now on; call with the building lock held."""
        self._generation = generation
        self._covered = None

    def forget(self) -> None:
        """Ask the record again: the index was changed."""
        self._covered = None

    def rebuild(self) -> None:
        """Build an index however short the tail: the recorded one proved unusable."""
        self._covered = _NOTHING
        self.consider()

    def consider(self) -> None:
        """Start a build if one is due. Cheap enough to be called after every commit."""
        if self._enabled and self._is_due() and not self._closing.is_set():
            with self._starting:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._work, name="recollect-build", daemon=True)
                    self._thread.start()

    def close(self, *, finish: bool) -> None:
        """Wait for a build in progress; *finish*: do one that is due."""
        self._closing.set()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()
        if finish and self._enabled and self._is_due():
            self._build_quietly(cores())

    def _is_due(self) -> bool:
        if self._covered is None:
            record = self._generation.record()
            if record is None:
                self._covered = 0
            else:
                self._covered = _EVERYTHING if record.exact else record.rows
        return index.extension_is_due(self._generation.store.state.rows, self._covered)

    def _work(self) -> None:
        while self._is_due() and not self._closing.is_set():
            self._let_pass()
            started = time.monotonic()
            if self._closing.is_set() or not self._build_quietly(max(1, cores() // 2)):
                return
            self._closing.wait(_REST * (time.monotonic() - started))

    def _let_pass(self) -> None:
        deadline, seen = time.monotonic() + _PATIENCE_SECONDS, -1
        while seen != self._generation.store.state.seq and time.monotonic() < deadline:
            seen = self._generation.store.state.seq
            if self._closing.wait(_QUIET_SECONDS):
                return

    def _build_quietly(self, workers: int) -> bool:
        """Build, and only log a failure: an index is disposable, searches stay right without it."""
        try:
            with self._building:
                record = refresh_index(self._generation, writing=self._writing, workers=workers)
                self._covered = record.rows if record else None
        except RecollectError as error:
            _log.warning("the index could not be built, searches stay exact beyond the one before: %s", error)
            self._covered = self._generation.store.state.rows  # try again when the tail has grown as much again
            return False
        return True


def refresh_index(
    generation: OpenGeneration, *, writing: threading.RLock, workers: int, progress: Progress | None = None
) -> Record | None:
    """Bring the index up to date in the cheapest way that keeps it good: extend it, or build it anew."""
    rows = generation.store.state.rows
    record = generation.record()
    if record is not None and record.exact:
        return None
    if record is not None and (record.requested or not index.training_is_due(rows, record.trained_for)):
        try:
            return extend_index(generation, record, writing=writing, workers=workers)
        except SnapshotUnusable as error:
            _log.warning("the index cannot be extended and is built anew: %s", error)
    settings = generation.settings
    wanted = record.to_recipe() if record and record.requested else None
    recipe = wanted or index.choose(rows, settings.dimension)
    return build_index(generation, recipe, writing=writing, workers=workers, progress=progress)
