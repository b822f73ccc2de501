"""Write small folders with LlamaIndex itself, as test data for the importer.

Run in an environment that has llama-index-core and llama-index-vector-stores-faiss: ``python make_llama_index.py
DESTINATION``. Next to the folders lies ``expected.json``: the nodes, and what LlamaIndex itself answers. ``--pack``
packs all, as they are kept here.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
from importlib.metadata import version
from typing import Any

import faiss
import numpy as np
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

DIMENSION = 8
NODES = 40
QUESTIONS = 23


def vectors(count: int, seed: int) -> list[list[float]]:
    """Vectors of very different lengths: a metric that is not carried shows at once."""
    made = np.random.default_rng(seed)
    lengths = np.exp(made.standard_normal((count, 1)))
    return (made.standard_normal((count, DIMENSION)) * lengths).astype(np.float32).tolist()


def nodes() -> list[TextNode]:
    """Nodes of four documents, each with its neighbours."""
    made = []
    for number, vector in enumerate(vectors(NODES, 1)):
        node = TextNode(
            id_=f"node-{number}",
            text=f"Text {number}: ünïcödé, 日本語.",
            metadata={"page": number, "tags": ["a", {"b": None}]},
            embedding=vector,
            excluded_embed_metadata_keys=["page"],
        )
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(
            node_id=f"doc-{number % 4}", hash=f"hash-{number % 4}"
        )
        if number:
            node.relationships[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=f"node-{number - 1}")
        made.append(node)
    return made


def persisted(store: Any, folder: pathlib.Path) -> dict[str, Any]:
    """Make an index over a vector store, persist it, and return what LlamaIndex answers."""
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(nodes(), storage_context=context, embed_model=MockEmbedding(DIMENSION))
    if not isinstance(store, FaissVectorStore) or isinstance(store, FaissMapVectorStore):
        index.delete_nodes(["node-3"], delete_from_docstore=True)
    index.storage_context.persist(str(folder))
    near, scores = [], []
    for question in vectors(QUESTIONS, 9):
        found = index.vector_store.query(VectorStoreQuery(query_embedding=question, similarity_top_k=10))
        ids = (
            found.ids
            if store is None or isinstance(store, FaissMapVectorStore)
            else [_named(index, key) for key in found.ids]
        )
        near.append(ids)
        scores.append([round(float(score), 5) for score in found.similarities])
    return {"near": near, "scores": scores, "nodes": {key: node.to_dict() for key, node in index.docstore.docs.items()}}


def _named(index: Any, key: str) -> str:
    return index.index_struct.nodes_dict.get(key, key)


def main() -> None:
    """Write the folders and what is expected of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("destination", type=pathlib.Path)
    parser.add_argument("--pack", action="store_true")
    options = parser.parse_args()
    root = options.destination / f"llama_index-{version('llama-index-core')}"
    root.mkdir(parents=True)
    expected = {
        "questions": vectors(QUESTIONS, 9),
        "simple": persisted(None, root / "simple"),
        "faiss": persisted(FaissVectorStore(faiss.IndexFlatL2(DIMENSION)), root / "faiss"),
        "inner_product": persisted(FaissVectorStore(faiss.IndexFlatIP(DIMENSION)), root / "inner_product"),
        "faiss_map": persisted(
            FaissMapVectorStore(faiss.IndexIDMap2(faiss.IndexFlatL2(DIMENSION))), root / "faiss_map"
        ),
    }
    (root / "expected.json").write_text(json.dumps(expected, ensure_ascii=False), encoding="utf-8")
    if options.pack:
        shutil.make_archive(str(root), "xztar", root)
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
