"""What is asked, checked and turned into vectors, answered, and told to who keeps a log or watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy.typing as npt

from reperio import index
from reperio.arguments import is_iterable, require_unicode, require_within
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.search.request import OPTIONS, Wanted, require_question, to_wanted
from reperio.collection.search.retrieving import Asked, retrieve_many, retrieve_one
from reperio.collection.search.tracing import traced
from reperio.embedding.contract import Settings, embed
from reperio.errors import InvalidInput
from reperio.filters import Filter
from reperio.query_log.recording import QueryRecorder
from reperio.types import FloatMatrix, Hit
from reperio.vectors import to_matrix, to_query

_Answer = TypeVar("_Answer")

_HEAVY = 16_000  # bytes of a filter that is not remembered: 256 of them, for as long as the process lives


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks a collection: what the questions of one handle have in common.

    Attributes:
        handle: of the collection.
        embedder: makes vectors of texts.
        recorder: keeps what is asked by text; None for no log.

    """

    handle: Handle
    embedder: LazyEmbedder
    recorder: QueryRecorder | None


def wanted_of(handle: Handle, k: Any, recall: Any, where: Mapping[str, Any] | Filter | None, *options: Any) -> Wanted:
    """Check what is asked for; the common case, again and again the same, is looked up."""
    tree = handle.scope.narrowed(where)
    try:
        light = tree is None or tree.size.bytes <= _HEAVY
        if light and options == _DEFAULT_OPTIONS and type(k) is int and type(recall) is float:
            return _plainly(k, recall, tree, handle.limits.k)
    except ValueError:  # an array among the options, equal to nothing at once; or what is refused below by name
        pass
    return to_wanted(k, recall, tree, dict(zip(OPTIONS, options, strict=True)), most=handle.limits.k)


def ask(
    asker: Asker,
    query: str | None,
    vector: npt.ArrayLike | None,
    wanted: Wanted,
    where: Mapping[str, Any] | Filter | None,
) -> list[Hit]:
    """Answer one question; *where* as it was passed, for the log."""
    require_question(query is not None, vector is not None, wanted, "search", "a text", "vector")
    texts = None if query is None else [to_question(query, asker.handle.limits.question)]
    if vector is None:
        assert texts is not None  # one of the two is there
        asked = _by_text(asker, texts)
    else:

        def prepare(used: OpenGeneration) -> FloatMatrix:
            settings = used.settings
            return to_query(vector, dimension=settings.dimension, metric=settings.metric)

        asked = Asked(texts, prepare, 1)
    if asker.recorder is None or texts is None:
        return _watched(retrieve_one, asker, asked, wanted, "search")
    started = time.perf_counter()
    hits = _watched(retrieve_one, asker, asked, wanted, "search")
    asker.recorder.record_all(texts, [hits], started, k=wanted.k, mode=wanted.mode, where=where)
    return hits


def ask_many(
    asker: Asker,
    queries: Sequence[str] | None,
    vectors: npt.ArrayLike | None,
    wanted: Wanted,
    where: Mapping[str, Any] | Filter | None,
) -> list[list[Hit]]:
    """Answer many questions over one committed state; *where* as it was passed, for the log."""
    require_question(queries is not None, vectors is not None, wanted, "search_many", "texts", "vectors")
    if isinstance(queries, str):
        raise InvalidInput("search_many takes a list of texts; for one text use search")
    limits = asker.handle.limits
    most = limits.queries
    if isinstance(queries, (list, tuple)):  # before any of them is looked at
        require_within("the number of texts", len(queries), most, "queries")
    if queries is not None and (isinstance(queries, (bytes, Mapping)) or not is_iterable(queries)):
        raise InvalidInput(f"search_many takes a list of texts, not a {type(queries).__name__}")
    texts = None if queries is None else [to_question(query, limits.question) for query in queries]
    if texts is not None:
        require_within("the number of texts", len(texts), most, "queries")
    if vectors is None:
        assert texts is not None  # one of the two is there
        asked = _by_text(asker, texts)
    else:
        number = 1 if not isinstance(vectors, Sized) or getattr(vectors, "ndim", None) == 0 else len(vectors)
        require_within("the number of vectors", number, most, "queries")
        if texts is not None and len(texts) != number:
            raise InvalidInput(f"{len(texts)} texts with {number} vectors; pass one vector per text")
        asked = Asked(texts, lambda generation: _to_vectors(vectors, generation.settings, "vectors"), number)
    require_within("the number of hits and candidates", asked.number * wanted.depth, limits.hits, "hits")
    if asker.recorder is None or texts is None:
        return _watched(retrieve_many, asker, asked, wanted, "search_many")
    started = time.perf_counter()
    answers = _watched(retrieve_many, asker, asked, wanted, "search_many")
    asker.recorder.record_all(texts, answers, started, k=wanted.k, mode=wanted.mode, where=where)
    return answers


def held_out(asker: Asker, queries: Any | None, settings: Settings) -> FloatMatrix | None:
    """Return held-out queries as vectors: texts are embedded, vectors checked."""
    if queries is None:
        return None
    if isinstance(queries, str):
        raise InvalidInput("queries takes a list of texts, or vectors")
    if isinstance(queries, Sequence) and queries and isinstance(queries[0], str):
        texts = [to_question(query, asker.handle.limits.question) for query in index.drawn(queries)]
        found = _embedded(asker.embedder, texts, settings)
    else:
        found = _to_vectors(queries, settings, "queries")
    if len(found) < index.FEWEST_QUERIES:
        raise InvalidInput(
            f"{len(found)} held-out queries say too little about recall: bring at least {index.FEWEST_QUERIES}, "
            "better a thousand; or none, to tune with stored vectors"
        )
    return found


def to_question(query: Any, most: int) -> str:
    """Return a question of at most so many characters that can be asked, or refuse it."""
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput(f"the query is {query!r:.200}; pass a text that is not empty, or vector=")
    if len(query) > most:
        require_within("the number of characters of the query", len(query), most, "question")
    if not query.isascii():
        require_unicode(query, "the query")
    return query


def _watched(
    retrieve: Callable[[Handle, Asked, Wanted], _Answer], asker: Asker, asked: Asked, wanted: Wanted, name: str
) -> _Answer:
    telemetry = asker.handle.telemetry
    if telemetry is None:
        return retrieve(asker.handle, asked, wanted)
    with traced(telemetry, name, wanted, asked.number) as trace:
        return retrieve(asker.handle, replace(asked, trace=trace), wanted)


def _by_text(asker: Asker, texts: list[str]) -> Asked:
    return Asked(texts, lambda generation: _embedded(asker.embedder, texts, generation.settled()), len(texts))


def _to_vectors(vectors: npt.ArrayLike, settings: Settings, what: str) -> FloatMatrix:
    return to_matrix(vectors, dimension=settings.dimension, metric=settings.metric, what=what)


def _embedded(lazy: LazyEmbedder, queries: list[str], settings: Settings) -> FloatMatrix:
    embedder = lazy.get(settings)
    if embedder is None:
        raise InvalidInput(
            "this collection has no embedder: search by vector=, or open it with embedder= (a model's name or "
            "path, or an Embedder)"
        )
    return embed(embedder, queries, settings.metric, queries=True)


@lru_cache(maxsize=256)
def _plainly(k: int, recall: float, tree: Filter | None, most: int) -> Wanted:
    return to_wanted(k, recall, tree, {}, most=most)


_DEFAULT_OPTIONS = tuple(getattr(Wanted(1, 1.0), name) for name in OPTIONS)
