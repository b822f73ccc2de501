"""The document store by itself, and the ingestion pipeline's strategies on both stores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import reperio
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import HierarchicalNodeParser, SentenceSplitter, get_leaf_nodes
from llama_index.core.retrievers import AutoMergingRetriever
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode

from llama_index.vector_stores.reperio import ReperioDocumentStore, ReperioEmbedding, ReperioVectorStore
from tests.conftest import TrigramEmbedder, node


def test_nodes_of_the_collection_can_be_had_from_it(store: ReperioVectorStore) -> None:
    """Without being stored twice; those beside the collection too, and no search finds these."""
    store.add([node("a", document="d")])
    docstore = store.docstore
    docstore.add_documents(store.get_nodes())
    docstore.add_documents([node("parent", document="d"), Document(id_="d", text="whole")])
    assert store.client is not None
    assert [record.key for record in store.client.records("llama_index/nodes").list()] == ["d", "parent"]
    assert docstore.get_document("a") == store.get_nodes(["a"])[0]
    assert docstore.get_node("parent").ref_doc_id == "d"
    assert [each.node_id for each in docstore.get_nodes(["parent", "a"])] == ["parent", "a"]
    assert set(docstore.docs) == {"a", "parent", "d"}
    assert isinstance(docstore.docs["d"], Document)
    assert len(store.get_nodes()) == 1
    info = docstore.get_ref_doc_info("d")
    assert info is not None
    assert info.node_ids == ["a", "parent"]
    assert docstore.get_all_ref_doc_info() == {"d": info}
    assert docstore.get_ref_doc_info("unknown") is None


def test_what_is_added_last_is_what_is_read(store: ReperioVectorStore) -> None:
    """A node kept beside the collection with another content wins until the collection's is added again."""
    store.add([node("a")])
    docstore = store.docstore
    docstore.add_documents([node("a", text="other")])
    assert docstore.get_node("a").get_content() == "other"
    docstore.add_documents(store.get_nodes())
    assert docstore.get_node("a").get_content() == "a"


def test_what_is_not_there(store: ReperioVectorStore) -> None:
    """An error by default, None where it is not wanted; before there is a collection, too."""
    docstore = store.docstore
    for _ in range(2):
        for call in (docstore.get_document, docstore.delete_document, docstore.delete_ref_doc):
            with pytest.raises(ValueError, match="no document or node 'x'"):
                call("x")
            assert call("x", raise_error=False) is None
        assert not docstore.document_exists("x")
        assert docstore.get_document_hash("x") is None
        store.add([node("a")])
    with pytest.raises(ValueError, match="'a' is there already"):
        docstore.add_documents([node("a")], allow_update=False)


def test_hashes_told_before_there_is_a_collection_are_kept(tmp_path: Path) -> None:
    """from_documents tells them before the first nodes; they count as soon as there are nodes."""
    store = ReperioVectorStore(tmp_path / "kb")
    docstore = store.docstore
    docstore.set_document_hash("d", "early")
    assert docstore.get_all_document_hashes() == {}
    bare = TextNode(id_="a", text="a", embedding=[1.0, 0.0])
    bare.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="d")  # of unknown hash
    store.add([bare])
    docstore.set_document_hash("other", "h")
    assert docstore.get_document_hash("d") == "early"
    docstore.set_document_hash("d", "told")
    assert docstore.get_document_hash("d") == "told"
    assert docstore.get_all_document_hashes() == {"told": "d"}
    assert store.docstore.get_document_hash("d") == "told"
    store.close()


@pytest.mark.parametrize("same", [True, False])
def test_nodes_told_before_there_is_a_collection_are_kept(tmp_path: Path, same: bool) -> None:
    """They can be had at once, and are stored with the first nodes, by the same document store or by another."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        docstore = store.docstore
        docstore.add_documents([node("parent", text="all of it"), node("leaf", text="a part")])
        docstore.add_documents([node("gone")], store_text=True)
        docstore.delete_document("gone")
        with pytest.raises(ValueError, match="is there already"):
            docstore.add_documents([node("leaf")], allow_update=False)
        for early in (docstore, store.docstore):
            assert sorted(early.docs) == ["leaf", "parent"]
            assert early.get_document("parent").get_content() == "all of it"  # type: ignore[union-attr]  # it is there
            assert not early.document_exists("gone")
        assert not (tmp_path / "kb").exists()
        store.add([node("leaf", text="a part")])
        if same:
            assert sorted(docstore.docs) == ["leaf", "parent"]
    with ReperioVectorStore(tmp_path / "kb", read_only=True) as store:
        assert sorted(store.docstore.docs) == ["leaf", "parent"]
        assert store.client is not None
        assert [record.key for record in store.client.records("llama_index/nodes").list()] == ["parent"]


def test_auto_merging_with_the_documents_first(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """As LlamaIndex's guide has it: all nodes into the document store, then an index of the leaves; here and later."""
    text = " ".join(f"Sentence {at} is about trains and their many stations." for at in range(12))
    nodes = HierarchicalNodeParser.from_defaults(chunk_sizes=[256, 32], chunk_overlap=0).get_nodes_from_documents(
        [Document(id_="d", text=text)]
    )
    leaves = get_leaf_nodes(nodes)
    assert len(nodes) > len(leaves) > 2
    with ReperioVectorStore(tmp_path / "kb") as store:
        context = StorageContext.from_defaults(vector_store=store, docstore=store.docstore)
        context.docstore.add_documents(nodes)
        index = VectorStoreIndex(leaves, storage_context=context, embed_model=embed_model)
        first = _merged(index, context, len(leaves))
    with ReperioVectorStore(tmp_path / "kb") as store:
        context = store.storage_context()
        index = VectorStoreIndex(nodes=[], storage_context=context, embed_model=embed_model)
        assert _merged(index, context, len(leaves)) == first
        parents = {each.node_id for each in nodes} - {each.node_id for each in leaves}
        assert set(first) <= parents


def _merged(index: VectorStoreIndex, context: StorageContext, k: int) -> list[str]:
    retriever = AutoMergingRetriever(index.as_retriever(similarity_top_k=k), context)  # type: ignore[arg-type]  # it is one
    return sorted(each.node.node_id for each in retriever.retrieve("trains and stations"))


async def test_the_asynchronous_methods_are_the_same(store: ReperioVectorStore) -> None:
    """Every one of them, side by side."""
    store.add([node("a", document="d")])
    docstore = store.docstore
    await docstore.async_add_documents([node("p", document="d")])
    await docstore.aset_document_hash("d", "h")
    await docstore.aset_document_hashes({"d": "h2"})
    assert await docstore.aget_document_hash("d") == "h2"
    assert (await docstore.aget_all_document_hashes())["h2"] == "d"
    assert await docstore.adocument_exists("p")
    found, info, infos = await asyncio.gather(
        docstore.aget_document("p"), docstore.aget_ref_doc_info("d"), docstore.aget_all_ref_doc_info()
    )
    assert found is not None
    assert info is not None
    assert infos == {"d": info}
    await docstore.adelete_document("p")
    await docstore.adelete_ref_doc("d")
    assert not await docstore.adocument_exists("p")
    assert await docstore.aget_document_hash("d") == "hash of d"


def texts(**bodies: str) -> list[Document]:
    return [Document(id_=name, text=body) for name, body in bodies.items()]


def pipeline(
    store: ReperioVectorStore, model: ReperioEmbedding, strategy: DocstoreStrategy, *, split: bool = True
) -> IngestionPipeline:
    steps: list[Any] = [SentenceSplitter(chunk_size=40, chunk_overlap=0)] if split else []
    return IngestionPipeline(
        transformations=[*steps, model], vector_store=store, docstore=store.docstore, docstore_strategy=strategy,
        disable_cache=True,
    )  # fmt: skip


def contents(store: ReperioVectorStore) -> list[str]:
    return sorted(each.get_content() for each in store.get_nodes())


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_every_strategy_of_the_pipeline(
    tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder, strategy: DocstoreStrategy,
    asynchronous: bool, split: bool,
) -> None:  # fmt: skip
    """With a new store each time: nothing is embedded twice, changes replace, and upserts_and_delete mirrors."""

    def run(documents: list[Document]) -> list[str]:
        embedder.embedded.clear()
        store = ReperioVectorStore(tmp_path / "kb")
        made = pipeline(store, embed_model, strategy, split=split)
        asyncio.run(made.arun(documents=documents)) if asynchronous else made.run(documents=documents)
        found = contents(store)
        store.close()
        return found

    assert run(texts(a="alpha", b="beta", c="gamma")) == ["alpha", "beta", "gamma"]
    assert len(embedder.embedded) == 3
    assert run(texts(a="alpha", b="beta", c="gamma")) == ["alpha", "beta", "gamma"]
    assert embedder.embedded == []
    changed = run(texts(a="alpha", b="BETA 2"))
    assert len(embedder.embedded) == 1
    expected = {
        DocstoreStrategy.UPSERTS: ["BETA 2", "alpha", "gamma"],
        DocstoreStrategy.UPSERTS_AND_DELETE: ["BETA 2", "alpha"],
        # By its meaning: it knows texts and not documents. Unsplit, the node's id is the document's, and replaced.
        DocstoreStrategy.DUPLICATES_ONLY: ["BETA 2", "alpha", "beta", "gamma"]
        if split
        else ["BETA 2", "alpha", "gamma"],
    }[strategy]
    assert changed == expected
    assert run(texts(a="alpha", b="BETA 2")) == expected
    assert embedder.embedded == []


def test_upserts_and_delete_mirrors_equal_documents(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """Documents with one text have one hash, and each of them goes when it is no longer given."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        made = pipeline(store, embed_model, DocstoreStrategy.UPSERTS_AND_DELETE)
        made.run(documents=texts(a="the same", b="the same", c="the same", d="other"))
        assert sorted(store.docstore.get_all_document_hashes().values()) == ["a", "b", "c", "d"]
        assert texts(a="the same")[0].hash in store.docstore.get_all_document_hashes()
        made.run(documents=texts(d="other"))
        assert [node.ref_doc_id for node in store.get_nodes()] == ["d"]
        made.run(documents=[])
        assert store.get_nodes() == []


@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_what_was_deleted_is_ingested_again(
    tmp_path: Path, embed_model: ReperioEmbedding, strategy: DocstoreStrategy
) -> None:
    """A document whose nodes were deleted from the store is new to the pipeline."""
    store = ReperioVectorStore(tmp_path / "kb")
    pipeline(store, embed_model, strategy).run(documents=texts(a="alpha", b="beta"))
    store.delete("a")
    pipeline(store, embed_model, strategy).run(documents=texts(a="alpha", b="beta"))
    assert contents(store) == ["alpha", "beta"]
    store.close()


def test_upserts_and_delete_without_stored_texts(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """store_doc_text=False keeps the hashes alone; deleting what is gone works all the same."""
    store = ReperioVectorStore(tmp_path / "kb")
    made = pipeline(store, embed_model, DocstoreStrategy.UPSERTS_AND_DELETE)
    made.run(documents=texts(a="alpha", b="beta"), store_doc_text=False)
    assert store.client is not None
    assert store.client.records("llama_index/nodes").list() == []
    made.run(documents=texts(b="beta"), store_doc_text=False)
    assert contents(store) == ["beta"]
    store.close()


def test_duplicates_only_knows_nodes_that_were_given(
    tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder
) -> None:
    """Nodes that have a source document already, ingested twice, are embedded once."""
    store = ReperioVectorStore(tmp_path / "kb")
    for _ in range(2):
        nodes = [node(f"n{i}", document="d", text=f"text {i}") for i in range(3)]
        for each in nodes:
            each.embedding = None
        pipeline(store, embed_model, DocstoreStrategy.DUPLICATES_ONLY).run(nodes=nodes)
    assert len(embedder.embedded) == 3
    assert len(store.get_nodes()) == 3
    store.close()


def test_deletes_and_adds_are_idempotent(store: ReperioVectorStore) -> None:
    """Twice is once."""
    for _ in range(2):
        store.add([node("a", document="d"), node("b", document="e")])
    for _ in range(2):
        store.delete("d")
        store.delete_nodes(["b", "b"])
    assert store.get_nodes() == []


def test_records_survive_compaction_and_backup(tmp_path: Path) -> None:
    """They are in the collection, whatever is done with it."""
    store = ReperioVectorStore(tmp_path / "kb")
    store.add([node("a", document="d"), node("b", document="d2")])
    store.docstore.add_documents([Document(id_="d", text="whole")])
    store.docstore.set_document_hash("d", "h")
    store.delete("d2")
    assert store.client is not None
    store.client.compact()
    store.client.backup(tmp_path / "copy")
    for each in (store, ReperioVectorStore(tmp_path / "copy")):
        docstore = ReperioDocumentStore(each)
        assert docstore.get_document_hash("d") == "h"
        assert docstore.get_node("d").get_content() == "whole"
        each.close()


def test_a_read_only_store_reads_its_documents(tmp_path: Path) -> None:
    """And refuses to write, by name."""
    store = ReperioVectorStore(tmp_path / "kb")
    store.add([node("a", document="d")])
    store.close()
    docstore = ReperioVectorStore(tmp_path / "kb", read_only=True).docstore
    assert docstore.get_document_hash("d") == "hash of d"
    with pytest.raises(reperio.CollectionReadOnly):
        docstore.set_document_hash("d", "h")
