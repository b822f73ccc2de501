"""What many tests need: an embedding model that needs no weights and counts what it embeds, nodes, stores."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before FAISS and PyTorch are loaded: next to other tests, threads that spin while they wait double the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DIMENSION = 64


class TrigramEmbedder:
    """Counts character trigrams into buckets: a `reperio.Embedder`, deterministic, without a model."""

    name = "trigrams"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.embedded += texts
        return self._vectors(texts)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._vectors(texts)

    def _vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(out, texts, strict=True):
            padded = f"  {text.lower()} "
            for at in range(len(padded) - 2):
                vector[zlib.crc32(padded[at : at + 3].encode()) % self.dimension] += 1
        return out


@pytest.fixture
def embedder() -> TrigramEmbedder:
    """Whose `embedded` lists every text that was embedded to be stored."""
    return TrigramEmbedder()


@pytest.fixture
def embed_model(embedder: TrigramEmbedder) -> ReperioEmbedding:
    return ReperioEmbedding(embedder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReperioVectorStore]:
    made = ReperioVectorStore(tmp_path / "kb")
    yield made
    made.close()


@pytest.fixture
def filled(store: ReperioVectorStore) -> ReperioVectorStore:
    """Three documents of two nodes each, along a quarter of a circle: n0 is nearest to (1, 0), n5 farthest."""
    store.add(
        [
            node(f"n{i}", (np.cos(i / 4), np.sin(i / 4)), document=f"d{i // 2}", number=i, even=str(i % 2 == 0))
            for i in range(6)
        ]
    )
    return store


def vector(*numbers: float) -> list[float]:
    """Return a vector of four dimensions that begins with *numbers*."""
    return [*numbers, *([0.0] * (4 - len(numbers)))]


def node(
    node_id: str,
    embedding: Sequence[float] = (1.0,),
    *,
    text: str | None = None,
    document: str | None = None,
    **metadata: Any,
) -> TextNode:
    """Return a small node; its text is its id unless another is given."""
    made = TextNode(
        id_=node_id, text=node_id if text is None else text, embedding=vector(*embedding), metadata=metadata
    )
    if document is not None:
        made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document, hash=f"hash of {document}")
    return made


def ask(
    store: ReperioVectorStore,
    embedding: Sequence[float] | None = (1.0,),
    *,
    mode: str = "default",
    k: int = 10,
    options: dict[str, Any] | None = None,
    **query: Any,
) -> list[str]:
    """Return the ids that a query finds."""
    result = store.query(to_query(embedding, mode=mode, k=k, **query), **(options or {}))
    assert [each.node_id for each in result.nodes or []] == result.ids
    assert len(result.similarities or []) == len(result.ids or [])
    return result.ids or []


def to_query(
    embedding: Sequence[float] | None = (1.0,), *, mode: str = "default", k: int = 10, **query: Any
) -> VectorStoreQuery:
    return VectorStoreQuery(
        query_embedding=None if embedding is None else vector(*embedding),
        similarity_top_k=k,
        mode=VectorStoreQueryMode(mode),
        **query,
    )


def only(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
