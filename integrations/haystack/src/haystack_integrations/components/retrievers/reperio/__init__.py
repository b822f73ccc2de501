"""Retrievers for `ReperioDocumentStore`: by embedding, by words, and by both."""

from haystack_integrations.components.retrievers.reperio.retriever import (
    ReperioBM25Retriever,
    ReperioEmbeddingRetriever,
    ReperioHybridRetriever,
)

__all__ = ["ReperioBM25Retriever", "ReperioEmbeddingRetriever", "ReperioHybridRetriever"]
