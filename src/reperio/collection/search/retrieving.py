"""Query → hits: the newest view first, a read transaction when a commit has come in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from orjson import loads

from reperio import index
from reperio.collection.generation.masks import among
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import Handle
from reperio.collection.search.candidates import candidates, choose
from reperio.collection.search.request import Wanted
from reperio.collection.search.tracing import SearchTrace
from reperio.errors import CollectionError, EmbeddingContractError, InvalidVectors
from reperio.types import Chunk, FloatMatrix, Hit

Prepare = Callable[[OpenGeneration], FloatMatrix]
"""Makes checked query vectors for a generation: the next one may be of another dimension and model."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions of one search.

    Attributes:
        texts: None where only vectors were given.
        prepare: makes their vectors.
        number: how many.
        trace: where to tell what is searched; None where nobody asks.

    """

    texts: Sequence[str] | None
    prepare: Prepare
    number: int
    trace: SearchTrace | None = None


def retrieve_one(handle: Handle, asked: Asked, wanted: Wanted) -> list[Hit]:
    """Answer one query from the newest view known; search again only if a commit has come in between."""
    generation = handle.glanced()
    view = generation.latest
    target = view.masks.known(wanted.tree) if view is not None and wanted.plain else None
    # A file that others have cut short would end the process; the session tells of it.
    if view is None or target is None or not target.count or not view.is_there():
        return retrieve_many(handle, asked, wanted)[0]
    prepared_for, queries = _prepared(handle, generation, asked.prepare)
    if prepared_for is generation:
        if asked.trace is not None:
            asked.trace.target = target
        rows, scores = index.search_one(target, queries[0], wanted.k, wanted.recall)
        try:
            found = generation.store.fetch_at(view.seq, rows, view.target.matrix)
            if found is not None:
                hits = [
                    Hit(Chunk(one[0], one[1], loads(one[2])), score, rank)
                    for one, score, rank in zip(found, scores, count(1), strict=False)
                ]
                if handle.scope.tree is not None:
                    handle.scope.require_found((hit.chunk for hit in hits), handle.root.root)
                return hits
        except (CollectionError, ValueError):
            pass  # compacted away meanwhile, or damaged: the session below tells
    return _retrieve(handle, asked, wanted, prepared_for, queries)[0]


def retrieve_many(handle: Handle, asked: Asked, wanted: Wanted) -> list[list[Hit]]:
    """Answer queries over one committed state."""
    if not asked.number:
        return []
    if not wanted.needs_vector:
        return _retrieve(handle, asked, wanted, None, None)
    generation, queries = _prepared(handle, handle.last_read, asked.prepare)
    return _retrieve(handle, asked, wanted, generation, queries)


def _prepared(handle: Handle, generation: OpenGeneration, prepare: Prepare) -> tuple[OpenGeneration, FloatMatrix]:
    """Prepare queries for a generation, or, where it refuses them, for the one that has replaced it."""
    while True:
        try:
            return generation, prepare(generation)
        except (InvalidVectors, EmbeddingContractError, CollectionError):
            if handle.followed() is generation:
                raise
            generation = handle.last_read


def _retrieve(
    handle: Handle,
    asked: Asked,
    wanted: Wanted,
    generation: OpenGeneration | None,
    queries: FloatMatrix | None,
) -> list[list[Hit]]:
    """Answer within one session; *queries* are vectors prepared for *generation*, None where none are needed."""
    while True:
        begun, session, view = handle.begin()
        with session:
            if queries is None or begun is generation:
                target = view.masks.at(wanted.tree, session)
                if handle.scope.tree is not None and wanted.mode != "dense":
                    session.confine(view.masks.bits(handle.scope.tree, session))
                if wanted.ids is not None:
                    target = among(target, session.rows_of(wanted.ids))
                if asked.trace is not None:
                    asked.trace.target = target
                with handle.admitted(asked.number * wanted.depth):
                    found = candidates(session, target, asked.texts, queries, wanted)
                break
        generation, queries = _prepared(handle, begun, asked.prepare)
    for some in found:
        handle.scope.require_found((one.hit.chunk for one in some), handle.root.root)
    return choose(found, target.matrix, asked.texts, queries, wanted)
