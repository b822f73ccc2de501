"""A store over shards: it searches them as one collection, and says that it cannot write."""

from __future__ import annotations

from pathlib import Path

import pytest
import reperio
from haystack.dataclasses import Document
from reperio import CollectionReadOnly
from reperio.collection.facade import handle_of
from reperio.sharding.manifest import ShardLayout, ShardManifest, write_manifest

from haystack_integrations.components.retrievers.reperio import ReperioEmbeddingRetriever
from haystack_integrations.document_stores.reperio import ReperioDocumentStore
from tests.conftest import DIMENSION, TEXTS, embed


def test_a_store_over_shards_reads_and_refuses_to_write(tmp_path: Path) -> None:
    """Documents, filters, counts and a retriever."""
    documents = {
        key: Document(id=key, content=text, meta=meta, embedding=embed(text)) for key, (text, meta) in TEXTS.items()
    }
    root = tmp_path / "shards"
    (root / "shards").mkdir(parents=True)
    with reperio.open(":memory:", dimension=DIMENSION) as template:
        manifest = ShardManifest.new(handle_of(template).settings(), 2)
    for entry in manifest.shards:
        with reperio.open(ShardLayout(root).shard(entry), dimension=DIMENSION) as kb:
            own = [each for each in documents.values() if manifest.shard_of(each.id) == entry]
            ReperioDocumentStore(collection=kb).write_documents(own)
    write_manifest(root, manifest)
    with reperio.open_shards(root) as shards, reperio.open(tmp_path / "one", dimension=DIMENSION) as one:
        ReperioDocumentStore(collection=one).write_documents([documents[key] for key in shards.ids()])
        left, right = (ReperioDocumentStore(collection=kb) for kb in (shards, one))
        travel = {"field": "meta.topic", "operator": "==", "value": "travel"}
        assert left.filter_documents(travel) == right.filter_documents(travel)
        assert left.filter_documents() == right.filter_documents()
        assert left.count_documents() == len(TEXTS)
        for store in (left, right):
            found = ReperioEmbeddingRetriever(store, top_k=3).run(query_embedding=embed("a fruit"))["documents"]
            assert {found[0].id, found[1].id} == {"apple", "pear"}
        for change in (
            lambda: left.write_documents([Document(id="new", content="x", embedding=embed("x"))]),
            lambda: left.delete_documents(["apple"]),
        ):
            with pytest.raises(CollectionReadOnly, match="served for reading"):
                change()
