"""Building indexes: on demand, and in the background when the tail has become too long to be searched exactly."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reperio import index
from reperio.collection.generation.opened import OpenGeneration
from reperio.errors import CollectionClosed, CollectionError, ReperioError, StorageFailed
from reperio.index import Goal, Recipe, Record, Searcher, SnapshotUnusable, Target
from reperio.layout import BUILDING
from reperio.printable import logger
from reperio.store import SnapshotRecord
from reperio.types import FloatMatrix, Progress

_NOTHING, _EVERYTHING = -(1 << 62), 1 << 62  # rows covered by an index that is unusable, and by exact search
_log = logger("reperio.collection")
_REST = 4.0
"""A background build is followed by a rest of this many times its duration: at most a fifth of the time is spent."""

_QUIET_SECONDS, _PATIENCE_SECONDS = 0.1, 2.0
"""A bulk load is let pass before a build: until nothing has been committed for so long, but no longer than that."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Order:
    """An index to be had.

    Attributes:
        goal: what it is chosen for.
        factory: the user's own choice; None for the best recipe.
        queries: held-out queries to tune with; None for those kept from before, or stored vectors.
        thorough: try other recipes when the first misses the goal, and tune with many queries; False for a background
            build, which is to be cheap.

    """

    goal: Goal
    factory: str | None = None
    queries: FloatMatrix | None = None
    thorough: bool = True


BACKGROUND = Order(Goal(prefer="memory"), thorough=False)
"""What a collection gets unasked: codes are trained and extended in a fraction of the time that a graph takes."""

_RECIPES_TRIED = 3


def build_index(
    generation: OpenGeneration,
    order: Order,
    *,
    writing: threading.RLock,
    workers: int,
    progress: Progress | None = None,
) -> Record | None:
    """Build the best index for *order* over all committed rows, measure it, and put it in use.

    Recipes are taken in the order in which rules rank them, and the first is kept that measurably reaches the recall
    in less time than exact search. If none does, the first is kept for the recalls that it reaches.

    Args:
        generation: the writer's.
        order: what is wanted.
        writing: held only while the new index is recorded: adds go on during the build.
        workers: threads for FAISS.
        progress: called with the stages "train", "index" and "tune".

    Returns:
        The record of the index now in use; None for exact search.

    Raises:
        InvalidInput: no recipe serves the goal.
        CollectionClosed: the collection is no longer at its path; nothing was written.
        IndexBuildFailed, StorageFailed: the index before stays in use.

    """
    generation.store.require_permitted()
    matrix = generation.vectors()
    recipes = _recipes(generation, order)
    if recipes[0].exact or len(matrix) == 0:
        exact = Record.of_exact(recipes[0], generation.settings.metric) if recipes[0].requested else None
        _put_in_use(generation, exact, None, writing)
        return None
    if order.queries is not None:
        index.keep(order.queries, generation.paths.index)
    made: tuple[Searcher, index.Provenance] | None = None
    for recipe in recipes if order.thorough else recipes[:1]:
        fresh = _build(generation, recipe, order, workers=workers, progress=progress)
        reached = recipe.requested or _reaches(fresh[0], order.goal.recall)
        made = fresh if reached or made is None else made
        if reached:
            break
    assert made is not None
    try:
        # The last one built lies in the scratch directory, finished; another is written from memory.
        record = _write(generation, *made, scratch=generation.paths.index / BUILDING if made is fresh else None)
    finally:
        _forget_scratch(generation)
    _put_in_use(generation, record, made[0], writing)
    return record


def _forget_scratch(generation: OpenGeneration) -> None:
    """Remove what an interrupted build would have gone on from."""
    scratch = generation.paths.index / BUILDING
    index.discard(scratch)
    with contextlib.suppress(OSError):
        scratch.rmdir()


def _recipes(generation: OpenGeneration, order: Order) -> list[Recipe]:
    """Return what to try, best first; an exact recipe, where rules prefer it, ends the list."""
    if order.factory is not None:
        return [index.requested(order.factory)]
    settings, rows = generation.settings, generation.store.state.rows
    if index.choose(rows, settings.dimension, settings.metric, order.goal).exact:
        return [index.choose(rows, settings.dimension, settings.metric, order.goal)]
    spectrum = index.spectrum(generation.vectors(), settings.metric)
    ranked = index.advise(rows, settings.dimension, settings.metric, order.goal, spectrum=spectrum)
    promising = [recipe for recipe in ranked if not recipe.exact][:_RECIPES_TRIED]
    return promising or ranked[:1]


def _build(
    generation: OpenGeneration, recipe: Recipe, order: Order, *, workers: int, progress: Progress | None
) -> tuple[Searcher, index.Provenance]:
    """Build and measure one index; it is neither written nor in use yet."""
    settings, matrix = generation.settings, generation.vectors()
    scratch = generation.paths.index / BUILDING
    saving = index.Saving(finished=order.thorough)  # measuring takes long enough to be killed in
    built = index.build(
        recipe, matrix, settings.metric, workers=workers, progress=progress, scratch=scratch, saving=saving
    )
    searcher = Searcher(built)
    tuned = _tune(generation, searcher, order.queries, thorough=order.thorough, progress=progress)
    searcher = Searcher(built, tuned.points, tuned.gather)
    distortion = index.distortion(built, matrix, range(len(matrix)))
    return searcher, index.Provenance(recipe, order.goal, len(matrix), distortion, tuned.origin)


_TELLING_ROWS = 1000  # fewer new rows say little about whether what is stored has changed


def _tune(
    generation: OpenGeneration,
    searcher: Searcher,
    queries: FloatMatrix | None,
    *,
    thorough: bool,
    progress: Progress | None = None,
) -> index.Tuned:
    settings = generation.settings
    matrix = generation.vectors()[: searcher.rows]
    given = queries if queries is not None else index.kept(generation.paths.index, settings.dimension)
    asked = index.questions(matrix, settings.metric, given=given, graph=searcher.is_graph, thorough=thorough)
    if thorough and not asked.given:
        _log.warning(
            "the index is tuned with stored vectors, which flatter it where questions are of another kind than what is "
            "stored; pass queries= (--queries) to optimize or tune"
        )
    target = Target(matrix, settings.metric, len(matrix), None, searcher)
    return index.measure(target, asked, thorough=thorough, progress=progress)


def _reaches(searcher: Searcher, recall: float) -> bool:
    """Say whether the index reaches the recall in less time than exact search."""
    point = index.cheapest(searcher.points, recall, index.MEASURED_K[0])
    return point is not None and point.candidates > 0


def tune_index(
    generation: OpenGeneration,
    queries: FloatMatrix | None,
    *,
    writing: threading.RLock,
    progress: Progress | None = None,
) -> Record | None:
    """Measure the index in use again, and put the points found in use; None where there is no index.

    Raises:
        SnapshotUnusable: the index is missing or damaged.
        CollectionClosed: as for `build_index`.

    """
    generation.store.require_permitted()
    record, settings = generation.record(), generation.settings
    if record is None or record.exact:
        return None
    if queries is not None:
        index.keep(queries, generation.paths.index)
    loaded = index.read(record, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
    tuned = _tune(generation, Searcher(loaded), queries, thorough=True, progress=progress)
    fresh = record.retuned(tuned)
    _put_in_use(generation, fresh, fresh.to_searcher(loaded), writing)
    return fresh


def extend_index(
    generation: OpenGeneration, record: Record, *, writing: threading.RLock, workers: int
) -> Record | None:
    """Add the rows that are newer than the index to a fresh copy of it, and put that in use.

    Returns:
        None when the new rows are too unlike those that the index was trained on: it is to be built anew.

    """
    settings, matrix = generation.settings, generation.vectors()
    grown = index.read(record, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
    if record.distortion is not None and not record.requested and len(matrix) - record.rows >= _TELLING_ROWS:
        fresh = index.distortion(grown, matrix, range(record.rows, len(matrix)))
        if fresh is not None and index.drifted(record.distortion, fresh):
            return None
    index.extend(grown, matrix, workers=workers)
    searcher = record.to_searcher(grown)
    provenance = index.Provenance(
        record.to_recipe(), record.to_goal(), record.trained_for, record.distortion, record.queries
    )
    extended = _write(generation, searcher, provenance)
    _put_in_use(generation, extended, searcher, writing)
    return extended


def _write(
    generation: OpenGeneration, searcher: Searcher, provenance: index.Provenance, *, scratch: Path | None = None
) -> Record:
    # Numbered by commit, no name comes twice, not even that of an index whose file went missing: by the name alone a
    # handle sees that there is another index to load.
    with generation.store.session() as session:
        number = session.state.seq + 1
    metric = generation.settings.metric
    directory = generation.paths.index
    generation.store.require_permitted()  # building has taken its time
    return index.write(searcher, directory, number, metric=metric, provenance=provenance, scratch=scratch)


def _put_in_use(
    generation: OpenGeneration, record: Record | None, searcher: Searcher | None, writing: threading.RLock
) -> None:
    if record and searcher:
        generation.adopt(record.name, searcher)
    with writing:
        entry = SnapshotRecord(record.name, record.rows, record.to_json()) if record else None
        try:
            generation.store.record_snapshot(entry)
        except StorageFailed:
            if record and searcher and not record.revision:  # exact search has no file
                # It takes the space that a full disk lacks.
                (generation.paths.index / record.file).unlink(missing_ok=True)
            raise
    if record and searcher:
        _log.info("%s: index in use: %s over %d rows", generation.paths.root, record.factory, record.rows)
    else:
        _log.info("%s: no index in use: searches are exact", generation.paths.root)
    index.remove_others(generation.paths.index, record.file if record else None)


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
        self._starting = threading.RLock()  # a signal handler may close the collection amid `consider`
        self._thread: threading.Thread | None = None
        self._told = False  # that no index can be built
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
                    self._thread = threading.Thread(target=self._work, name="reperio-build", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        """Begin no further build in the background."""
        self._closing.set()

    def close(self, *, finish: bool) -> None:
        """Wait for a build in progress; *finish*: do one that is due."""
        self.stop()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()
        if finish and self._enabled and self._is_due():
            self._build_quietly(cores())

    def _is_due(self) -> bool:
        if self._covered is None:
            try:
                record = self._generation.record()
            except CollectionError as error:  # a commit has been made: what is wrong, the next call tells
                _log.info("%s: its index cannot be looked after: %s", self._generation.paths.root, error)
                return False
            if record is None:
                self._covered = 0
            else:
                self._covered = _EVERYTHING if record.exact else record.rows
        return index.extension_is_due(self._generation.store.state.rows, self._covered)

    def _work(self) -> None:
        while self._is_due() and not self._closing.is_set():
            self._let_pass()
            took = None if self._closing.is_set() else self._build_quietly(max(1, cores() // 2), unless=self._closing)
            if took is None:
                return
            self._closing.wait(_REST * took)

    def _let_pass(self) -> None:
        deadline, seen = time.monotonic() + _PATIENCE_SECONDS, -1
        while seen != self._generation.store.state.seq and time.monotonic() < deadline:
            seen = self._generation.store.state.seq
            if self._closing.wait(_QUIET_SECONDS):
                return

    def _build_quietly(self, workers: int, *, unless: threading.Event | None = None) -> float | None:
        """Build, and only log a failure: an index is disposable, searches stay right without it.

        Args:
            workers: threads for FAISS.
            unless: that happened while it waited for an `optimize`.

        Returns:
            Seconds that it took, without those spent waiting; None where nothing was built.

        """
        try:
            with self._building:
                if unless is not None and unless.is_set():
                    return None
                started = time.monotonic()
                record = refresh_index(self._generation, writing=self._writing, workers=workers)
                self._covered = record.rows if record else None
                return time.monotonic() - started
        except CollectionClosed as error:
            if not self._told:
                self._told = True
                _log.warning("no index is built through this handle: %s", error)
            self._covered = self._generation.store.state.rows
            return None
        except ReperioError as error:
            _log.warning("the index could not be built, searches stay exact beyond the one before: %s", error)
            self._covered = self._generation.store.state.rows  # try again when the tail has grown as much again
            return None


def refresh_index(
    generation: OpenGeneration, *, writing: threading.RLock, workers: int, progress: Progress | None = None
) -> Record | None:
    """Bring the index up to date in the cheapest way that keeps it good: extend it, or build it anew."""
    rows = generation.store.state.rows
    record = generation.record()
    if record is not None and record.exact:
        return None
    if record is not None and (record.requested or not index.training_is_due(rows, record.trained_for, record.factory)):
        try:
            extended = extend_index(generation, record, writing=writing, workers=workers)
        except SnapshotUnusable as error:
            _log.warning("the index cannot be extended and is built anew: %s", error)
        else:
            if extended is not None:
                return extended
            _log.warning("the index is trained anew: what was added is unlike what it was trained on")
    return build_index(generation, like(record), writing=writing, workers=workers, progress=progress)


def like(record: Record | None) -> Order:
    """Return the order for an index like the one recorded; the default where there is none."""
    if record is None:
        return BACKGROUND
    factory = record.factory if record.requested else None
    return Order(record.to_goal(), "exact" if record.exact else factory, thorough=False)
