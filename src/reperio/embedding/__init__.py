"""Engines that make vectors of texts: one each. An engine's library is imported when it is first used."""

from reperio.embedding.choosing import for_one_question, load_embedder
from reperio.embedding.onnx import OnnxEmbedder
from reperio.embedding.sentence_transformers import SentenceTransformerEmbedder

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""Used when a collection is created without an embedder or a dimension."""

__all__ = ["DEFAULT_EMBEDDER", "OnnxEmbedder", "SentenceTransformerEmbedder", "for_one_question", "load_embedder"]
