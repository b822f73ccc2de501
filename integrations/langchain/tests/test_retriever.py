"""ReperioRetriever and ReperioRerank."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError
from reperio import CallableReranker
from reperio.errors import InvalidInput, RerankerFailed, UnknownOption

from langchain_reperio import ReperioRerank, ReperioRetriever, ReperioVectorStore
from tests.conftest import METADATA, TEXTS, TrigramEmbeddings

LONGEST = CallableReranker(lambda _, texts: [float(len(text)) for text in texts])


def ids(documents: list[Document]) -> list[str]:
    return [str(document.id) for document in documents]


def test_the_fields_are_the_options_of_a_search(filled: ReperioVectorStore) -> None:
    """Fields and invoke's arguments lead to the same search; an argument wins over its field."""
    retriever = ReperioRetriever(vectorstore=filled, k=2, filter={"topic": "travel"}, mode="hybrid", weight=0.4)
    expected = filled.similarity_search("nine", k=2, filter={"topic": "travel"}, mode="hybrid", weight=0.4)
    assert retriever.invoke("nine") == expected
    assert (
        ReperioRetriever(vectorstore=filled).invoke("nine", k=2, filter={"topic": "travel"}, mode="hybrid", weight=0.4)
        == expected
    )
    assert len(retriever.invoke("nine", k=1, filter=lambda document: document.id == "fever")) == 1


def test_a_reranker_orders_the_candidates(filled: ReperioVectorStore) -> None:
    """reranker= reads the texts of all candidates, and the best k by its scores come back."""
    retriever = ReperioRetriever(vectorstore=filled, k=2, candidates=6, reranker=LONGEST)
    assert ids(retriever.invoke("fruit")) == sorted(TEXTS, key=lambda name: -len(TEXTS[name]))[:2]


def test_scores_are_put_into_the_metadata_only_when_asked(filled: ReperioVectorStore) -> None:
    """score_key names the place; a document's own entry there is not hidden, and what is stored stays."""
    plain, scored = (
        ReperioRetriever(vectorstore=filled, k=6, **options).invoke("fruit") for options in ({}, {"score_key": "score"})
    )
    expected = filled.similarity_search_with_score("fruit", k=6)
    assert [document.metadata for document in plain] == [METADATA[str(document.id)] for document in plain]
    assert [document.metadata["score"] for document in scored] == [score for _, score in expected]
    assert filled.get_by_ids(["apple"])[0].metadata == METADATA["apple"]
    with pytest.raises(InvalidInput, match="another score_key"):
        ReperioRetriever(vectorstore=filled, score_key="topic").invoke("fruit")


def test_a_threshold_is_of_relevance(filled: ReperioVectorStore) -> None:
    """score_threshold keeps what is relevant enough, and score_key then holds the relevance."""
    retriever = ReperioRetriever(vectorstore=filled, k=6, score_threshold=0.99, score_key="relevance")
    (found,) = retriever.invoke(TEXTS["train"])
    assert found.id == "train"
    assert found.metadata["relevance"] == pytest.approx(1.0)


def test_what_does_not_exist_is_refused(filled: ReperioVectorStore, embeddings: TrigramEmbeddings) -> None:
    """Misspelt fields and arguments, and another store."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        ReperioRetriever(vectorstore=filled, top_k=3)
    with pytest.raises(UnknownOption, match="did you mean 'filter'"):
        ReperioRetriever(vectorstore=filled).invoke("fruit", filters={})
    with pytest.raises(ValidationError, match="ReperioVectorStore"):
        ReperioRetriever(vectorstore=InMemoryVectorStore(embeddings))


async def test_it_is_a_runnable(filled: ReperioVectorStore) -> None:
    """It chains, batches and runs asynchronously like any retriever."""
    retriever = ReperioRetriever(vectorstore=filled, k=1)
    chain = retriever | RunnableLambda(ids)
    questions = list(TEXTS.values())
    assert chain.batch(questions) == [[name] for name in TEXTS]
    assert await chain.abatch(questions) == [[name] for name in TEXTS]
    assert await retriever.ainvoke("fruit", k=2) == retriever.invoke("fruit", k=2)


DOCUMENTS = [
    Document(id="a", page_content="short", metadata={"n": 1, "relevance_score": 99}),
    Document(page_content="the longest of all texts", metadata={"n": 2}),
    Document(page_content="the same", metadata={"n": 3}),
    Document(id="a", page_content="the same", metadata={"n": 4}),
]


def test_documents_are_reranked_with_their_scores() -> None:
    """Best first, equal ones as they came, each with its own score, ids and metadata; the inputs are not changed."""
    before = copy.deepcopy(DOCUMENTS)
    found = ReperioRerank(reranker=LONGEST).compress_documents(DOCUMENTS, "any")
    assert [document.metadata["n"] for document in found] == [2, 3, 4, 1]
    assert [document.metadata["relevance_score"] for document in found] == [24.0, 8.0, 8.0, 5.0]
    assert [document.id for document in found] == [None, None, "a", "a"]
    assert before == DOCUMENTS


async def test_top_n_and_score_key() -> None:
    """top_n cuts, score_key names the place or leaves the metadata alone; the asynchronous method does the same."""
    kept = ReperioRerank(reranker=LONGEST, top_n=2, score_key=None).compress_documents(DOCUMENTS, "any")
    assert [document.metadata for document in kept] == [{"n": 2}, {"n": 3}]
    named = await ReperioRerank(reranker=LONGEST, top_n=1, score_key="s").acompress_documents(DOCUMENTS, "any")
    assert [document.metadata for document in named] == [{"n": 2, "s": 24.0}]
    assert ReperioRerank(reranker=LONGEST).compress_documents([], "any") == []


def test_a_reranker_that_fails_loses_no_document() -> None:
    """Its failure is an error, not a shorter list; no reranker, and an impossible top_n, are refused at once."""
    broken = CallableReranker(lambda _, texts: {0: 1.0} if len(texts) > 1 else [1.0])
    with pytest.raises(RerankerFailed, match="position"):
        ReperioRerank(reranker=broken).compress_documents(DOCUMENTS, "any")
    with pytest.raises(ValidationError, match="CallableReranker"):
        ReperioRerank(reranker=len)
    with pytest.raises(ValidationError, match="top_n"):
        ReperioRerank(reranker=LONGEST, top_n=0)


async def test_langchains_time_weighted_retriever(path: Path, embeddings: TrigramEmbeddings) -> None:
    """It stores its times of access as datetimes, and passes options along; recency outweighs likeness."""
    retrievers = pytest.importorskip("langchain_classic.retrievers", reason="of the package langchain-classic")
    long_ago = datetime.datetime.now() - datetime.timedelta(days=300)  # as the retriever does
    with ReperioVectorStore(embeddings, path) as store:
        retriever = retrievers.TimeWeightedVectorStoreRetriever(vectorstore=store, decay_rate=0.5, k=1)
        old = [Document(page_content="hello world", metadata={"last_accessed_at": long_ago})]
        (first,) = retriever.add_documents(old)
        retriever.add_documents([Document(page_content="hello foo")], current_time=datetime.datetime.now())  # likewise
        assert store.get_by_ids([first])[0].metadata["last_accessed_at"] == long_ago.isoformat()
        assert [document.page_content for document in retriever.invoke("hello world")] == ["hello foo"]
        await retriever.aadd_documents([Document(page_content="hello bar")])
        retriever.decay_rate = 1e-9
        assert [document.page_content for document in await retriever.ainvoke("hello world")] == ["hello world"]
