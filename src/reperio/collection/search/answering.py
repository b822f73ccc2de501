"""Answer questions: search, trace the search for telemetry, and log what was asked by text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reperio import index
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.search.request import QueryBatch, SearchRequest, embed_queries, to_question
from reperio.collection.search.retrieving import retrieve_many, retrieve_one
from reperio.collection.search.tracing import traced
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.filters import Filter
from reperio.query_log.recording import QueryRecorder
from reperio.types import FloatMatrix, Hit
from reperio.vectors import to_matrix


@dataclass(frozen=True, slots=True)
class Asker:
    """The handle and the log that all questions of a collection share.

    Attributes:
        handle: handle of the collection.
        recorder: keeps what is asked by text; None for no log.
    """

    handle: Handle
    recorder: QueryRecorder | None

    def ask(self, batch: QueryBatch, request: SearchRequest, where: Mapping[str, Any] | Filter | None) -> list[Hit]:
        """Answer one question; *where* is the filter as it was passed, for the log."""
        handle = self.handle
        started = time.perf_counter()
        if handle.telemetry is None:
            hits = retrieve_one(handle, batch, request)
        else:
            with traced(handle.telemetry, "search", request, batch.number) as trace:
                hits = retrieve_one(handle, batch, request, trace)
        if self.recorder is not None and batch.texts is not None:
            self.recorder.record_all(batch.texts, [hits], started, k=request.k, mode=request.mode, where=where)
        return hits

    def ask_many(
        self, batch: QueryBatch, request: SearchRequest, where: Mapping[str, Any] | Filter | None
    ) -> list[list[Hit]]:
        """Answer many questions over one committed state; *where* is the filter as it was passed, for the log."""
        handle = self.handle
        started = time.perf_counter()
        if handle.telemetry is None:
            answers = retrieve_many(handle, batch, request)
        else:
            with traced(handle.telemetry, "search_many", request, batch.number) as trace:
                answers = retrieve_many(handle, batch, request, trace)
        if self.recorder is not None and batch.texts is not None:
            self.recorder.record_all(batch.texts, answers, started, k=request.k, mode=request.mode, where=where)
        return answers


def held_out(handle: Handle, lazy: LazyEmbedder, queries: Any | None, settings: Settings) -> FloatMatrix | None:
    """Return held-out queries as vectors: texts are embedded, vectors checked."""
    if queries is None:
        return None
    if isinstance(queries, str):
        raise InvalidInput("queries takes a list of texts, or vectors")
    if isinstance(queries, Sequence) and queries and isinstance(queries[0], str):
        texts = [to_question(query, handle.limits.question) for query in index.drawn(queries)]
        found = embed_queries(lazy, texts, settings)
    else:
        found = to_matrix(queries, dimension=settings.dimension, metric=settings.metric, what="queries")
    if len(found) < index.FEWEST_QUERIES:
        raise InvalidInput(
            f"{len(found)} held-out queries say too little about recall: bring at least {index.FEWEST_QUERIES}, "
            "better a thousand; or none, to tune with stored vectors"
        )
    return found
