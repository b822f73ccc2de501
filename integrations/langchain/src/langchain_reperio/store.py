"""The vector store: how it is made, and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from reperio import Collection, Filter, Fusion, Limits, Metric, Mode, Reranker
from reperio.errors import InvalidInput
from typing_extensions import Never, Self

from langchain_reperio.adding import ADDING, Adding
from langchain_reperio.awaiting import Vectors
from langchain_reperio.conversion.embedder import LangChainEmbedder, ReperioEmbeddings, from_embedder
from langchain_reperio.conversion.scores import RelevanceScale, checked, checked_scale
from langchain_reperio.opening import Opening
from langchain_reperio.options import SearchDefaults, refuse_unknown
from langchain_reperio.search_types import BY_WORDS, ReperioVectorStoreRetriever
from langchain_reperio.searching import Searching

_CONSTRUCTOR = (
    *("embedding", "path", "collection_name", "collection", "metric", "dtype", "lexical", "scope", "limits"),
    *("read_only", "must_exist", "recall", "mode", "fusion", "weight", "candidates", "reranker", "relevance"),
    "relevance_score_fn",
)
_SEARCH_TYPES = tuple(ReperioVectorStoreRetriever.allowed_search_types)


class ReperioVectorStore(Adding, Searching, VectorStore):
    """A LangChain vector store in a Reperio collection: one directory, durable when a call returns.

    **Scores are similarities: the higher, the better**, for every metric (LangChain's FAISS store returns distances).
    Cosine: the cosine, in [-1, 1]; inner product: as it is; L2: minus the squared distance. Relevance is in [0, 1] and
    in the same order; `langchain_reperio.conversion.scores` has the formulas.

    ``filter=`` takes a dictionary in MongoDB's manner, a filter made with `reperio.field`, or a function of a
    `Document` (slow: it is asked about every document). In a dictionary, ``$text`` stands for the text (slow as well).
    A search gives exactly min(k, matching documents) results.

    Any number of threads may use one store. The async methods await the embeddings' own coroutines, and run what is
    left in threads, never in the event loop. This constructor may take seconds: in a coroutine, await `acreate`.

    Args:
        embedding: LangChain embeddings. On an existing collection they must make the vectors it was built with (eight
            canary texts are compared); one in which nothing is stored is bound to them. None takes the recorded model,
            or for a new collection Reperio's own.
        path: directory of the collection; a new one is created. None, or ":memory:", keeps it in memory, until the
            store is closed or the process ends.
        collection_name: a folder below *path*, for several collections.
        collection: or one that is open already, with its own embedder (``reperio.open("kb",
            embedder=LangChainEmbedder(embeddings))``), which then stays open when the store is closed.
        metric: "cosine" (default), "inner_product" or "l2"; fixed at creation, and persisted.
        dtype, lexical, limits: as in `reperio.open`: how vectors are kept, how texts are cut into words, how much one
            call may ask for.
        scope: a filter that everything done through this store is confined to, e.g. ``{"tenant": "a"}``.
        read_only: search only, next to a writer.
        must_exist: refuse to create a collection, as where a path is misspelt.
        recall, mode, fusion, weight, candidates, reranker: what searches do unless a call says otherwise; see
            `reperio.Collection.search`. A search by vector is dense, and, like one by maximal marginal relevance, not
            reranked, whatever these say.
        relevance: "langchain" (default), by which a score_threshold means what it does in LangChain's own stores, or
            "reperio", which tells any two scores apart; see `langchain_reperio.conversion.scores`.
        relevance_score_fn: from a score to a relevance in [0, 1], instead of either.

    Raises:
        CollectionNotFound: *must_exist*, or *read_only*, and there is none.
        InvalidInput: options that contradict each other or what is recorded.
        EmbeddingContractError: *embedding* is not what the vectors were made with.
        CollectionLocked: another program has opened it with ``exclusive=True``.
    """

    def __init__(
        self,
        embedding: Embeddings | LangChainEmbedder | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        collection_name: str | None = None,
        collection: Collection | None = None,
        metric: Metric | str | None = None,
        dtype: Literal["float32", "float16"] | None = None,
        lexical: Literal["porter", "unicode61", "trigram", "none"] | None = None,
        scope: Mapping[str, Any] | Filter | None = None,
        limits: Limits | None = None,
        read_only: bool = False,
        must_exist: bool = False,
        recall: float | None = None,
        mode: Mode | None = None,
        fusion: Fusion | None = None,
        weight: float | None = None,
        candidates: int | None = None,
        reranker: Reranker | None = None,
        relevance: RelevanceScale = "langchain",
        relevance_score_fn: Callable[[float], float] | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("ReperioVectorStore", unknown, _CONSTRUCTOR)
        self._scale = checked_scale(relevance)
        self._relevance = relevance_score_fn and checked(relevance_score_fn)
        opening = Opening(
            *(embedding, path, collection_name, metric, dtype, lexical, scope, limits, read_only, must_exist)
        )
        if collection is not None:
            opening.require_none()
        self._embeddings = embedding.embedding if isinstance(embedding, LangChainEmbedder) else embedding
        self._own = collection is None
        self._collection = opening.open() if collection is None else collection
        self._metric = self._collection.info().metric
        self._defaults = SearchDefaults(recall, mode, fusion, weight, candidates, reranker)

    @classmethod
    async def acreate(
        cls,
        embedding: Embeddings | LangChainEmbedder | None = None,
        path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Self:
        """Open or create a store as the constructor does, without holding up the event loop.

        Embeddings that only have coroutines must be opened in this way.
        """
        if isinstance(embedding, Embeddings) and not isinstance(embedding, ReperioEmbeddings):
            given = embedding
            embedding = await Vectors().serve(lambda: run_in_executor(None, LangChainEmbedder, given))
        opened = partial(cls, embedding, path, **options)
        return await Vectors().serve(lambda: run_in_executor(None, opened))

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
            **kwargs: the constructor's other options, ``path`` among them, and those of `add_texts`.
        """
        adding = {name: kwargs.pop(name) for name in ADDING if name in kwargs}
        store = cls(embedding, **kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids, **adding)
        except BaseException:
            store.close()  # nobody else could: the caller never gets the store
            raise
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Await `from_texts`: same arguments, result and errors. The embeddings' own coroutines are awaited."""
        adding = {name: kwargs.pop(name) for name in ADDING if name in kwargs}
        store = await cls.acreate(embedding, **kwargs)
        try:
            await store.aadd_texts(texts, metadatas, ids=ids, **adding)
        except BaseException:
            await store.aclose()  # likewise
            raise
        return store

    # ── searching and reading: most of it is in `Searching` and `Adding` ─────────────────────────────────────────────

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Search by "similarity", "similarity_score_threshold", "mmr", "hybrid" (words and vectors) or "lexical"."""
        _require_type(search_type)
        if search_type in BY_WORDS:
            return self.similarity_search(query, mode=search_type, **kwargs)
        return super().search(query, search_type, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Await `search`: same arguments, result and errors. The embeddings' own coroutines are awaited."""
        _require_type(search_type)
        if search_type in BY_WORDS:
            return await self.asimilarity_search(query, mode=search_type, **kwargs)
        return await super().asearch(query, search_type, **kwargs)

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

    async def aclose(self) -> None:
        """Await `close`, which may wait for the end of an index build."""
        if self._own:
            await self._collection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ReperioVectorStore({self._collection!r})"


def _require_type(search_type: str) -> None:
    if search_type not in _SEARCH_TYPES:
        raise InvalidInput(f"search_type is {search_type!r}; choose {', '.join(map(repr, _SEARCH_TYPES))}")
