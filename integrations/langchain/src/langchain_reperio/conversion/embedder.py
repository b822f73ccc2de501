"""LangChain's embeddings as a Reperio embedder, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from langchain_core.embeddings import Embeddings
from reperio import DEFAULT_EMBEDDER, Embedder
from reperio.embedding import load_embedder
from reperio.errors import EmbedderFailed, EmbeddingContractError, InvalidInput
from reperio.forks import spare_torch

from langchain_reperio.awaiting import awaited

_NAMED_BY = ("model_name", "model", "model_id", "repo_id")
"""Attributes by which LangChain's embeddings say which model they use; the first that is a text counts."""

_FIRST = "The cat sat on the mat."  # the first canary of a contract: what is embedded twice is compared
_AGREEMENT = 0.999  # least cosine of its two vectors, as of a canary's


class LangChainEmbedder:
    """A Reperio `Embedder` on any LangChain ``Embeddings``.

    With it a collection draws up its embedding contract: eight canary texts, embedded as documents and as queries, are
    recorded at creation and compared each time the collection is opened with embeddings. That is one call of
    ``embed_documents`` and eight of ``embed_query``, and one of ``embed_query`` for the dimension.

    In an asynchronous method the embeddings' own ``aembed_documents`` and ``aembed_query`` are awaited instead.

    Args:
        embedding: embeds documents and queries.

    Attributes:
        embedding: as passed.
        name: the model's name where the embeddings tell one, else the name of their class: what the contract records.
        dimension: length of the vectors.

    Raises:
        InvalidInput: *embedding* is not LangChain's, or only has coroutines, and no asynchronous method made the call.
        EmbedderFailed: it makes no vectors.
        EmbeddingContractError: later, where it makes another vector of a text each time, so that nothing can be found.
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
        (vector,) = self._queries([_FIRST])
        if np.ndim(vector) != 1 or len(vector) == 0:
            raise EmbedderFailed(f"{self.name} made {vector!r:.60} of a text, which is no vector")
        self.dimension = len(vector)
        self._first: Any = vector  # until the same text is embedded again

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array (len(texts), dimension), from one call of ``embed_documents``."""
        ready = awaited(self.embedding)
        if ready is not None:
            return np.asarray(ready.of(self.embedding, texts, queries=False), dtype=np.float32)
        try:
            return np.asarray(self.embedding.embed_documents(list(texts)), dtype=np.float32)
        except NotImplementedError as error:
            raise self._asynchronous() from error

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array (len(texts), dimension); ``embed_query`` takes one text, so it is called for each."""
        made = np.asarray(self._queries(texts), dtype=np.float32)
        if self._first is not None and _FIRST in texts:
            self._require_same(made[list(texts).index(_FIRST)])
        return made

    def _queries(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        ready = awaited(self.embedding)
        if ready is not None:
            return ready.of(self.embedding, texts, queries=True)
        try:
            return [self.embedding.embed_query(text) for text in texts]
        except NotImplementedError as error:
            raise self._asynchronous() from error

    def _require_same(self, again: npt.NDArray[np.floating[Any]]) -> None:
        first, self._first = np.asarray(self._first, dtype=np.float64), None
        lengths = float(np.linalg.norm(first) * np.linalg.norm(again))
        if again.shape != first.shape or not lengths or float(first @ again) / lengths < _AGREEMENT:
            raise EmbeddingContractError(
                f"{self.name} makes another vector of the same text each time, so that nothing could be found; use "
                "embeddings that always make the same, in tests DeterministicFakeEmbedding"
            )

    def _asynchronous(self) -> InvalidInput:
        return InvalidInput(
            f"{self.name} has no embed_documents or embed_query, only coroutines: open the store with await "
            "ReperioVectorStore.acreate(…), and call its asynchronous methods (aadd_texts, asimilarity_search, …)"
        )


class ReperioEmbeddings(Embeddings):
    """A Reperio `Embedder` as LangChain embeddings.

    For example the small model that travels in a package, without a model hub:
    ``ReperioEmbeddings()``.

    Args:
        embedder: a sentence-transformers name or local path, which runs on the engine that suits it and this machine,
            or any embedder of Reperio.

    Raises:
        InvalidInput: it is neither.
        MissingDependency, EmbedderFailed: the model cannot be loaded.
    """

    def __init__(self, embedder: Embedder | str = DEFAULT_EMBEDDER) -> None:
        if isinstance(embedder, str):
            embedder = load_embedder(embedder)
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


def to_embedder(embedding: Embeddings | LangChainEmbedder) -> Embedder:
    """Return what a collection is opened with: the embedder inside, or one around."""
    if isinstance(embedding, LangChainEmbedder):
        return embedding
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
