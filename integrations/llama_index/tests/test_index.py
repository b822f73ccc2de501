"""VectorStoreIndex on the store: build, insert, update, refresh, delete, in one process and in the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reperio
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, IndexNode, TextNode
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore
from tests.conftest import TrigramEmbedder

SPLIT = [SentenceSplitter(chunk_size=40, chunk_overlap=0)]


def documents() -> list[Document]:
    """Three documents, of which "long" is split into several nodes."""
    return [
        Document(id_="password", text="To reset your password, follow the link in the mail.", metadata={"lang": "en"}),
        Document(id_="invoice", text="Rechnungen werden per Überweisung bezahlt.", metadata={"lang": "de"}),
        Document(
            id_="long",
            text=" ".join(f"This is sentence number {i} about shipping parcels abroad." for i in range(12)),
            metadata={"lang": "en"},
        ),
    ]


def opened(path: Path, model: ReperioEmbedding, **options: Any) -> VectorStoreIndex:
    """Return the index over a collection, as the recipe has it: its storage context, and no nodes."""
    store = ReperioVectorStore(path, **options)
    return VectorStoreIndex(nodes=[], storage_context=store.storage_context(), embed_model=model, transformations=SPLIT)


def store_of(index: VectorStoreIndex) -> ReperioVectorStore:
    assert isinstance(index.vector_store, ReperioVectorStore)
    return index.vector_store


def stored(index: VectorStoreIndex) -> dict[str, int]:
    """Return how many nodes each document has."""
    found: dict[str, int] = {}
    for each in store_of(index).get_nodes():
        found[each.ref_doc_id or each.node_id] = found.get(each.ref_doc_id or each.node_id, 0) + 1
    return found


@pytest.fixture
def built(tmp_path: Path, embed_model: ReperioEmbedding) -> VectorStoreIndex:
    """Return an index of the three documents, built with from_documents and a plain StorageContext."""
    store = ReperioVectorStore(tmp_path / "kb")
    return VectorStoreIndex.from_documents(
        documents(),
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embed_model,
        transformations=SPLIT,
    )


def test_from_documents_with_a_storage_context(built: VectorStoreIndex) -> None:
    """All documents are in the collection, split, and found."""
    counts = stored(built)
    assert counts["password"] == counts["invoice"] == 1
    assert counts["long"] > 3
    (best,) = built.as_retriever(similarity_top_k=1).retrieve("reset password")
    assert best.node.ref_doc_id == "password"
    assert isinstance(best.node, TextNode)
    assert best.score is not None


def test_from_vector_store_finds_what_another_index_stored(
    built: VectorStoreIndex, tmp_path: Path, embed_model: ReperioEmbedding
) -> None:
    """After closing and opening again, with every retriever mode."""
    store_of(built).close()
    store = ReperioVectorStore(tmp_path / "kb")
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
    for mode in ("default", "hybrid", "text_search", "sparse", "mmr"):
        found = index.as_retriever(similarity_top_k=2, vector_store_query_mode=mode).retrieve("reset password")
        assert found[0].node.ref_doc_id == "password", mode
    filtered = index.as_retriever(filters=MetadataFilters(filters=[ExactMatchFilter(key="lang", value="de")]))
    assert [each.node.ref_doc_id for each in filtered.retrieve("reset password")] == ["invoice"]
    assert index.as_retriever(doc_ids=["invoice"]).retrieve("x")[0].node.ref_doc_id == "invoice"
    store.close()


def test_text_search_embeds_nothing(built: VectorStoreIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retriever in text_search mode never calls the embedding model."""
    retriever = built.as_retriever(vector_store_query_mode="text_search")

    def refuse(*_: object) -> Any:
        raise AssertionError("embedded")

    monkeypatch.setattr(TrigramEmbedder, "embed_queries", refuse)
    assert retriever.retrieve("password")[0].node.ref_doc_id == "password"


def test_options_reach_the_query_through_the_retriever(built: VectorStoreIndex) -> None:
    """vector_store_kwargs, and a misspelt one is an error."""
    retriever = built.as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=3, vector_store_kwargs={"mmr_threshold": 0.1}
    )
    assert len({each.node_id for each in retriever.retrieve("parcels")}) == 3
    wrong = built.as_retriever(vector_store_query_mode="mmr", vector_store_kwargs={"mmr_thresold": 0.1})
    with pytest.raises(reperio.UnknownOption, match="mmr_threshold"):
        wrong.retrieve("parcels")


def test_insert_and_delete_ref_doc(built: VectorStoreIndex) -> None:
    """What is inserted is found, what is deleted is not, nor in the docstore's ref_doc_info."""
    built.insert(Document(id_="new", text="An entirely new thing: zebras."))
    assert built.as_retriever(similarity_top_k=1).retrieve("an entirely new thing: zebras")[0].node.ref_doc_id == "new"
    built.delete_ref_doc("new", delete_from_docstore=True)
    built.delete_ref_doc("new", delete_from_docstore=True)
    assert "new" not in stored(built)
    built.delete_nodes([store_of(built).get_nodes()[0].node_id])
    assert "password" not in stored(built)


def test_refresh_after_building_embeds_only_what_changed(
    tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder
) -> None:
    """Built with the store's storage context; opened again; one changed document: exactly that one is embedded."""
    first = ReperioVectorStore(tmp_path / "kb")
    VectorStoreIndex.from_documents(
        documents(), storage_context=first.storage_context(), embed_model=embed_model, transformations=SPLIT
    )
    first.close()
    index = opened(tmp_path / "kb", embed_model)
    before = stored(index)
    embedder.embedded.clear()
    assert index.refresh_ref_docs(documents()) == [False, False, False]
    assert embedder.embedded == []
    changed = documents()
    changed[1].set_content("Rechnungen werden per Lastschrift bezahlt.")
    assert index.refresh_ref_docs(changed) == [False, True, False]
    assert len(embedder.embedded) == 1
    assert "Lastschrift" in embedder.embedded[0]
    assert stored(index) == before
    assert "Überweisung" not in "".join(each.get_content() for each in store_of(index).get_nodes())
    store_of(index).close()


def test_refresh_knows_documents_that_were_stored_without_its_docstore(
    built: VectorStoreIndex, tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder
) -> None:
    """Built with a plain StorageContext, whose docstore is lost: the nodes themselves tell the documents' hashes."""
    store_of(built).close()
    index = opened(tmp_path / "kb", embed_model)
    embedder.embedded.clear()
    added = [*documents(), Document(id_="fourth", text="The fourth document.")]
    assert index.refresh_ref_docs(added) == [False, False, False, True]
    assert len(embedder.embedded) == 1
    store_of(index).close()


async def test_asynchronous_refresh_and_update(
    tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder
) -> None:
    """arefresh_ref_docs and aupdate_ref_doc do what the others do."""
    index = opened(tmp_path / "kb", embed_model)
    assert await index.arefresh_ref_docs(documents()) == [True, True, True]
    embedder.embedded.clear()
    assert await index.arefresh_ref_docs(documents()) == [False, False, False]
    assert embedder.embedded == []
    before = stored(index)
    await index.aupdate_ref_doc(documents()[2])
    assert stored(index) == before
    await index.adelete_ref_doc("long", delete_from_docstore=True)
    assert "long" not in stored(index)
    store_of(index).close()


def test_update_ref_doc_replaces_all_nodes(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """Also after opening again: a document that shrank leaves no node of its older version."""
    index = opened(tmp_path / "kb", embed_model)
    index.refresh_ref_docs(documents())
    store_of(index).close()
    index = opened(tmp_path / "kb", embed_model)
    index.update_ref_doc(Document(id_="long", text="Now it is short."))
    assert stored(index) == {"password": 1, "invoice": 1, "long": 1}
    store_of(index).close()


def test_a_deleted_document_is_inserted_again_by_refresh(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """Whoever deleted it, by whatever way: the index, the store, the collection itself.

    LlamaIndex's own document stores keep the hash of a document whose nodes are gone, and it never comes back.
    """
    index = opened(tmp_path / "kb", embed_model)
    index.refresh_ref_docs(documents())
    everything = stored(index)
    store = store_of(index)
    assert store.client is not None
    index.delete_ref_doc("password", delete_from_docstore=True)
    store.delete_nodes([each.node_id for each in store.get_nodes() if each.ref_doc_id == "long"])
    store.client.delete(where={"lang": "de"})
    assert stored(index) == {}
    assert index.refresh_ref_docs(documents()) == [True, True, True]
    assert stored(index) == everything
    store.clear()
    assert index.refresh_ref_docs(documents()) == [True, True, True]
    store.close()


def test_an_insertion_that_broke_off_is_completed_by_refresh(
    tmp_path: Path, embed_model: ReperioEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two batches of one document: half of it is stored, and refresh replaces it, without repetition."""
    store = ReperioVectorStore(tmp_path / "kb")
    real, calls = ReperioVectorStore.add, 0

    def breaking(self: ReperioVectorStore, nodes: Any, **kwargs: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(self, nodes, **kwargs)

    monkeypatch.setattr(ReperioVectorStore, "add", breaking)
    with pytest.raises(KeyboardInterrupt):
        VectorStoreIndex.from_documents(
            documents(), storage_context=store.storage_context(), embed_model=embed_model, transformations=SPLIT,
            insert_batch_size=4,
        )  # fmt: skip
    monkeypatch.undo()
    store.close()
    index = opened(tmp_path / "kb", embed_model)
    assert len(store_of(index).get_nodes()) == 4
    assert index.refresh_ref_docs(documents()) == [False, False, True]
    texts = [each.get_content() for each in store_of(index).get_nodes()]
    assert len(texts) == len(set(texts))
    assert index.refresh_ref_docs(documents()) == [False, False, False]
    store_of(index).close()


def test_an_older_record_does_not_hide_a_newer_version(
    tmp_path: Path, embed_model: ReperioEmbedding, embedder: TrigramEmbedder
) -> None:
    """Updated by an index that does not know the docstore; the old version, offered again, is seen as a change."""
    index = opened(tmp_path / "kb", embed_model)
    index.refresh_ref_docs(documents()[:1])
    newer = Document(id_="password", text="Passwords are gone; use a passkey.", metadata={"lang": "en"})
    VectorStoreIndex.from_vector_store(store_of(index), embed_model=embed_model).update_ref_doc(newer)
    embedder.embedded.clear()
    assert index.refresh_ref_docs([newer]) == [False]
    assert index.refresh_ref_docs(documents()[:1]) == [True]
    assert [each.get_content() for each in store_of(index).get_nodes()] == [documents()[0].text]
    store_of(index).close()


def test_inserting_a_document_twice_warns_with_the_cure(built: VectorStoreIndex, embed_model: ReperioEmbedding) -> None:
    """from_vector_store has an empty docstore, so refresh inserts everything again; the warning says what to do."""
    index = VectorStoreIndex.from_vector_store(store_of(built), embed_model=embed_model, transformations=SPLIT)
    with pytest.warns(reperio.ReperioWarning, match=r"'password'.*storage_context=store.storage_context\(\)"):
        index.refresh_ref_docs(documents()[:1])


def test_parts_of_one_document_in_several_batches_do_not_warn(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """Nor do headings that occur twice, nor nodes added again under their own ids; warnings are errors here."""
    store = ReperioVectorStore(tmp_path / "kb")
    text = " ".join(["The same sentence again and again, word for word."] * 12)
    index = VectorStoreIndex.from_documents(
        [Document(id_="d", text=text)], storage_context=store.storage_context(), embed_model=embed_model,
        transformations=SPLIT, insert_batch_size=1,
    )  # fmt: skip
    index.insert_nodes(store.get_nodes())
    store.close()


def test_a_deleted_node_stays_deleted(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """Whoever takes one node out of a document does not find it back after a refresh of the unchanged document."""
    index = opened(tmp_path / "kb", embed_model)
    index.refresh_ref_docs(documents())
    before = stored(index)["long"]
    gone = [each.node_id for each in store_of(index).get_nodes() if each.ref_doc_id == "long"][1]
    index.delete_nodes([gone])
    assert index.refresh_ref_docs(documents()) == [False, False, False]
    assert stored(index)["long"] == before - 1
    store_of(index).close()


def test_index_nodes_among_others(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """They come back whole through the retriever, which fetches them from the docstore, in a new process too.

    In the process that inserted them, `as_retriever` restricts itself to them: LlamaIndex passes the ids of its own
    index structure, which holds no others. `VectorIndexRetriever(index)` does not.
    """
    index = opened(tmp_path / "kb", embed_model)
    nodes = [TextNode(id_="t", text="plain words"), IndexNode(id_="i", text="plain words, too", index_id="elsewhere")]
    index.insert_nodes(nodes)
    assert {each.node_id for each in VectorIndexRetriever(index).retrieve("plain words")} == {"t", "i"}
    assert {each.node_id for each in index.as_retriever().retrieve("plain words")} == {"i"}
    store_of(index).close()
    index = opened(tmp_path / "kb", embed_model)
    found = {each.node_id: each.node for each in index.as_retriever().retrieve("plain words")}
    assert set(found) == {"t", "i"}
    assert isinstance(found["i"], IndexNode)
    assert found["i"].index_id == "elsewhere"
    store_of(index).close()


async def test_retriever_evaluator_works_with_the_stored_ids(built: VectorStoreIndex) -> None:
    """Expected ids are those of the nodes as stored; hit rate and MRR are 1 for what is found first."""
    expected = next(each for each in store_of(built).get_nodes() if each.ref_doc_id == "password")
    evaluator = RetrieverEvaluator.from_metric_names(["hit_rate", "mrr"], retriever=built.as_retriever())
    result = await evaluator.aevaluate("reset your password", expected_ids=[expected.node_id])
    assert result.metric_vals_dict == {"hit_rate": 1.0, "mrr": 1.0}
    assert result.retrieved_texts is not None
    assert result.retrieved_texts[0].startswith("To reset")


def test_a_query_engine_answers_from_it(built: VectorStoreIndex) -> None:
    """The retrieved text reaches the (mock) language model, and the answer names its sources."""
    answer = built.as_query_engine(llm=MockLLM(), similarity_top_k=1).query("reset password")
    assert "follow the link in the mail" in str(answer)
    assert [each.node.ref_doc_id for each in answer.source_nodes] == ["password"]
