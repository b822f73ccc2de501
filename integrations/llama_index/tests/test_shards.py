"""A store over shards: it searches them as one collection, and says that it cannot write."""

from __future__ import annotations

from pathlib import Path

import pytest
import reperio
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from reperio import CollectionReadOnly
from reperio.collection.facade import handle_of
from reperio.sharding.manifest import ShardLayout, ShardManifest, write_manifest

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import node, to_query, vector


def test_a_store_over_shards_reads_and_refuses_to_write(tmp_path: Path) -> None:
    """Nodes that stores of single shards have written; every mode of a query."""
    nodes = [node(f"n{number}", lang="en" if number % 2 else "de") for number in range(12)]
    root = tmp_path / "shards"
    (root / "shards").mkdir(parents=True)
    with reperio.open(":memory:", dimension=len(vector(0))) as template:
        manifest = ShardManifest.new(handle_of(template).settings(), 3)
    for entry in manifest.shards:
        with reperio.open(ShardLayout(root).shard(entry), dimension=len(vector(0))) as kb:
            own = [each for each in nodes if manifest.shard_of(each.node_id) == entry]
            if own:
                ReperioVectorStore(collection=kb).add(own)
    write_manifest(root, manifest)
    with reperio.open_shards(root) as shards, reperio.open(tmp_path / "one", dimension=len(vector(0))) as one:
        by_id = {each.node_id: each for each in nodes}
        ReperioVectorStore(collection=one).add([by_id[key] for key in shards.ids()])
        left, right = (ReperioVectorStore(collection=kb) for kb in (shards, one))
        for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR):
            query = to_query(vector(3), k=5, mode=mode, query_str="text of n3")
            found, expected = left.query(query), right.query(query)
            assert (found.ids, found.similarities) == (expected.ids, expected.similarities)
            assert found.nodes == expected.nodes
        assert [each.node_id for each in left.get_nodes(["n1", "n7"])] == ["n1", "n7"]
        with pytest.raises(CollectionReadOnly, match="served for reading"):
            left.add([node("new")])
        with pytest.raises(CollectionReadOnly):
            left.delete_nodes(["n1"])
