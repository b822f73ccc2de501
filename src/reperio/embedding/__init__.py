"""Engines that make vectors of texts: one file each. An engine's library is imported when it is first used."""

from reperio.embedding.sentence_transformers import SentenceTransformerEmbedder

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""Used when a collection is created without an embedder or a dimension."""

__all__ = ["DEFAULT_EMBEDDER", "SentenceTransformerEmbedder"]
