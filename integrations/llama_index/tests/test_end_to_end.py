"""With the real MiniLM embedding and a mock language model: index, filter, hybrid, rerank, delete, reopen, refresh."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reperio
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from reperio import LateInteractionReranker, SentenceTransformerEmbedder
from reperio.embedding import load_embedder

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioRerank, ReperioVectorStore
from tests.running import run_python

pytestmark = pytest.mark.model

TEXTS = {
    "password": ("en", 2024, "To reset your password, follow the link in the mail that we send you."),
    "passwort": ("de", 2024, "Um das Passwort zurückzusetzen, folgen Sie dem Link in der E-Mail."),
    "error": ("en", 2021, "Error E4711 of the VPN client means that the certificate has expired."),
    "leave": ("en", 2023, "Employees have thirty days of paid leave a year."),
    "travel": ("en", 2024, "Train journeys are booked in second class; flights need an approval."),
}

SECOND_PROCESS = """
import json, sys
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import Document
from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore
from reperio import SentenceTransformerEmbedder, DEFAULT_EMBEDDER

class Counting(SentenceTransformerEmbedder):
    embedded = []
    def embed_passages(self, texts):
        self.embedded += texts
        return super().embed_passages(texts)

model = ReperioEmbedding(Counting(DEFAULT_EMBEDDER))
with ReperioVectorStore(sys.argv[1], embed_model=model) as store:
    Counting.embedded.clear()  # the canaries, by which the collection recognises its model
    index = VectorStoreIndex(nodes=[], storage_context=store.storage_context(), embed_model=model)
    before = [each.node.ref_doc_id for each in index.as_retriever(similarity_top_k=1).retrieve("I forgot my password")]
    documents = [Document.from_dict(each) for each in json.loads(sys.argv[2])]
    refreshed = index.refresh_ref_docs(documents)
    after = index.as_retriever(similarity_top_k=1, vector_store_query_mode="hybrid").retrieve("holiday in days")
    print(json.dumps([before, refreshed, Counting.embedded, after[0].node.get_content(), len(store.get_nodes())]))
"""


def test_a_model_by_name_is_loaded_by_the_core() -> None:
    """On the engine that suits it and this machine; pickled, it is loaded by that name again."""
    model = ReperioEmbedding(embed_batch_size=7)
    again = pickle.loads(pickle.dumps(model))
    assert type(model._embedder) is type(load_embedder(reperio.DEFAULT_EMBEDDER))
    assert (again.model_name, again.embed_batch_size) == (model.model_name, 7)
    np.testing.assert_allclose(again.get_query_embedding("one"), model.get_query_embedding("one"), atol=1e-6)
    with pytest.raises(reperio.EmbedderFailed):
        ReperioEmbedding("no/such-model")


def documents() -> list[Document]:
    return [
        Document(id_=name, text=text, metadata={"lang": lang, "year": year})
        for name, (lang, year, text) in TEXTS.items()
    ]


def retrieved(index: VectorStoreIndex, question: str, **options: Any) -> list[str | None]:
    found = index.as_retriever(**{"similarity_top_k": 2, **options}).retrieve(question)
    return [each.node.ref_doc_id for each in found]


def test_the_whole_way(tmp_path: Path) -> None:
    """Everything that a user does, in order; in the second process exactly the changed document is embedded."""
    embedder = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)
    model = ReperioEmbedding(embedder)
    reranker = LateInteractionReranker(embedder)
    path = tmp_path / "kb"
    with ReperioVectorStore(path, embed_model=model, reranker=reranker) as store:
        index = VectorStoreIndex.from_documents(
            documents(), storage_context=store.storage_context(), embed_model=model,
            transformations=[SentenceSplitter()],
        )  # fmt: skip
        assert retrieved(index, "I forgot my password", similarity_top_k=1) == ["password"]
        german = MetadataFilters(filters=[MetadataFilter(key="lang", value="de")])
        assert retrieved(index, "I forgot my password", filters=german) == ["passwort"]
        recent = MetadataFilters(
            filters=[
                MetadataFilter(key="year", value=2024, operator=FilterOperator.GTE),
                MetadataFilter(key="lang", value=["en", "fr"], operator=FilterOperator.IN),
            ]
        )
        assert retrieved(index, "I forgot my password", filters=recent, similarity_top_k=5) == ["password", "travel"]
        for mode in ("hybrid", "semantic_hybrid", "text_search"):
            found = retrieved(index, "what does E4711 mean", vector_store_query_mode=mode)
            assert found[0] == "error", mode
        assert len(set(retrieved(index, "password", vector_store_query_mode="mmr", similarity_top_k=3))) == 3
        engine = index.as_query_engine(
            llm=MockLLM(), similarity_top_k=4, node_postprocessors=[ReperioRerank(reranker=reranker, top_n=1)]
        )
        answer = engine.query("How many days of vacation do I have?")
        assert [each.node.ref_doc_id for each in answer.source_nodes] == ["leave"]
        assert "thirty days" in str(answer)
        index.delete_ref_doc("travel", delete_from_docstore=True)
        assert "travel" not in retrieved(index, "train journeys", similarity_top_k=10)
    changed = [document for document in documents() if document.id_ != "travel"]
    changed[3].set_content("Employees have thirty-one days of holiday a year.")
    printed = run_python(SECOND_PROCESS, str(path), json.dumps([each.to_dict() for each in changed]))
    before, refreshed, embedded, best, nodes = json.loads(printed.splitlines()[-1])
    assert before == ["password"]
    assert refreshed == [False, False, False, True]
    assert embedded == ["lang: en\nyear: 2023\n\nEmployees have thirty-one days of holiday a year."]
    assert best == "Employees have thirty-one days of holiday a year."
    assert nodes == 4


async def test_embeddings_are_the_embedders_and_leave_the_loop_free() -> None:
    """One by one, in batches, as queries, and asynchronously: the same vectors, to bfloat16."""
    embedder = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)
    model = ReperioEmbedding(embedder, embed_batch_size=2)
    texts = [text for _, _, text in TEXTS.values()]
    batch = model.get_text_embedding_batch(texts)
    assert await model.aget_text_embedding_batch(texts) == batch
    assert model.get_text_embedding(texts[0]) == pytest.approx(batch[0], abs=0.02)
    assert await model.aget_text_embedding(texts[0]) == model.get_text_embedding(texts[0])
    assert await model.aget_query_embedding(texts[0]) == model.get_query_embedding(texts[0])
    assert (model.model_name, model.class_name()) == (embedder.name, "ReperioEmbedding")
