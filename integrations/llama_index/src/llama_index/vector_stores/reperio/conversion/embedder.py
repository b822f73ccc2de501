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
from reperio import DEFAULT_EMBEDDER
from reperio.embedding import load_embedder
from reperio.forks import spare_torch
from typing_extensions import Self

_OWN = ("model_name", "callback_manager")  # fields of an embedding model that are not options to be pickled


class ReperioEmbedding(BaseEmbedding):
    """An embedder of the core as an embedding model of LlamaIndex.

    Args:
        embedder: a sentence-transformers name or local path, which runs on the engine that suits it and this machine,
            or a `reperio.Embedder`.
        options: of `BaseEmbedding`, such as embed_batch_size.

    Raises:
        MissingDependency, EmbedderFailed: the model cannot be loaded.
    """

    _embedder: reperio.Embedder = PrivateAttr()
    _given: reperio.Embedder | str = PrivateAttr()

    def __init__(self, embedder: reperio.Embedder | str = DEFAULT_EMBEDDER, **options: Any) -> None:
        loaded = load_embedder(embedder) if isinstance(embedder, str) else embedder
        super().__init__(model_name=loaded.name, **options)
        self._embedder, self._given = loaded, embedder

    def __reduce__(self) -> tuple[Any, ...]:
        # By its name where it was given by one: what runs a model can rarely be pickled. Otherwise LlamaIndex would
        # load the default model first, and then put the other in its place.
        kept = {name: getattr(self, name) for name in type(self).model_fields if name not in _OWN}
        return _loaded_again, (type(self), self._given, kept)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # nothing of it changes, and a model is large

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


def _loaded_again(cls: type[ReperioEmbedding], embedder: reperio.Embedder | str, options: dict[str, Any]) -> Any:
    return cls(embedder, **options)


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
