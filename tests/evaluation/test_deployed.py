"""What is deployed is gated as it is: retrievers of LangChain and LlamaIndex, and functions that give neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio.errors import InvalidInput
from reperio.evaluation import GateReport, GoldenQuery, GoldenSet, Search, from_langchain, from_llama_index, gate
from tests.conftest import TrigramEmbedder
from tests.evaluation.conftest import chunks


def golden() -> GoldenSet:
    queries = [GoldenQuery(each.id, " ".join(each.text.split()[:6]), {each.id: 1}) for each in chunks()[:10]]
    filtered = GoldenQuery("filtered", queries[0].text, {"c0": 1}, where={"lang": "de"})
    return GoldenSet([*queries, filtered], {"R@10": 1.0})


def unfiltered() -> GoldenSet:
    return GoldenSet(golden().queries[:-1], {"R@10": 1.0})


def judged(search: Search) -> GateReport:
    return gate(None, golden(), search=search, only=["thresholds", "filtered answers"])


def test_a_langchain_retriever(path: Path) -> None:
    """Its documents are read by their ids; a filter reaches it by a wrapper of one line."""
    adapter = pytest.importorskip("langchain_reperio", reason="the LangChain adapter is not installed")
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings

    class Trigrams(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return TrigramEmbedder().embed_passages(texts).tolist()

        def embed_query(self, text: str) -> list[float]:
            return TrigramEmbedder().embed_queries([text])[0].tolist()

    with adapter.ReperioVectorStore(embedding=Trigrams(), path=str(path)) as store:
        store.add_documents([Document(each.text, id=each.id, metadata=dict(each.metadata)) for each in chunks()])

        def search(text: str, *, k: int, where: Any) -> list[Document]:
            return store.as_retriever(search_kwargs={"k": k, "filter": where}).invoke(text)

        assert [check.verdict for check in judged(search).checks] == ["pass", "pass"]
        assert [check.verdict for check in judged(from_langchain(store)).checks] == ["pass", "pass"]
        retriever = gate(None, unfiltered(), search=from_langchain(store.as_retriever()), only=["thresholds"])
        assert retriever.passed, "a retriever gives what it is set to, and that is judged"
        by_field = from_langchain(store, id_field="source", scores=True)
        assert by_field(unfiltered().queries[0].text, k=1, where=None)[0][0].id == "d0"
        with pytest.raises(InvalidInput, match="is no LangChain vector store"):
            from_langchain([])
        report = judged(store.as_retriever().invoke)
        assert "which search has no option for" in report.checks[0].evidence[0]
        assert report.collection == "langchain_core.retrievers.BaseRetriever.invoke"


def test_a_llama_index_retriever(path: Path) -> None:
    """Its nodes with scores are read."""
    adapter = pytest.importorskip("llama_index.vector_stores.reperio", reason="the adapter is not installed")
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.embeddings import MockEmbedding
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters

    class Trigrams(MockEmbedding):
        def _get_text_embedding(self, text: str) -> list[float]:
            return TrigramEmbedder().embed_passages([text])[0].tolist()

        _get_query_embedding = _get_text_embedding

    stored = StorageContext.from_defaults(vector_store=adapter.ReperioVectorStore(path=str(path)))
    nodes = [TextNode(id_=each.id, text=each.text, metadata=dict(each.metadata)) for each in chunks()]
    index = VectorStoreIndex(nodes, storage_context=stored, embed_model=Trigrams(embed_dim=64))
    questions = GoldenSet([*unfiltered().queries, GoldenQuery("z", "zzzz", nothing_above=0.95)], {"R@10": 1.0})
    search = index.as_retriever(similarity_top_k=10).retrieve
    report = gate(None, questions, search=search, only=["thresholds", "nothing above"])
    assert [check.verdict for check in report.checks] == ["pass", "pass"]
    by_index = gate(None, questions, search=from_llama_index(index), only=["thresholds", "nothing above"])
    assert [check.verdict for check in by_index.checks] == ["pass", "pass"]
    assert from_llama_index(index.as_retriever())(questions.queries[0].text)[0].node.node_id == "c0"
    refused = gate(None, golden(), search=from_llama_index(index), only=["thresholds"])
    assert "which search has no option for" in refused.checks[0].evidence[0]

    def to_filter(where: Any) -> MetadataFilters:
        return MetadataFilters(filters=[ExactMatchFilter(key=key, value=value) for key, value in where.items()])

    search = from_llama_index(index, to_filter=to_filter)
    assert [check.verdict for check in judged(search).checks] == ["pass", "pass"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("an answer in words", "search gave a str; the gate reads a list"),
        ({"documents": []}, "search gave a dict"),
        (None, "search gave a NoneType"),
        ([{"id": "c0"}], "gave a dict without an id"),
        ({"c0", "c1"}, "search gave a set, which has no order"),
        ([("c0", None)], "the question 'c0': search gave the score 'None'"),
    ],
)
def test_what_is_no_result_is_refused(given: Any, complaint: str) -> None:
    """Instead of being read as ids."""
    report = gate(None, unfiltered(), search=lambda _text: given, only=["thresholds"])
    assert complaint in report.checks[0].evidence[0]


def test_a_question_that_cannot_be_asked_is_named() -> None:
    """Whatever is raised, by the function or by the package; what has no such questions is skipped, not asked."""

    def search(text: str) -> list[str]:
        if text == unfiltered().queries[3].text:
            raise LookupError("no prompt")
        return []

    for function in (search, lambda text: search(text) or [("c0", float("nan"))] * (text != "")):
        report = gate(None, unfiltered(), search=function, only=["thresholds", "nothing above", "filtered answers"])
        assert [check.verdict for check in report.checks] == ["error", "skip", "skip"]
        assert report.checks[0].evidence[0].startswith(f"the question '{'c3' if function is search else 'c0'}': ")
    assert (
        "search raised LookupError: no prompt"
        in gate(None, unfiltered(), search=search, only=["latency"]).checks[0].evidence[0]
    )


def test_documents_of_a_search_that_gives_ids(path: Path, embedder: TrigramEmbedder) -> None:
    """Their metadata is looked up in the collection; without one, nothing can be said, and 0 is not said."""
    asked = [GoldenQuery(each.id, " ".join(each.text.split()[:6]), documents={"d0": 1}) for each in chunks()[:5]]
    documents = GoldenSet(asked, {"RR@10": 0.1}, document_field="source")
    with reperio.open(path, embedder=embedder) as collection:
        collection.add(chunks())

        def search(text: str) -> list[str]:
            return [hit.chunk.id for hit in collection.search(text)]

        [looked_up] = gate(collection, documents, search=search, only=["thresholds"]).checks
        [own] = gate(collection, documents, only=["thresholds"]).checks
        assert (looked_up.verdict, looked_up.figures) == ("pass", own.figures)
        [alone] = gate(None, documents, search=search, only=["thresholds"]).checks
    assert (alone.verdict, "'c0' expects documents, and search gives ids without" in alone.evidence[0]) == (
        "error",
        True,
    )


def test_an_asynchronous_search_is_refused() -> None:
    """With what to pass instead."""

    async def search(_text: str) -> list[str]:
        return []

    report = gate(None, unfiltered(), search=search, only=["thresholds"])
    assert ("search is asynchronous" in report.checks[0].evidence[0], report.exit_code) == (True, 2)
