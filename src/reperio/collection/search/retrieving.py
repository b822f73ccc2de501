"""Retrieve hits: from the newest view known, or in a read transaction when a commit has come in between."""

from __future__ import annotations

from itertools import count

from orjson import loads

from reperio import index
from reperio.collection.generation.masks import among
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.handle import REPLACED, Handle
from reperio.collection.search.candidates import candidates
from reperio.collection.search.choosing import choose
from reperio.collection.search.lanes import LANES
from reperio.collection.search.request import QueryBatch, SearchRequest
from reperio.collection.search.source import CommitSource
from reperio.collection.search.tracing import SearchTrace
from reperio.errors import CollectionError
from reperio.types import Chunk, FloatMatrix, Hit

_AGE = 1.0  # seconds for which CURRENT is not read again: a commit in a superseded generation tells its readers sooner


def retrieve_one(
    handle: Handle, batch: QueryBatch, request: SearchRequest, trace: SearchTrace | None = None
) -> list[Hit]:
    """Answer one question from the newest view known; search again only if a commit has come in between."""
    if batch.vectors is None or not request.plain:  # a model, or a reranker, may take long
        return _retrieve_one(handle, batch, request, trace)
    with LANES:
        return _retrieve_one(handle, batch, request, trace)


def _retrieve_one(handle: Handle, batch: QueryBatch, request: SearchRequest, trace: SearchTrace | None) -> list[Hit]:
    generation = handle.current(max_age=_AGE)
    view = generation.latest
    # A file that others have cut short would end the process; the session tells of it.
    if view is None or not request.plain or not view.is_there():
        return retrieve_many(handle, batch, request, trace)[0]
    target = view.target if request.tree is None else view.masks.known(request.tree)
    if target is None or not target.count:
        return retrieve_many(handle, batch, request, trace)[0]
    try:
        queries = batch.matrix(generation)
    except REPLACED:
        if handle.newer_than(generation) is None:
            raise
        return _retrieve(handle, batch, request, trace, _prepared(handle, batch))[0]
    if trace is not None:
        trace.target = target
    rows, scores = index.search_one(target, queries[0], request.k, request.recall)
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
    return _retrieve(handle, batch, request, trace, (generation, queries))[0]


def retrieve_many(
    handle: Handle, batch: QueryBatch, request: SearchRequest, trace: SearchTrace | None = None
) -> list[list[Hit]]:
    """Answer questions over one committed state."""
    if not batch.number:
        return []
    return _retrieve(handle, batch, request, trace, _prepared(handle, batch) if request.needs_vector else None)


def _prepared(handle: Handle, batch: QueryBatch) -> tuple[OpenGeneration, FloatMatrix]:
    """Make the vectors of the questions for the generation read last, or for the one that has replaced it."""
    return handle.on_current(lambda generation: (generation, batch.matrix(generation)), first=handle.generation)


def _retrieve(
    handle: Handle,
    batch: QueryBatch,
    request: SearchRequest,
    trace: SearchTrace | None,
    prepared: tuple[OpenGeneration, FloatMatrix] | None,
) -> list[list[Hit]]:
    """Answer within one session; *prepared* are vectors and the generation they are for, None where none are needed."""
    while True:
        begun, session, view = handle.begin()
        with session:
            if prepared is None or begun is prepared[0]:
                target = view.masks.at(request.tree, session)
                if handle.scope.tree is not None and request.mode != "dense":
                    session.confine(view.masks.bits(handle.scope.tree, session))
                if request.ids is not None:
                    target = among(target, session.rows_of(request.ids))
                if trace is not None:
                    trace.target = target
                queries, source = None if prepared is None else prepared[1], CommitSource(session, target)
                with handle.admitted(batch.number * request.depth):
                    found = candidates(source, batch.texts, queries, request)
                break
        prepared = _prepared(handle, batch)
    for some in found:
        handle.scope.require_found((one.hit.chunk for one in some), handle.root.root)
    return choose(found, source.vectors, batch.texts, queries, request)
