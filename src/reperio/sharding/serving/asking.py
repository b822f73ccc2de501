"""Answer questions from shards: the counterpart of `collection.search.answering` for one collection."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.search.candidates import candidates
from reperio.collection.search.choosing import choose
from reperio.collection.search.request import QueryBatch, SearchRequest, embed_queries
from reperio.embedding.contract import Settings
from reperio.errors import warn_caller
from reperio.filters import Filter, to_dict
from reperio.printable import one_line
from reperio.query_log.recording import QueryRecorder
from reperio.sharding.serving.fleet import Fleet, Space, none_answers
from reperio.sharding.serving.handle import QUICK, ShardsHandle
from reperio.sharding.serving.messages import Narrowing
from reperio.sharding.serving.source import ShardsMoved, ShardSource
from reperio.store.words.lexical import UNANSWERED
from reperio.types import Embedder, FloatMatrix, Hit
from reperio.vectors import to_matrix, to_query


class PartialHits(list[Hit]):
    """Hits of those shards that have answered.

    Attributes:
        missing: names of the shards that have not.
    """

    def __init__(self, hits: list[Hit], missing: tuple[str, ...]) -> None:
        super().__init__(hits)
        self.missing = missing


class FollowingEmbedder(LazyEmbedder):
    """The embedder of the shards, which may be embedded again by another model while they are served.

    Args:
        given: what the user passed; None takes the one that the contract names, each time there is another one.
        path: of the shards, for messages.
    """

    def __init__(self, given: Embedder | str | None, path: str) -> None:
        super().__init__(given, path)
        self._follows = given is None
        self._of: object = None

    def get(self, settings: Settings) -> Embedder | None:
        """Return the embedder of these settings: see `LazyEmbedder.get`."""
        if self._follows and settings.contract is not None and settings.contract is not self._of:
            with self._lock:
                if self._of is not None:
                    self._loaded = None
                self._of = settings.contract
        return super().get(settings)


class ShardAsker:
    """What all questions to shards share.

    Args:
        handle: of the shards.
        embedder: of the shards.
        recorder: keeps what is asked by text; None for no log.
        allow_partial: answer though shards are missing.
    """

    def __init__(
        self,
        handle: ShardsHandle,
        embedder: FollowingEmbedder,
        recorder: QueryRecorder | None,
        *,
        allow_partial: bool,
    ) -> None:
        self._handle, self._embedder, self._recorder = handle, embedder, recorder
        self._allow_partial = allow_partial

    def ask(self, batch: QueryBatch, request: SearchRequest, where: Mapping[str, Any] | Filter | None) -> list[Hit]:
        """Answer one question; *where* is the filter as it was passed, for the log."""
        return self.ask_many(batch, request, where)[0]

    def ask_many(
        self, batch: QueryBatch, request: SearchRequest, where: Mapping[str, Any] | Filter | None
    ) -> list[list[Hit]]:
        """Answer many questions; *where* is the filter as it was passed, for the log."""
        if not batch.number:
            return []
        started = time.perf_counter()
        answers = self._handle.steadily(
            lambda fleet, until, attempt: self._answer(fleet, until, attempt, batch, request)
        )
        if self._recorder is not None and batch.texts is not None:
            self._recorder.record_all(batch.texts, answers, started, k=request.k, mode=request.mode, where=where)
        return answers

    def _answer(
        self, fleet: Fleet, until: float, attempt: int, batch: QueryBatch, request: SearchRequest
    ) -> list[list[Hit]]:
        missing: set[int] | None = set() if self._allow_partial else None
        space = fleet.space(until, missing)
        queries = self._vectors(batch, space) if request.needs_vector else None
        narrowing = narrowed(request.tree, self._handle.scope.tree, request.ids)
        source = ShardSource(fleet, space, narrowing, until=until, missing=missing, eager=attempt >= QUICK)
        try:
            found = candidates(source, batch.texts, queries, request)
            for some in found:
                self._handle.scope.require_found((one.hit.chunk for one in some), fleet.where)
            hits = choose(found, source.vectors, batch.texts, queries, request)
        except ShardsMoved:
            fleet.look(until, before=space, missing=missing)
            raise
        if source.has_newer:
            fleet.look(until, before=space, missing=missing)
        if source.unanswerable:
            warn_caller(one_line(f"{fleet.where}: {UNANSWERED}: {source.unanswerable}"))
        if not missing:
            return hits
        return self._partial(fleet, missing, hits)

    @staticmethod
    def _partial(fleet: Fleet, missing: set[int], hits: list[list[Hit]]) -> list[list[Hit]]:
        names = tuple(fleet.router.groups[place].name for place in sorted(missing))
        if len(names) == fleet.size:
            raise none_answers(fleet.where, names)
        warn_caller(f"{fleet.where}: answered without the shards {', '.join(names)}, which do not answer")
        return [PartialHits(some, names) for some in hits]

    def _vectors(self, batch: QueryBatch, space: Space) -> FloatMatrix:
        settings = space.settings
        if batch.vectors is None:
            assert batch.texts is not None  # one of the two is there
            return embed_queries(self._embedder, batch.texts, settings)
        if batch.single:
            return to_query(batch.vectors, dimension=settings.dimension, metric=settings.metric)
        return to_matrix(batch.vectors, dimension=settings.dimension, metric=settings.metric, what="vectors")


def narrowed(tree: Filter | None, scope: Filter | None, ids: tuple[str, ...] | None = None) -> Narrowing:
    """Return a filter and a scope as shards take them."""
    return Narrowing(None if tree is None else to_dict(tree), None if scope is None else to_dict(scope), ids)
