"""LangChain's embeddings as a Reperio embedder, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from langchain_core.embeddings import Embeddings
from reperio import Embedder
from reperio.errors import EmbedderFailed, InvalidInput
from reperio.forks import spare_torch

_NAMED_BY = ("model_name", "model", "model_id", "repo_id")
"""Attributes by which LangChain's embeddings say which model they use; the first that is a text counts."""


class LangChainEmbedder:
    """A Reperio `Embedder` on any LangChain ``Embeddings``.

    With it a collection draws up its embedding contract: eight canary texts, embedded as documents and as queries, are
    recorded at creation and compared each time the collection is opened with embeddings. That is one call of
    ``embed_documents`` and eight of ``embed_query``, and one of ``embed_query`` for the dimension.

    Args:
        embedding: embeds documents and queries.

    Attributes:
        embedding: as passed.
        name: the model's name where the embeddings tell one, else the name of their class: what the contract records.
        dimension: length of the vectors.

    Raises:
        InvalidInput: *embedding* is not LangChain's.
        EmbedderFailed: it makes no vectors.
    """

    def __init__(self, embedding: Embeddings) -> None:
        if not isinstance(embedding, Embeddings):
            raise InvalidInput(
                f"embedding is a {type(embedding).__name__}; pass LangChain embeddings (langchain_core.embeddings."
                "Embeddings), or wrap an embedder of Reperio in ReperioEmbeddings"
            )
        self.embedding = embedding
        self.name = _name(embedding)
        spare_torch()
        vector = embedding.embed_query("How long are the vectors?")
        if np.ndim(vector) != 1 or len(vector) == 0:
            raise EmbedderFailed(f"{self.name} made {vector!r:.60} of a text, which is no vector")
        self.dimension = len(vector)

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array (len(texts), dimension), from one call of ``embed_documents``."""
        return np.asarray(self.embedding.embed_documents(list(texts)), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array (len(texts), dimension); ``embed_query`` takes one text, so it is called for each."""
        return np.asarray([self.embedding.embed_query(text) for text in texts], dtype=np.float32)


class ReperioEmbeddings(Embeddings):
    """A Reperio `Embedder` as LangChain embeddings.

    For example the small model that travels in a package, without a model hub:
    ``ReperioEmbeddings(reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER))``.

    Args:
        embedder: any embedder of Reperio.

    Raises:
        InvalidInput: it is none.
    """

    def __init__(self, embedder: Embedder) -> None:
        if not isinstance(embedder, Embedder):
            raise InvalidInput(
                f"embedder is a {type(embedder).__name__}; pass e.g. reperio.SentenceTransformerEmbedder(name), an "
                "object with name, dimension, embed_passages(texts) and embed_queries(texts)"
            )
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that are to be found."""
        return _lists(self.embedder.embed_passages(texts))

    def embed_query(self, text: str) -> list[float]:
        """Embed a question."""
        return _lists(self.embedder.embed_queries([text]))[0]

    def __repr__(self) -> str:
        return f"ReperioEmbeddings({self.embedder.name!r})"


def to_embedder(embedding: Embeddings) -> Embedder:
    """Return what a collection is opened with: the embedder inside, or one around."""
    return embedding.embedder if isinstance(embedding, ReperioEmbeddings) else LangChainEmbedder(embedding)


def from_embedder(embedder: Embedder) -> Embeddings:
    """Return the embeddings inside an embedder, or some around it."""
    return embedder.embedding if isinstance(embedder, LangChainEmbedder) else ReperioEmbeddings(embedder)


def _lists(vectors: npt.NDArray[np.floating[Any]]) -> list[list[float]]:
    return [[float(value) for value in vector] for vector in vectors]


def _name(embedding: Embeddings) -> str:
    for attribute in _NAMED_BY:
        name = getattr(embedding, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(embedding).__name__
