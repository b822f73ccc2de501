"""The core's embedders as LlamaIndex embedding models, and the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import reperio
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from reperio import DEFAULT_EMBEDDER, SentenceTransformerEmbedder
from reperio.forks import spare_torch


class ReperioEmbedding(BaseEmbedding):
    """An embedder of the core as an embedding model of LlamaIndex.

    Args:
        embedder: a sentence-transformers name or local path, or a `reperio.Embedder`.
        options: of `BaseEmbedding`, such as embed_batch_size.

    Raises:
        MissingDependency, EmbedderFailed: the model cannot be loaded.
    """

    _embedder: reperio.Embedder = PrivateAttr()

    def __init__(self, embedder: reperio.Embedder | str = DEFAULT_EMBEDDER, **options: Any) -> None:
        loaded = SentenceTransformerEmbedder(embedder) if isinstance(embedder, str) else embedder
        super().__init__(model_name=loaded.name, **options)
        self._embedder = loaded

    @classmethod
    def class_name(cls) -> str:
        """Name it in serialised form."""
        return "ReperioEmbedding"

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = np.asarray(self._embedder.embed_passages(texts)).tolist()
        return found

    def _get_query_embedding(self, query: str) -> list[float]:
        found: list[float] = np.asarray(self._embedder.embed_queries([query]))[0].tolist()
        return found

    # In a thread: the framework's own fallback would compute in the event loop.

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)


class LlamaIndexEmbedder:
    """An embedding model of LlamaIndex as a `reperio.Embedder`, so that a collection can record and check it.

    Args:
        model: embeds one text at once, to learn the dimension.
    """

    def __init__(self, model: BaseEmbedding) -> None:
        self._model = model
        spare_torch()
        self._dimension = len(model.get_query_embedding("dimension"))

    @property
    def name(self) -> str:
        """The model's name, or, where it tells none, that of its class."""
        name = self._model.model_name
        return name if name and name != "unknown" else type(self._model).__name__

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return self._dimension

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts to be stored: float32 (len(texts), dimension)."""
        return np.asarray(self._model.get_text_embedding_batch(list(texts)), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed questions: float32 (len(texts), dimension)."""
        return np.asarray([self._model.get_query_embedding(text) for text in texts], dtype=np.float32)
