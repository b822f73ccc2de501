"""Build, extend and measure indexes, and put one in use.

What builds returns a `Built`, which nothing uses yet: a build takes minutes, in which writes go on. Its caller calls
`publish` while it holds the lock that writing takes.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reperio import index
from reperio.collection.generation.opened import OpenGeneration
from reperio.errors import IndexBuildFailed, MissingDependency, StorageFailed
from reperio.index import Goal, IndexDescription, Recipe, Searcher, SnapshotUnusable, Target, searcher_of
from reperio.layout import BUILDING
from reperio.printable import logger
from reperio.store import SnapshotEntry
from reperio.types import FloatMatrix, IndexInfo, Progress

_log = logger("reperio.collection")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Order:
    """The kind of index to build.

    Attributes:
        goal: what the index is chosen for.
        factory: the user's own choice; None for the best recipe.
        queries: held-out queries to tune with; None for those kept from before, or stored vectors.
        thorough: try other recipes when the first misses the goal, and tune with many queries; False for a background
            build, which must be cheap.
        device: "cpu" for a build that nobody waits for: a process whose threads use a card unasked cannot fork.
    """

    goal: Goal
    factory: str | None = None
    queries: FloatMatrix | None = None
    thorough: bool = True
    device: index.Device = "cpu"


BACKGROUND = Order(Goal(prefer="memory"), thorough=False)
"""The order of a build that nobody asked for: codes take a fraction of the time that a graph takes."""

_RECIPES_TRIED = 3
_WORTH_A_CARD = 20_000  # rows below which the processor is done before a card is ready


class Built(NamedTuple):
    """An index that is written and not in use yet; without a searcher, the decision that searches are exact."""

    description: IndexDescription | None
    searcher: Searcher | None

    @property
    def covered(self) -> int:
        """Number of rows in the index."""
        return self.description.rows if self.description is not None and self.searcher is not None else 0

    def to_info(self) -> IndexInfo | None:
        """Return what users are shown; None for exact search."""
        return self.description.to_info() if self.description is not None and self.searcher is not None else None


def build_index(
    generation: OpenGeneration,
    order: Order,
    *,
    workers: int,
    progress: Progress | None = None,
) -> Built:
    """Build the best index for *order* over all committed rows, and measure it.

    Recipes are taken in the order in which rules rank them, and the first is kept that measurably reaches the recall
    in less time than exact search. If none does, the first is kept for the recalls that it reaches.

    Args:
        generation: the writer's.
        order: what kind of index.
        workers: threads for FAISS.
        progress: called with the stages "train", "index", "answers" and "tune".

    Raises:
        InvalidInput: no recipe serves the goal.
        CollectionClosed: the collection is no longer at its path; nothing was written.
        DeviceUnavailable, MissingDependency: the order is for a card, and none can be used.
        IndexBuildFailed, StorageFailed: the previous index stays in use.
    """
    generation.store.require_in_place()
    generation.require_directory()
    small = order.device == "auto" and generation.store.state.rows < _WORTH_A_CARD
    card = None if small else index.find_card(order.device)
    try:
        return _build_best(generation, order, card, workers=workers, progress=progress)
    except IndexBuildFailed as error:
        if card is None or order.device != "auto":
            raise
        _log.warning("the index is built without the graphics card: %s", error)
        on_processor = replace(order, device="cpu", factory=order.factory and index.on_processor(order.factory))
        return _build_best(generation, on_processor, None, workers=workers, progress=progress)


def _build_best(
    generation: OpenGeneration, order: Order, card: index.Card | None, *, workers: int, progress: Progress | None
) -> Built:
    """Do what `build_index` says, on a card or without one."""
    matrix = generation.vectors()
    recipes = _recipes(generation, order, card)
    if recipes[0].exact or len(matrix) == 0:
        return Built(
            IndexDescription.of_exact(recipes[0], generation.settings.metric) if recipes[0].requested else None, None
        )
    if order.queries is not None:
        index.keep(order.queries, generation.paths.index)
    made: tuple[Searcher, index.Provenance] | None = None
    for recipe in recipes if order.thorough else recipes[:1]:
        fresh = _build(generation, recipe, order, card, workers=workers, progress=progress)
        reached = recipe.requested or _reaches(fresh[0], order.goal.recall)
        made = fresh if reached or made is None else made
        if reached:
            break
    assert made is not None
    try:
        # The scratch directory holds the last index built, finished. An earlier one is written from memory.
        return _write(generation, *made, scratch=generation.paths.index / BUILDING if made is fresh else None)
    finally:
        _forget_scratch(generation)


def _forget_scratch(generation: OpenGeneration) -> None:
    """Remove the files from which an interrupted build would resume."""
    scratch = generation.paths.index / BUILDING
    index.discard(scratch)
    with contextlib.suppress(OSError):
        scratch.rmdir()


def _recipes(generation: OpenGeneration, order: Order, card: index.Card | None = None) -> list[Recipe]:
    """Return what to try, best first; an exact recipe, where rules prefer it, ends the list."""
    if order.factory is not None:
        return [index.requested(order.factory)]
    cagra = card is not None and card.builds_graphs
    if order.device == "gpu" and not cagra and order.goal.prefer == "latency":
        _log.warning(
            "a graph is built by the processor, for this FAISS has no cuVS; run: pip uninstall faiss-gpu, then pip "
            "install 'reperio[gpu-cuvs]', for graphs that the card builds"
        )
    settings, rows = generation.settings, generation.store.state.rows
    if index.choose(rows, settings.dimension, settings.metric, order.goal).exact:
        return [index.choose(rows, settings.dimension, settings.metric, order.goal)]
    spectrum = index.spectrum(generation.vectors(), settings.metric)
    ranked = index.advise(
        rows,
        settings.dimension,
        settings.metric,
        order.goal,
        spectrum=spectrum,
        # Searches are quickest in its graphs, but no card builds them.
        symphony=index.symphony_is_installed() and order.device != "gpu",
        cagra=cagra,
    )
    promising = [recipe for recipe in ranked if not recipe.exact][:_RECIPES_TRIED]
    return promising or ranked[:1]


def _build(
    generation: OpenGeneration,
    recipe: Recipe,
    order: Order,
    card: index.Card | None,
    *,
    workers: int,
    progress: Progress | None,
) -> tuple[Searcher, index.Provenance]:
    """Build and measure one index; it is neither written nor in use yet."""
    settings, matrix = generation.settings, generation.vectors()
    scratch = generation.paths.index / BUILDING
    saving = index.Saving(finished=order.thorough)  # measuring takes long enough to be killed in
    built = index.build(
        recipe, matrix, settings.metric, workers=workers, progress=progress, scratch=scratch, saving=saving, card=card
    )
    searcher = searcher_of(built)
    tuned = _tune(generation, searcher, recipe.factory, order.queries, thorough=order.thorough, progress=progress)
    searcher = searcher_of(built, tuned.points, tuned.gather)
    distortion = index.distortion(built, matrix, range(len(matrix)))
    return searcher, index.Provenance(recipe, order.goal, len(matrix), distortion, tuned.origin)


_TELLING_ROWS = 1000  # fewer new rows say little about whether what is stored has changed


def _tune(
    generation: OpenGeneration,
    searcher: Searcher,
    factory: str,
    queries: FloatMatrix | None,
    *,
    thorough: bool,
    progress: Progress | None = None,
) -> index.Tuned:
    settings = generation.settings
    matrix = generation.vectors()[: searcher.rows]
    given = queries if queries is not None else index.kept(generation.paths.index, settings.dimension)
    asked = index.questions(matrix, settings.metric, given=given, factory=factory, thorough=thorough)
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
    generation: OpenGeneration, queries: FloatMatrix | None, *, progress: Progress | None = None
) -> Built | None:
    """Measure the index in use again; None where there is none.

    Raises:
        SnapshotUnusable: the index is missing or damaged.
        CollectionClosed: as for `build_index`.
    """
    generation.store.require_in_place()
    description, settings = generation.description(), generation.settings
    if description is None or description.exact:
        return None
    if queries is not None:
        index.keep(queries, generation.paths.index)
    loaded = index.read(description, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
    searcher = searcher_of(loaded)
    if searcher.waits:
        raise MissingDependency(
            "the index is a SymphonyQG graph, and can be measured where rabitqlib is installed and there is memory for "
            "it; run: pip install 'reperio[graph]', or optimize() for another index"
        )
    tuned = _tune(generation, searcher, description.factory, queries, thorough=True, progress=progress)
    fresh = description.retuned(tuned)
    return Built(fresh, fresh.to_searcher(loaded))


def extend_index(generation: OpenGeneration, description: IndexDescription, *, workers: int) -> Built | None:
    """Add the rows that are newer than the index to a copy of it.

    Returns:
        None when the new rows differ too much from those that the index was trained on: it must be built again.
    """
    settings, matrix = generation.settings, generation.vectors()
    grown = index.read(description, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
    if (
        description.distortion is not None
        and not description.requested
        and len(matrix) - description.rows >= _TELLING_ROWS
    ):
        fresh = index.distortion(grown, matrix, range(description.rows, len(matrix)))
        if fresh is not None and index.drifted(description.distortion, fresh):
            return None
    grown = index.extend(grown, matrix, settings.metric, description.factory, workers=workers)
    searcher = description.to_searcher(grown)
    provenance = index.Provenance(
        description.to_recipe(),
        description.to_goal(),
        description.trained_for,
        description.distortion,
        description.queries,
    )
    return _write(generation, searcher, provenance)


def _write(
    generation: OpenGeneration, searcher: Searcher, provenance: index.Provenance, *, scratch: Path | None = None
) -> Built:
    # A handle learns from the name alone that it must load another index, so no name may be used twice, not even that
    # of an index whose file is gone. The commit number makes it unique.
    with generation.store.session() as session:
        number = session.state.seq + 1
    metric = generation.settings.metric
    directory = generation.paths.index
    generation.store.require_in_place()  # again: the build took minutes, in which the lock may have been lost
    description = index.write(searcher, directory, number, metric=metric, provenance=provenance, scratch=scratch)
    return Built(description, searcher)


def publish(generation: OpenGeneration, built: Built) -> None:
    """Put what was built in use, durably; the caller holds the lock that writing takes.

    The files of older indexes stay: `remove_older` needs no lock.
    """
    description, searcher = built
    if description and searcher:
        generation.adopt(description.name, searcher)  # first: a reader in this process loads what the commit names
    entry = SnapshotEntry(description.name, description.rows, description.to_json()) if description else None
    try:
        generation.store.use_snapshot(entry)
    except StorageFailed:
        if (
            description and searcher and not description.revision
        ):  # a retuned index has its file in common with the one in use
            # The new files take the space that a full disk lacks; those of graphs that stay are in use.
            for name in {description.file, Path(description.file).with_suffix(".symqg").name}:
                (generation.paths.index / name).unlink(missing_ok=True)
        raise


def remove_older(generation: OpenGeneration, built: Built) -> None:
    """Log which index is in use, and remove the files of others."""
    description = built.description
    if description and built.searcher:
        _log.info("%s: index in use: %s over %d rows", generation.paths.root, description.factory, description.rows)
    else:
        _log.info("%s: no index in use: searches are exact", generation.paths.root)
    index.remove_others(generation.paths.index, description.files if description else ())


def refresh_index(generation: OpenGeneration, *, workers: int) -> Built | None:
    """Bring the index up to date in the cheapest way that keeps it good: extend it, or build another.

    Returns:
        None where the user asked for exact search.
    """
    rows = generation.store.state.rows
    description = generation.description()
    if description is not None and description.exact:
        return None
    if description is not None and (
        description.requested or not index.training_is_due(rows, description.trained_for, description.factory)
    ):
        try:
            extended = extend_index(generation, description, workers=workers)
        except SnapshotUnusable as error:
            _log.warning("the index cannot be extended and is built again: %s", error)
        else:
            if extended is not None:
                return extended
            _log.warning("the index is trained again: what was added is unlike what it was trained on")
    return build_index(generation, like(description), workers=workers)


def like(description: IndexDescription | None) -> Order:
    """Return the order for an index like the one described; the default where there is none."""
    if description is None:
        return BACKGROUND
    factory = index.on_processor(description.factory) if description.requested else None
    return Order(description.to_goal(), "exact" if description.exact else factory, thorough=False)
