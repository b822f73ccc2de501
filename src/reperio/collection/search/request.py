"""Check the options and the questions of a search: the two objects that travel through this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy.typing as npt

from reperio.arguments import (
    MAX_K,
    is_iterable,
    require_count,
    require_k,
    require_recall,
    require_unicode,
    require_within,
)
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.embedding.contract import Settings
from reperio.errors import InvalidInput
from reperio.filters import Filter
from reperio.types import FloatMatrix, Fusion, Limits, Mode, Reranker
from reperio.vectors import to_matrix, to_query

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
FUSIONS: tuple[Fusion, ...] = ("convex", "rrf")

DEFAULT_RECALL = 0.95
"""knn recall@k that a search aims at, and an index is built for."""

FUSED_DEPTH = 100
"""Rows of each list that are fused, at least: min-max scores depend on it, and 100 is what the figures are for."""

_FUSION: Fusion = "convex"
_WEIGHT = 0.5
_PER_HIT = 5  # candidates per hit requested, where something chooses among them
_HEAVY = 16_000  # bytes of a filter that is not remembered: 256 requests are, for as long as the process lives


@dataclass(frozen=True)
class SearchRequest:
    """The options of one search, checked; see `Collection.search`.

    Attributes:
        k: number of hits.
        recall: knn recall@k of the dense list, above 0 and at most 1.
        tree: filter, the handle's scope included; None for all chunks.
        mode: which lists are made.
        fusion, weight: how two lists become one.
        candidates: rows retrieved, from which the k are chosen; None for as many as the other options need.
        lexical_candidates: most rows that hybrid search takes from the lexical list; None for as many as from the
            dense one.
        reranker: orders the candidates again; None for no reranking.
        diversity: 0 for relevance alone, towards 1 for variety; None to leave the order alone.
        distinct: True to keep only the first of chunks with the same text.
        min_score: least score of a hit; None for any.
        ids: ids of the chunks that may be found; None for all.
        most: the most rows that may be retrieved.
    """

    k: int
    recall: float
    tree: Filter | None = None
    mode: Mode = "dense"
    fusion: Fusion = _FUSION
    weight: float = _WEIGHT
    candidates: int | None = None
    lexical_candidates: int | None = None
    reranker: Reranker | None = None
    diversity: float | None = None
    distinct: bool = False
    min_score: float | None = None
    ids: tuple[str, ...] | None = None
    most: int = MAX_K

    # Computed once per request: the common request is kept, and used again by the next search.

    @cached_property
    def plain(self) -> bool:
        """True where the best k of the dense list are the answer."""
        return (
            self.mode == "dense"
            and self.reranker is None
            and self.diversity is None
            and not self.distinct
            and self.min_score is None
            and self.candidates is None
            and self.ids is None
        )

    @cached_property
    def depth(self) -> int:
        """Number of rows to retrieve."""
        if self.candidates is not None:
            return self.candidates
        chosen = self.reranker is not None or self.diversity is not None
        return max(self.k, min(self.k * _PER_HIT, self.most)) if chosen else self.k

    @cached_property
    def needs_vector(self) -> bool:
        """True where a question must have a vector."""
        return self.mode != "lexical" or self.diversity is not None

    @cached_property
    def needs_text(self) -> bool:
        """True where a question must have a text."""
        return self.mode != "dense" or self.reranker is not None


_DEFAULTS = {
    each.name: each.default for each in fields(SearchRequest) if each.name not in ("k", "recall", "tree", "most")
}


def to_request(k: Any, recall: Any, tree: Filter | None, *, most: int, **options: Any) -> SearchRequest:
    """Check the options of a search. The common request, with nothing but k, recall and a filter, is looked up.

    Args:
        k, recall, tree: see `SearchRequest`.
        most: the largest k.
        options: every other option of a search, by its name in `SearchRequest`.

    Raises:
        InvalidInput: an option is not what it may be; the message names it.
    """
    try:
        light = tree is None or tree.size.bytes <= _HEAVY
        if light and options == _DEFAULTS and type(k) is int and type(recall) is float:
            return _common_request(k, recall, tree, most)
    except ValueError:  # an array among the options has no single truth value; a bad k or recall is refused below
        pass
    return _checked(SearchRequest(k, recall, tree, **options, most=most))


@lru_cache(maxsize=256)
def _common_request(k: int, recall: float, tree: Filter | None, most: int) -> SearchRequest:
    return _checked(SearchRequest(k, recall, tree, most=most))


def _checked(request: SearchRequest) -> SearchRequest:
    k, most = request.k, request.most
    require_k(k, most)
    require_recall(request.recall)
    _require_choice("mode", request.mode, MODES)
    _require_choice("fusion", request.fusion, FUSIONS)
    _require_share("weight", request.weight)
    if request.lexical_candidates is not None:
        require_count("lexical_candidates", request.lexical_candidates)
    _require_use(request)
    if request.diversity is not None:
        _require_share("diversity", request.diversity)
    if not isinstance(request.distinct, bool):
        raise InvalidInput(f"distinct is {request.distinct!r}; it is True or False")
    if request.min_score is not None and (isinstance(request.min_score, bool) or not _is_number(request.min_score)):
        raise InvalidInput(f"min_score is {request.min_score!r}; pass a number: hits with a lower score are left out")
    if request.reranker is not None and not isinstance(request.reranker, Reranker):
        raise InvalidInput(
            f"reranker is a {type(request.reranker).__name__} without a score method; wrap a function in "
            "CallableReranker, or pass a CrossEncoderReranker"
        )
    if request.candidates is not None:
        require_count("candidates", request.candidates)
        if not k <= request.candidates <= most:
            raise InvalidInput(f"candidates is {request.candidates}; it lies between k ({k}) and {most:,}")
    if request.lexical_candidates is not None and request.lexical_candidates > most:
        raise InvalidInput(f"lexical_candidates is {request.lexical_candidates}; it is at most {most:,}")
    return request


@dataclass(slots=True)
class QueryBatch:
    """The questions of one search.

    Attributes:
        number: how many there are.
        texts: one text per question; None where only vectors were given.
        vectors: ready vectors as they were passed: one vector for `search`, one per question for `search_many`; None
            where the embedder makes them.
        single: True for the one question of `search`.
        embedder: embeds the texts where there are no vectors.
    """

    number: int
    texts: Sequence[str] | None
    vectors: npt.ArrayLike | None
    single: bool
    embedder: LazyEmbedder

    def matrix(self, generation: OpenGeneration) -> FloatMatrix:
        """Return the vectors of the questions, float32 (number, d), checked and scaled for *generation*.

        They are made per generation: the next one may be of another dimension and model.
        """
        if self.vectors is None:
            assert self.texts is not None  # `one` and `many` require one of the two
            return embed_queries(self.embedder, self.texts, generation.settled())
        settings = generation.settings
        if self.single:
            return to_query(self.vectors, dimension=settings.dimension, metric=settings.metric)
        return to_matrix(self.vectors, dimension=settings.dimension, metric=settings.metric, what="vectors")


def one_question(
    query: Any, vector: npt.ArrayLike | None, request: SearchRequest, embedder: LazyEmbedder, limits: Limits
) -> QueryBatch:
    """Check the question of `Collection.search`."""
    if query is not None or request.needs_text or not request.needs_vector or vector is None:
        _require_question(query is not None, vector is not None, request, ("search", "a text", "vector"))
    texts = None if query is None else [to_question(query, limits.question)]
    return QueryBatch(1, texts, vector, True, embedder)


def many_questions(
    queries: Any, vectors: npt.ArrayLike | None, request: SearchRequest, embedder: LazyEmbedder, limits: Limits
) -> QueryBatch:
    """Check the questions of `Collection.search_many`."""
    _require_question(queries is not None, vectors is not None, request, ("search_many", "texts", "vectors"))
    texts = None if queries is None else to_texts(queries, limits, "search_many")
    if vectors is None:
        assert texts is not None  # one of the two is there
        number = len(texts)
    else:
        number = 1 if not isinstance(vectors, Sized) or getattr(vectors, "ndim", None) == 0 else len(vectors)
        require_within("the number of vectors", number, limits.queries, "queries")
        if texts is not None and len(texts) != number:
            raise InvalidInput(f"{len(texts)} texts with {number} vectors; pass one vector per text")
    require_within("the number of hits and candidates", number * request.depth, limits.hits, "hits")
    return QueryBatch(number, texts, vectors, False, embedder)


def to_question(query: Any, most: int) -> str:
    """Return a question of at most *most* characters, or refuse it."""
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput(f"the query is {query!r:.200}; pass a text that is not empty, or vector=")
    if len(query) > most:
        require_within("the number of characters of the query", len(query), most, "question")
    if not query.isascii():
        require_unicode(query, "the query")
    return query


def embed_queries(lazy: LazyEmbedder, queries: Sequence[str], settings: Settings) -> FloatMatrix:
    """Return the vectors of questions, float32 (n, d).

    Raises:
        InvalidInput: the collection has no embedder.
    """
    embedder = lazy.get(settings)
    if embedder is None:
        raise InvalidInput(
            "this collection has no embedder: search by vector=, or open it with embedder= (a model's name or "
            "path, or an Embedder)"
        )
    return lazy.questions.embed(embedder, queries, settings.metric)


def to_texts(queries: Any, limits: Limits, function: str) -> list[str]:
    """Return several questions, or refuse them; *function* is the one that takes them, for the message."""
    if isinstance(queries, str):
        one = "; for one text use search" if function == "search_many" else ""
        raise InvalidInput(f"{function} takes a list of texts{one}")
    if isinstance(queries, (list, tuple)):  # before any of them is looked at
        require_within("the number of texts", len(queries), limits.queries, "queries")
    if isinstance(queries, (bytes, Mapping)) or not is_iterable(queries):
        raise InvalidInput(f"{function} takes a list of texts, not a {type(queries).__name__}")
    texts = [to_question(query, limits.question) for query in queries]
    require_within("the number of texts", len(texts), limits.queries, "queries")
    return texts


def _require_question(text: bool, vector: bool, request: SearchRequest, names: tuple[str, str, str]) -> None:
    """Refuse a question without the text or the vector that *request* needs, or with one that nothing would use.

    Args:
        text, vector: True where it is given.
        request: what is asked for.
        names: names of the function, of its texts and of its vectors, for the message.
    """
    function, texts, vectors = names
    if not text and not vector:
        raise InvalidInput(f"{function} takes {texts} or {vectors}=, one of the two")
    if request.needs_text and not text:
        needing = f"mode={request.mode!r}" if request.mode != "dense" else "a reranker"
        place = "together with" if request.needs_vector else "instead of"
        raise InvalidInput(f"{needing} needs {texts}; pass it {place} {vectors}=")
    if text and vector and not request.needs_text:
        raise InvalidInput(f"{function} takes {texts} or {vectors}=, one of the two")
    if vector and not request.needs_vector:
        raise InvalidInput(f'mode="lexical" searches by words alone; leave {vectors}= out')


def _require_use(request: SearchRequest) -> None:
    """Refuse what would have no effect: a fusion or weight of one list, an order that is made again at once."""
    if request.mode != "hybrid" and (request.fusion, request.weight) != (_FUSION, _WEIGHT):
        raise InvalidInput(f'fusion and weight are for mode="hybrid", and mode is {request.mode!r}; leave them out')
    if request.mode != "hybrid" and request.lexical_candidates is not None:
        raise InvalidInput(f'lexical_candidates is for mode="hybrid", and mode is {request.mode!r}; leave it out')
    if request.fusion != _FUSION and request.weight != _WEIGHT:
        raise InvalidInput(f'weight is for fusion="convex", and fusion is {request.fusion!r}; leave it out')
    if request.reranker is not None and request.diversity is not None:
        raise InvalidInput(
            "diversity= goes by the vectors, and would undo the order that reranker= makes; leave one of them out"
        )


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{name} is {value!r}; choose {', '.join(map(repr, choices))}")


def _require_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not _is_number(value) or not 0 <= value <= 1:
        raise InvalidInput(f"{name} is {value!r}; it is a number between 0 and 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value
