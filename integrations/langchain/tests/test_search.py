"""Searching: maximal marginal relevance, words, options, defaults, and what bit users of FAISS stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reperio
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from reperio import CallableReranker
from reperio.errors import InvalidInput

from langchain_reperio import LangChainEmbedder, ReperioVectorStore
from tests.conftest import TEXTS, TrigramEmbeddings


def ids(documents: list[Document]) -> list[str]:
    return [str(document.id) for document in documents]


@pytest.fixture
def many(path: Path) -> Any:
    """Four hundred documents of random vectors, of which every hundredth is of tenant "b"."""
    embeddings = DeterministicFakeEmbedding(size=16)
    with ReperioVectorStore(embeddings, path) as store:
        metadatas = [{"tenant": "b" if number % 100 == 0 else "a", "n": number} for number in range(400)]
        store.add_texts([f"text {number}" for number in range(400)], metadatas, ids=[f"{n}" for n in range(400)])
        yield store


@pytest.mark.parametrize("fetch_k", [1, 20])
def test_a_filter_with_k_larger_than_fetch_k_is_not_short(many: ReperioVectorStore, fetch_k: int) -> None:
    """Exactly min(k, matching), whether few or many match, and however few candidates were asked for."""
    for asked, expected in (({"tenant": "b"}, 4), ({"tenant": "a"}, 30), (None, 30)):
        options = {"k": 30, "fetch_k": fetch_k, "filter": asked}
        retriever = many.as_retriever(search_type="mmr", search_kwargs=options)
        assert len(many.max_marginal_relevance_search("text", **options)) == expected
        assert len(retriever.invoke("text")) == expected
        assert len(many.similarity_search("text", k=30, filter=asked)) == expected


def test_mmr_scores_belong_to_their_documents(many: ReperioVectorStore) -> None:
    """Each document chosen comes with its own score, not with that of the one found at its place."""
    vector = many.embeddings.embed_query("question") if many.embeddings else []
    of_all = {document.id: score for document, score in many.similarity_search_with_score_by_vector(vector, k=400)}
    found = many.max_marginal_relevance_search_with_score_by_vector(vector, k=20, fetch_k=60, lambda_mult=0.1)
    assert len(found) == 20
    assert [score for _, score in found] != sorted((score for _, score in found), reverse=True)
    for document, score in found:
        assert score == pytest.approx(of_all[document.id], abs=1e-6)


@pytest.mark.parametrize("lambda_mult", [0.0, 0.25, 0.5, 1.0])
def test_mmr_chooses_as_langchain_does(many: ReperioVectorStore, lambda_mult: float) -> None:
    """The documents and their order are those of langchain-core's own store on the same vectors."""
    theirs = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    theirs.add_texts([f"text {number}" for number in range(400)], ids=[f"{number}" for number in range(400)])
    options = {"k": 10, "fetch_k": 50, "lambda_mult": lambda_mult}
    for question in ("one", "two", "three"):
        expected = ids(theirs.max_marginal_relevance_search(question, **options))
        assert ids(many.max_marginal_relevance_search(question, **options)) == expected
        vector = theirs.embeddings.embed_query(question)
        assert ids(many.max_marginal_relevance_search_by_vector(vector, **options)) == expected


def test_similarity_search_finds_what_langchain_finds(many: ReperioVectorStore) -> None:
    """The same documents in the same order with the same scores as langchain-core's own store."""
    theirs = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    theirs.add_texts([f"text {number}" for number in range(400)], ids=[f"{number}" for number in range(400)])
    for question in ("one", "two", "three"):
        expected, found = (each.similarity_search_with_score(question, k=20) for each in (theirs, many))
        assert [document.id for document, _ in found] == [document.id for document, _ in expected]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)


@pytest.mark.parametrize("lambda_mult", [-0.1, 1.1, float("nan")])
def test_mmr_refuses_an_impossible_lambda(many: ReperioVectorStore, lambda_mult: float) -> None:
    """The message names LangChain's parameter."""
    with pytest.raises(InvalidInput, match="lambda_mult"):
        many.max_marginal_relevance_search("text", lambda_mult=lambda_mult)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "HNSW16"])
def test_after_a_delete_every_document_finds_itself(path: Path, factory: str) -> None:
    """An index does not renumber: after deleting one of four hundred, the other 399 find themselves."""
    embeddings = DeterministicFakeEmbedding(size=16)
    with ReperioVectorStore(embeddings, path) as store:
        texts = [f"text {number}" for number in range(400)]
        store.add_texts(texts, ids=[str(number) for number in range(400)])
        store.collection.optimize(index=factory)
        store.delete(["7"])
    with ReperioVectorStore(embeddings, path) as store:
        info = store.collection.info()
        assert info.index is not None
        assert info.index.factory == factory
        for number in range(400):
            ((found, score),) = store.similarity_search_with_score(texts[number], k=1)
            assert (found.id == str(number)) == (number != 7)
            assert (score == pytest.approx(1.0)) == (number != 7)


def test_hybrid_search_in_every_way_langchain_users_would_try(filled: ReperioVectorStore) -> None:
    """A code that vectors blur is found by its word: search_type, as_retriever and mode= are the same search."""
    options = {"k": 3, "weight": 0.3}
    found = filled.similarity_search("E4711", mode="hybrid", **options)
    assert found[0].id == "error"
    assert filled.search("E4711", "hybrid", **options) == found
    assert filled.search("E4711", search_type="similarity", mode="hybrid", **options) == found
    assert filled.as_retriever(search_type="hybrid", search_kwargs=options).invoke("E4711") == found
    assert filled.as_retriever(search_kwargs={"mode": "hybrid", **options}).invoke("E4711") == found
    lexical = filled.as_retriever(search_type="lexical", search_kwargs={"k": 5}).invoke("E4711")
    assert ids(lexical) == ["error"] == ids(filled.search("E4711", "lexical"))


async def test_hybrid_search_asynchronously(filled: ReperioVectorStore) -> None:
    """The same by the asynchronous methods."""
    found = filled.search("E4711", "hybrid", k=3)
    assert await filled.asearch("E4711", "hybrid", k=3) == found
    assert await filled.as_retriever(search_type="hybrid", search_kwargs={"k": 3}).ainvoke("E4711") == found


def test_unknown_search_types_are_refused(filled: ReperioVectorStore) -> None:
    """With those that there are."""
    with pytest.raises(InvalidInput, match="'hybrid'"):
        filled.search("a", "semantic")
    with pytest.raises(ValueError, match="semantic"):
        filled.as_retriever(search_type="semantic")


def test_every_search_type_agrees_with_its_method(filled: ReperioVectorStore) -> None:
    """search() and as_retriever() lead to the methods that their types name."""
    assert filled.search("fruit", "similarity", k=2) == filled.similarity_search("fruit", k=2)
    assert filled.search("fruit", "mmr", k=2) == filled.max_marginal_relevance_search("fruit", k=2)
    retriever = filled.as_retriever(search_type="mmr", search_kwargs={"k": 2})
    assert retriever.invoke("fruit") == filled.max_marginal_relevance_search("fruit", k=2)
    assert filled.as_retriever(search_kwargs={"k": 1}).invoke("fruit", k=3) == filled.similarity_search("fruit", k=3)


def test_defaults_of_a_store_and_options_of_a_call(filled: ReperioVectorStore) -> None:
    """A store's defaults hold where they make sense; a call's own options win, and are refused where they make none."""
    longest = CallableReranker(lambda _, texts: [float(len(text)) for text in texts])
    store = ReperioVectorStore(collection=filled.collection, mode="hybrid", weight=0.2, reranker=longest)
    by_length = sorted(TEXTS, key=lambda name: -len(TEXTS[name]))
    assert ids(store.similarity_search("fruit nine water E4711 means", k=2, candidates=6)) == by_length[:2]
    plain = filled.similarity_search("E4711", k=3)
    assert store.similarity_search("E4711", k=3, mode="dense", reranker=None) == plain
    vector = filled.embeddings.embed_query("E4711") if filled.embeddings else []
    assert store.similarity_search_by_vector(vector, k=3) == plain
    assert ids(store.max_marginal_relevance_search("E4711", k=1, lambda_mult=1.0)) == ["error"]
    with pytest.raises(InvalidInput, match="weight"):
        filled.similarity_search("E4711", weight=0.2)
    with pytest.raises(InvalidInput, match="by_vector"):
        filled.similarity_search_by_vector(vector, mode="hybrid")


def test_recall_candidates_distinct_and_min_score_reach_the_search(filled: ReperioVectorStore) -> None:
    """Reperio's own options are LangChain's keyword arguments."""
    filled.add_texts(["AN APPLE is a fruit of the orchard"], ids=["again"])
    assert len(filled.similarity_search("an apple is a fruit of the orchard", k=2, distinct=True, recall=1.0)) == 2
    found = filled.similarity_search_with_score(TEXTS["apple"], k=9, distinct=True)
    assert [document.id for document, _ in found].count("again") + ids([each for each, _ in found]).count("apple") == 1
    assert ids(filled.similarity_search(TEXTS["train"], k=9, min_score=0.99)) == ["train"]
    for wrong in ({"recall": 2}, {"candidates": 1}, {"mode": "hybird"}):
        with pytest.raises(InvalidInput):
            filled.similarity_search("a", k=3, **wrong)


def test_a_collection_that_is_open_already(path: Path, embeddings: TrigramEmbeddings) -> None:
    """collection= shares the handle, which stays open when the store is closed; its settings are not given again."""
    with reperio.open(path, embedder=LangChainEmbedder(embeddings), metric="l2") as kb:
        with ReperioVectorStore(collection=kb) as store:
            store.add_texts(["one"], ids=["a"])
            assert store.embeddings is embeddings
        assert kb.search("one", k=1)[0].chunk.id == "a"
        for given in (
            {"embedding": embeddings},
            {"path": path},
            {"metric": "l2"},
            {"scope": {"a": 1}},
            {"read_only": True},
        ):
            with pytest.raises(InvalidInput, match="open already"):
                ReperioVectorStore(collection=kb, **given)


def test_a_closed_store_says_so(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Closing twice is no error; searching afterwards is one."""
    store = ReperioVectorStore(embeddings, path)
    store.close()
    store.close()
    with pytest.raises(reperio.CollectionClosed):
        store.similarity_search("a")


def test_a_read_only_store_reads_beside_its_writer(path: Path, embeddings: TrigramEmbeddings) -> None:
    """What the writer adds, the reader finds at its next search; it cannot write itself."""
    with (
        ReperioVectorStore(embeddings, path) as writer,
        ReperioVectorStore(embeddings, path, read_only=True) as reader,
    ):
        assert reader.similarity_search("one") == []
        writer.add_texts(["one"], ids=["a"])
        assert ids(reader.similarity_search("one")) == ["a"]
        writer.delete(["a"])
        assert reader.similarity_search("one") == []
        with pytest.raises(reperio.CollectionReadOnly):
            reader.add_texts(["two"])
