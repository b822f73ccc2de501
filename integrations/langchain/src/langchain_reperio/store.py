"""The vector store: LangChain's interface, method by method; what they have in common is done below, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import reperio
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from reperio import Collection, Filter, Fusion, Hit, Metric, Mode, Reranker
from reperio.errors import InvalidInput
from typing_extensions import Never, Self

from langchain_reperio import options
from langchain_reperio.documents import from_chunk, from_hit, to_chunks
from langchain_reperio.embedder import from_embedder, to_embedder
from langchain_reperio.filters import DocumentFilter, matching_ids, to_narrowed
from langchain_reperio.options import SearchDefaults, by_vector_alone, marginal, refuse_unknown
from langchain_reperio.scores import Relevance, checked, to_relevance
from langchain_reperio.search_types import BY_WORDS, ReperioVectorStoreRetriever

_CONSTRUCTOR = ("embedding", "path", "collection", "metric", "scope", "read_only", "recall", "mode", "fusion", "weight")
_SEARCH_TYPES = tuple(ReperioVectorStoreRetriever.allowed_search_types)


class ReperioVectorStore(VectorStore):
    """A LangChain vector store in a Reperio collection: one directory, durable when a call returns.

    **Scores are similarities: the higher, the better**, for every metric (LangChain's FAISS store returns distances).
    Cosine: the cosine, in [-1, 1]; inner product: as it is; L2: minus the squared distance. Relevance is in [0, 1] and
    in the same order; `langchain_reperio.scores` has the formulas.

    ``filter=`` takes a dictionary in MongoDB's manner, a filter made with `reperio.field`, or a function of a
    `Document` (slow: it is asked about every document). A search gives exactly min(k, matching documents) results.

    Any number of threads may use one store. The async methods run in the event loop's executor, never in the loop.

    Args:
        embedding: LangChain embeddings. On an existing collection they must make the vectors it was built with (eight
            canary texts are compared). None takes the recorded model, or for a new collection Reperio's own.
        path: directory of the collection; a new one is created. None keeps it in memory, until the store is closed or
            the process ends.
        collection: or one that is open already, with its own embedder (``reperio.open("kb",
            embedder=LangChainEmbedder(embeddings))``), which then stays open when the store is closed.
        metric: "cosine" (default), "inner_product" or "l2"; fixed at creation, and persisted.
        scope: a filter that everything done through this store is confined to, e.g. ``{"tenant": "a"}``.
        read_only: search only, next to a writer.
        recall, mode, fusion, weight, candidates, reranker: what searches do unless a call says otherwise; see
            `reperio.Collection.search`. A search by vector is dense, and, like one by maximal marginal relevance, not
            reranked, whatever these say.
        relevance_score_fn: from a score to a relevance in [0, 1], in place of Reperio's own.

    Raises:
        InvalidInput: options that contradict each other or what is recorded.
        EmbeddingContractError: *embedding* is not what the vectors were made with.
        CollectionLocked: another program has opened it with ``exclusive=True``.
    """

    def __init__(
        self,
        embedding: Embeddings | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        collection: Collection | None = None,
        metric: Metric | str | None = None,
        scope: Mapping[str, Any] | Filter | None = None,
        read_only: bool = False,
        recall: float | None = None,
        mode: Mode | None = None,
        fusion: Fusion | None = None,
        weight: float | None = None,
        candidates: int | None = None,
        reranker: Reranker | None = None,
        relevance_score_fn: Callable[[float], float] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("ReperioVectorStore", unknown, (*_CONSTRUCTOR, "candidates", "reranker", "relevance_score_fn"))
        self._embeddings = embedding
        self._own = collection is None
        if collection is None:
            collection = _opened(embedding, path, metric=metric, scope=scope, read_only=read_only)
        elif (embedding, path, metric, scope) != (None, None, None, None) or read_only:
            raise InvalidInput(
                "collection= is open already, so embedding, path, metric, scope and read_only are settled; pass them "
                "to reperio.open, the embedding as embedder=LangChainEmbedder(embedding)"
            )
        self._collection = collection
        self._metric = collection.info().metric
        self._defaults = SearchDefaults(recall, mode, fusion, weight, candidates, reranker)
        self._relevance = relevance_score_fn and checked(relevance_score_fn)

    @property
    def collection(self) -> Collection:
        """The collection underneath: ``optimize``, ``check``, ``backup``, ``compact``, ``info`` and the rest."""
        return self._collection

    @property
    def embeddings(self) -> Embeddings | None:
        """The embeddings of documents and queries; None for a collection of ready vectors."""
        if self._embeddings is None and (embedder := self._collection.embedder) is not None:
            self._embeddings = from_embedder(embedder)
        return self._embeddings

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts, durably; one whose id is stored already replaces it. Unchanged texts are not embedded again.

        Args:
            texts: to embed and store.
            metadatas: JSON objects, one per text; they come back exactly as they are.
            ids: one per text; None, also for single ones, makes a random UUID.
            **kwargs: ``batch_size``, texts per commit (default 1,000), and no other.

        Returns:
            The ids of all texts, in their order, those made here included.

        Raises:
            InvalidInput: numbers that differ, an id given twice, or what cannot be stored; the batch is not stored.
        """
        refuse_unknown("add_texts", kwargs, ("batch_size",))
        chunks = to_chunks(texts, metadatas, ids)
        self._collection.add(chunks, **kwargs)
        return [chunk.id for chunk in chunks]

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts with vectors that are there already; otherwise as `add_texts`."""
        refuse_unknown("add_embeddings", kwargs, ("batch_size",))
        pairs = list(text_embeddings)
        chunks = to_chunks([text for text, _ in pairs], metadatas, ids)
        self._collection.add(chunks, vectors=[vector for _, vector in pairs], **kwargs)
        return [chunk.id for chunk in chunks]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open or create a store and add texts to it.

        Args:
            texts, metadatas, ids: as in `add_texts`.
            embedding: as in the constructor.
            **kwargs: the constructor's other options, ``path`` among them, and ``batch_size``.
        """
        batch = {"batch_size": kwargs.pop("batch_size")} if "batch_size" in kwargs else {}
        store = cls(embedding, **kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids, **batch)
        except BaseException:
            store.close()  # nobody else could: the caller never gets the store, and its lock would remain
            raise
        return store

    # ── deleting, and reading by id ──────────────────────────────────────────────────────────────────────────────────

    def delete(
        self,
        ids: list[str] | None = None,
        *,
        filter: DocumentFilter = None,  # noqa: A002  # LangChain's word for it
        delete_all: bool = False,
        **kwargs: Any,
    ) -> bool:
        """Delete documents, durably and in one commit.

        Args:
            ids: of the documents; one that is not there is no error. An empty list deletes nothing.
            filter: or whatever matches.
            delete_all: or everything. LangChain's None for all is refused without it: too often a None is a mistake.
            **kwargs: none.

        Returns:
            True: afterwards none of them is there.

        Raises:
            InvalidInput: none of the three, or more than one.
        """
        refuse_unknown("delete", kwargs, ("ids", "filter", "delete_all"))
        if (ids is not None) + (filter is not None) + bool(delete_all) != 1:
            raise InvalidInput(
                "delete takes ids, filter= or delete_all=True, exactly one; delete_all deletes everything"
            )
        if filter is not None and not callable(filter):
            self._collection.delete(where=filter)
            return True
        if delete_all:
            ids = self._collection.ids()
        elif callable(filter):
            ids = matching_ids(self._collection, filter)
        self._collection.delete(ids=ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that there are under *ids*, in that order; those that are missing are left out."""
        return [from_chunk(chunk) for chunk in self._collection.get(list(ids))]

    # ── searching ────────────────────────────────────────────────────────────────────────────────────────────────────

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Search by "similarity", "similarity_score_threshold", "mmr", "hybrid" (words and vectors) or "lexical"."""
        _require_type(search_type)
        if search_type in BY_WORDS:
            return self.similarity_search(query, mode=search_type, **kwargs)
        return super().search(query, search_type, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Search as `search` does, without blocking the event loop."""
        _require_type(search_type)
        if search_type in BY_WORDS:
            return await self.asimilarity_search(query, mode=search_type, **kwargs)
        return await super().asearch(query, search_type, **kwargs)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the k documents most like *query*.

        Args:
            query: a text.
            k: how many, 1 to 10,000.
            **kwargs: ``filter`` (see the class), ``recall``, ``mode``, ``fusion``, ``weight``, ``candidates``,
                ``reranker``, ``distinct``, ``min_score`` as in `reperio.Collection.search`. No others.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Return the k documents most like *query*, best first, each with its score: **higher is better**.

        The score is that of the metric (see the class); of a hybrid, lexical or reranked search that of the fusion, of
        BM25, of the reranker. All arguments are those of `similarity_search`.
        """
        asked = self._defaults.merged(kwargs, options.SEARCH, "similarity_search")
        return [from_hit(hit) for hit in self._found(query, k, asked)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the k documents whose vectors are most like *embedding*.

        Args:
            embedding: a query's vector.
            k: how many.
            **kwargs: ``filter``, ``recall``, ``candidates``, ``distinct``, ``min_score``.
        """
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the same with scores: higher is better."""
        asked = self._defaults.merged(kwargs, options.BY_VECTOR, "similarity_search_by_vector")
        narrowed = to_narrowed(self._collection, asked.pop("filter", None))
        return [from_hit(hit) for hit in self._collection.search(vector=embedding, k=k, **narrowed, **asked)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return k documents that are like *query* and unlike each other.

        Args:
            query: a text.
            k: how many.
            fetch_k: candidates to choose among, of those that match the filter; k where it is less.
            lambda_mult: from 0, all for variety, to 1, all for relevance.
            **kwargs: ``filter``, ``recall``, ``mode``, ``fusion``, ``weight``, ``distinct``, ``min_score``.
        """
        asked = self._defaults.merged(kwargs, options.MMR, "max_marginal_relevance_search")
        asked.update(marginal(k, fetch_k, lambda_mult))
        return [from_chunk(hit.chunk) for hit in self._found(query, k, asked)]

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return k documents that are like *embedding*, a query's vector, and unlike each other; as for a text."""
        found = self.max_marginal_relevance_search_with_score_by_vector(
            embedding, k=k, fetch_k=fetch_k, lambda_mult=lambda_mult, **kwargs
        )
        return [document for document, _ in found]

    def max_marginal_relevance_search_with_score_by_vector(
        self, embedding: Sequence[float], *, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the same in the order of choice, each document with its own score of similarity to *embedding*."""
        asked = self._defaults.merged(kwargs, options.MMR_BY_VECTOR, "max_marginal_relevance_search_by_vector")
        asked.update(marginal(k, fetch_k, lambda_mult))
        narrowed = to_narrowed(self._collection, asked.pop("filter", None))
        return [from_hit(hit) for hit in self._collection.search(vector=embedding, k=k, **narrowed, **asked)]

    def _select_relevance_score_fn(self) -> Relevance:
        return self._relevance_of({})

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        relevance = self._relevance_of(kwargs)
        found = self.similarity_search_with_score(query, k, **kwargs)
        return [(document, relevance(score)) for document, score in found]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(None, self._similarity_search_with_relevance_scores, query, k, **kwargs)

    def as_retriever(self, **kwargs: Any) -> ReperioVectorStoreRetriever:
        """Return a retriever on this store.

        Args:
            **kwargs: ``search_type`` as in `search`, ``search_kwargs``, and whatever else a retriever has.
        """
        tags = kwargs.pop("tags", None) or self._get_retriever_tags()
        return ReperioVectorStoreRetriever(vectorstore=self, tags=tags, **kwargs)

    # ── the handle ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Release files and lock of a collection that this store has opened; twice is no error."""
        if self._own:
            self._collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ReperioVectorStore({self._collection!r})"

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _found(self, query: str, k: int, asked: dict[str, Any]) -> list[Hit]:
        narrowed = to_narrowed(self._collection, asked.pop("filter", None))
        embeddings = self.embeddings if isinstance(query, str) and not query.strip() else None
        if embeddings is not None and by_vector_alone(asked):
            # A self-query that is all filter asks for " ", which Reperio takes for a mistake, and a model can embed.
            return self._collection.search(vector=embeddings.embed_query(query), k=k, **narrowed, **asked)
        return self._collection.search(query, k=k, **narrowed, **asked)

    def _relevance_of(self, asked: Mapping[str, Any]) -> Relevance:
        if self._relevance is not None:
            return self._relevance
        found = self._defaults.merged(asked, options.SEARCH, "similarity_search_with_relevance_scores")
        return to_relevance(
            self._metric,
            mode=found.get("mode", "dense"),
            fusion=found.get("fusion", "convex"),
            reranked=found.get("reranker") is not None,
        )


def _opened(
    embedding: Embeddings | None,
    path: str | os.PathLike[str] | None,
    *,
    metric: Metric | str | None,
    scope: Mapping[str, Any] | Filter | None,
    read_only: bool,
) -> Collection:
    embedder = None if embedding is None else to_embedder(embedding)
    where = ":memory:" if path is None else path
    return reperio.open(where, embedder=embedder, metric=metric, scope=scope, read_only=read_only)


def _require_type(search_type: str) -> None:
    if search_type not in _SEARCH_TYPES:
        raise InvalidInput(f"search_type is {search_type!r}; choose {', '.join(map(repr, _SEARCH_TYPES))}")
