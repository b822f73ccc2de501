"""Haystack's retrievers by embedding, by words, and by both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy
from reperio import Fusion
from reperio.errors import InvalidInput
from typing_extensions import Self

from haystack_integrations.document_stores.reperio import ReperioDocumentStore

_Found = dict[str, list[Document]]


class _Retriever:
    """What the retrievers have in common: the store, its filters, how many documents, and a search's options.

    `component` makes another class of each, so they call its constructor by its name instead of by ``super()``.
    """

    def __init__(
        self,
        document_store: ReperioDocumentStore,
        filters: dict[str, Any] | None,
        top_k: int,
        filter_policy: FilterPolicy | str,
        options: dict[str, Any],
    ) -> None:
        if not isinstance(document_store, ReperioDocumentStore):
            raise InvalidInput(f"document_store is a {type(document_store).__name__}; pass a ReperioDocumentStore")
        _require_whole(top_k)
        if top_k <= 0:
            raise ValueError(f"top_k must be greater than 0, but got {top_k}")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )
        self.options = {name: value for name, value in options.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the retriever as a serialized pipeline keeps it, its store included."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            **self.options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the retriever that `to_dict` has told of."""
        parameters = dict(data.get("init_parameters", {}))
        store = parameters.get("document_store")
        if isinstance(store, dict):
            parameters["document_store"] = ReperioDocumentStore.from_dict(store)
        made: Self = default_from_dict(cls, {**data, "init_parameters": parameters})
        return made

    def _retrieved(
        self,
        query: str | None,
        embedding: Sequence[float] | None,
        filters: dict[str, Any] | None,
        top_k: int | None,
    ) -> _Found:
        if query is not None and not isinstance(query, str):
            raise InvalidInput(f"query is a {type(query).__name__}; pass a text")
        wanted = self.top_k if top_k is None else top_k
        _require_whole(wanted)
        if wanted < 0:
            raise ValueError(f"top_k must be greater than or equal to 0, but got {wanted}")
        found = self.document_store._search(
            query=query,
            embedding=embedding,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            top_k=wanted,
            options=self.options,
        )
        return {"documents": found}


def _require_whole(top_k: object) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int):
        raise InvalidInput(f"top_k is {top_k!r:.60}; it is an integer")


def _require_both(query: object, embedding: object) -> None:
    if query is None or embedding is None:
        missing = "query" if query is None else "query_embedding"
        raise InvalidInput(f"{missing} is None; hybrid retrieval takes a text and its embedding")


@component
class ReperioEmbeddingRetriever(_Retriever):
    """Retrieves the documents whose embeddings are nearest to that of a question.

    Scores are similarities: the cosine, the inner product, or minus the squared distance.

    Args:
        document_store: where to retrieve from.
        filters: in Haystack's form; exactly min(top_k, matching documents) are returned.
        top_k: how many documents.
        filter_policy: REPLACE or MERGE: what happens with *filters* when `run` is given others.
        recall: share of the true nearest that is aimed at, in (0, 1]; 1.0 is exact.
        min_score: leave out documents with a lower score.
    """

    def __init__(
        self,
        document_store: ReperioDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        recall: float | None = None,
        min_score: float | None = None,
    ) -> None:
        options = {"recall": recall, "min_score": min_score}
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy, options)

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> _Found:
        """Return ``{"documents": …}``, the nearest first."""
        return self._retrieved(None, query_embedding, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> _Found:
        """Await `run`."""
        return await asyncio.to_thread(self._retrieved, None, query_embedding, filters, top_k)


@component
class ReperioBM25Retriever(_Retriever):
    """Retrieves the documents that fit the words of a question best, by BM25.

    Args:
        document_store, filters, top_k, filter_policy, min_score: as of `ReperioEmbeddingRetriever`.
    """

    def __init__(
        self,
        document_store: ReperioDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        min_score: float | None = None,
    ) -> None:
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy, {"min_score": min_score})

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None) -> _Found:
        """Return ``{"documents": …}``, the best first; documents without any of the words are not among them."""
        return self._retrieved(query, None, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None) -> _Found:
        """Await `run`."""
        return await asyncio.to_thread(self._retrieved, query, None, filters, top_k)


@component
class ReperioHybridRetriever(_Retriever):
    """Retrieves by embedding and by words at once, and fuses both lists.

    Args:
        document_store, filters, top_k, filter_policy, recall, min_score: as of `ReperioEmbeddingRetriever`. Documents
            without an embedding are passed over.
        fusion: "convex", the weighted sum of min-max scores, or "rrf", reciprocal ranks.
        weight: weight of the embedding's list in "convex", 0 to 1.
    """

    def __init__(
        self,
        document_store: ReperioDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
        recall: float | None = None,
        min_score: float | None = None,
        fusion: Fusion | None = None,
        weight: float | None = None,
    ) -> None:
        options = {"recall": recall, "min_score": min_score, "fusion": fusion, "weight": weight}
        _Retriever.__init__(self, document_store, filters, top_k, filter_policy, options)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> _Found:
        """Return ``{"documents": …}``, the best first."""
        _require_both(query, query_embedding)
        return self._retrieved(query, query_embedding, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> _Found:
        """Await `run`."""
        _require_both(query, query_embedding)
        return await asyncio.to_thread(self._retrieved, query, query_embedding, filters, top_k)
