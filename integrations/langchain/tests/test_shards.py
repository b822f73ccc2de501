"""A store over shards: it searches them as one collection, and says that it cannot write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reperio
from reperio import Chunk, CollectionReadOnly
from reperio.collection.facade import handle_of
from reperio.sharding.manifest import ShardLayout, ShardManifest, write_manifest

from langchain_reperio import LangChainEmbedder, ReperioVectorStore
from tests.conftest import TrigramEmbeddings

TEXTS = [f"the {fruit} of garden number {number}" for number in range(8) for fruit in ("apple", "pear", "plum")]


def make_shards(root: Path, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    (root / "shards").mkdir(parents=True)
    with reperio.open(":memory:", dimension=vectors.shape[1]) as template:
        manifest = ShardManifest.new(handle_of(template).settings(), 3)
    for entry in manifest.shards:
        with reperio.open(ShardLayout(root).shard(entry), dimension=vectors.shape[1]) as kb:
            own = [at for at in range(len(TEXTS)) if manifest.shard_of(f"t{at}") == entry]
            kb.add([Chunk(f"t{at}", TEXTS[at], {"even": at % 2 == 0}) for at in own], vectors=vectors[own])
    write_manifest(root, manifest)


def test_a_store_over_shards_reads_and_refuses_to_write(tmp_path: Path, embeddings: TrigramEmbeddings) -> None:
    """Every way to search that a store of one collection has."""
    vectors = np.array(embeddings.embed_documents(TEXTS), dtype=np.float32)
    make_shards(tmp_path / "shards", vectors)
    embedder = LangChainEmbedder(embeddings)
    with (
        reperio.open_shards(tmp_path / "shards", embedder=embedder) as shards,
        reperio.open(tmp_path / "one", dimension=64, embedder=embedder) as one,
    ):
        ids = shards.ids()
        one.add(shards.get(ids), vectors=vectors[[int(key[1:]) for key in ids]])
        left, right = (ReperioVectorStore(collection=kb) for kb in (shards, one))
        question = "which pear grows in garden 5"
        assert left.similarity_search_with_score(question, k=6) == right.similarity_search_with_score(question, k=6)
        assert left.similarity_search(question, mode="hybrid") == right.similarity_search(question, mode="hybrid")
        assert left.similarity_search(question, filter={"even": True}) == right.similarity_search(
            question, filter={"even": True}
        )
        assert left.max_marginal_relevance_search(question, k=4) == right.max_marginal_relevance_search(question, k=4)
        assert left.get_by_ids(["t3", "t9", "absent"]) == right.get_by_ids(["t3", "t9", "absent"])
        with pytest.raises(CollectionReadOnly, match="served for reading"):
            left.add_texts(["another"])
        with pytest.raises(CollectionReadOnly):
            left.delete(["t3"])
