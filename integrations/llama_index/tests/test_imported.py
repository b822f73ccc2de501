"""A folder of LlamaIndex's own stores, imported: its nodes come back as they were, and answers are the same."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext
from llama_index.core.schema import NodeRelationship
from llama_index.core.vector_stores.types import VectorStoreQuery
from reperio.importers.llama_index import import_llama_index

from llama_index.vector_stores.reperio import ReperioDocumentStore, ReperioVectorStore
from tests.running import ROOT

DATA = ROOT / "tests" / "importers" / "data"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("llama_index")
    # Python 3.10 and 3.11 know the filter since their security releases of 2023, and Debian's may be older.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(next(DATA.glob("llama_index-*.tar.xz"))) as file:
        file.extractall(into, **options)
    return into


def test_nodes_come_back_as_they_were(packed: Path, tmp_path: Path) -> None:
    """Compared with what LlamaIndex itself loads: metadata, templates, excluded keys and relationships."""
    import_llama_index(packed / "simple", tmp_path / "kb")
    theirs = StorageContext.from_defaults(persist_dir=str(packed / "simple")).docstore.docs
    with ReperioVectorStore(path=tmp_path / "kb") as store:
        nodes = {node.node_id: node for node in store.get_nodes(list(theirs))}
        assert nodes.keys() == theirs.keys()
        for key, node in theirs.items():
            assert type(nodes[key]) is type(node)
            ours = nodes[key].model_dump(exclude={"embedding"})
            assert ours == node.model_dump(exclude={"embedding"})
        assert nodes["node-1"].relationships[NodeRelationship.SOURCE].node_id == "doc-1"
        assert ReperioDocumentStore(store).get_document_hash("doc-1") == "hash-1"  # so that a refresh knows it
        store.delete("doc-1")
        assert len(store.get_nodes(list(theirs))) == 29


def test_answers_are_llama_indexes(packed: Path, tmp_path: Path) -> None:
    """The first ten of each question, of FAISS as well."""
    expected = json.loads((packed / "expected.json").read_text(encoding="utf-8"))
    for name in ("simple", "faiss_map"):
        import_llama_index(packed / name, tmp_path / name)
        with ReperioVectorStore(path=tmp_path / name) as store:
            for question, near in zip(expected["questions"], expected[name]["near"], strict=True):
                assert store.query(VectorStoreQuery(query_embedding=question, similarity_top_k=10)).ids == near
