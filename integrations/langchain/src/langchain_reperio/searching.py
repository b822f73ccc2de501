"""Searching: the half of a store that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from langchain_core.documents import Document
from reperio import Collection, Hit, Metric

from langchain_reperio import options
from langchain_reperio.awaiting import is_served, twin
from langchain_reperio.conversion.documents import from_hit
from langchain_reperio.conversion.filters import to_narrowed
from langchain_reperio.conversion.scores import Relevance, RelevanceScale, to_relevance
from langchain_reperio.options import SearchDefaults, by_vector_alone, marginal


class Searching:
    """The methods of a store that search."""

    _collection: Collection
    _metric: Metric
    _defaults: SearchDefaults
    _relevance: Relevance | None
    _scale: RelevanceScale

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

    def similarity_search_with_vectors(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, npt.NDArray[np.float32]]]:
        """Return the documents of `similarity_search`, each with its vector as it is compared, of shape (d,)."""
        found = self.similarity_search(query, k, **kwargs)
        vectors = self._collection.vectors([str(document.id) for document in found])
        return list(zip(found, vectors, strict=True))

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
        found = self.max_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, **kwargs)
        return [document for document, _ in found]

    def max_marginal_relevance_search_with_score(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the same in the order of choice, each document with its own score of similarity to *query*."""
        asked = self._defaults.merged(kwargs, options.MMR, "max_marginal_relevance_search")
        asked.update(marginal(k, fetch_k, lambda_mult))
        return [from_hit(hit) for hit in self._found(query, k, asked)]

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

    # ── to be awaited ────────────────────────────────────────────────────────────────────────────────────────────────

    asimilarity_search = twin(similarity_search)
    asimilarity_search_with_score = twin(similarity_search_with_score)
    asimilarity_search_by_vector = twin(similarity_search_by_vector)
    asimilarity_search_with_score_by_vector = twin(similarity_search_with_score_by_vector)
    asimilarity_search_with_vectors = twin(similarity_search_with_vectors)
    amax_marginal_relevance_search = twin(max_marginal_relevance_search)
    amax_marginal_relevance_search_with_score = twin(max_marginal_relevance_search_with_score)
    amax_marginal_relevance_search_by_vector = twin(max_marginal_relevance_search_by_vector)
    amax_marginal_relevance_search_with_score_by_vector = twin(max_marginal_relevance_search_with_score_by_vector)
    _asimilarity_search_with_relevance_scores = twin(_similarity_search_with_relevance_scores)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _found(self, query: str, k: int, asked: dict[str, Any]) -> list[Hit]:
        given = asked.pop("filter", None)
        if isinstance(query, str) and not query.strip() and by_vector_alone(asked):
            # A self-query that is all filter asks for " ", which Reperio takes for a mistake, and a model can embed.
            embedder = self._collection.embedder
            if embedder is not None:
                (vector,) = embedder.embed_queries([query])
                narrowed = to_narrowed(self._collection, given)
                return self._collection.search(vector=vector, k=k, **narrowed, **asked)
        if is_served() and (asked.get("mode") != "lexical" or "diversity" in asked):
            # What must be awaited is found out before a filter is applied or anything is searched, which would be done
            # again afterwards. The collection keeps the vector, and embeds nothing in the search itself.
            self._collection.embed([query])
        narrowed = to_narrowed(self._collection, given)
        return self._collection.search(query, k=k, **narrowed, **asked)

    def _relevance_of(self, asked: Mapping[str, Any]) -> Relevance:
        if self._relevance is not None:
            return self._relevance
        found = self._defaults.merged(asked, options.SEARCH, "similarity_search_with_relevance_scores")
        return to_relevance(
            self._metric,
            scale=self._scale,
            mode=found.get("mode", "dense"),
            fusion=found.get("fusion", "convex"),
            reranked=found.get("reranker") is not None,
        )
