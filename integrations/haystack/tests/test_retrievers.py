"""Retrieval by embedding, by words and by both, alone and in a pipeline."""

from __future__ import annotations

from typing import Any

import pytest
from haystack import Pipeline
from haystack.document_stores.types import FilterPolicy
from reperio import InvalidInput

from haystack_integrations.components.retrievers.reperio import (
    ReperioBM25Retriever,
    ReperioEmbeddingRetriever,
    ReperioHybridRetriever,
)
from haystack_integrations.document_stores.reperio import ReperioDocumentStore
from tests.conftest import embed

KINDS = (ReperioEmbeddingRetriever, ReperioBM25Retriever, ReperioHybridRetriever)
FOOD = {"field": "meta.topic", "operator": "==", "value": "food"}
OLD = {"field": "meta.year", "operator": "<", "value": 2022}


def asked(kind: type[Any], text: str) -> dict[str, Any]:
    """Return what a retriever of that kind is asked with."""
    by = {"query": text, "query_embedding": embed(text)}
    wanted = {ReperioEmbeddingRetriever: ["query_embedding"], ReperioBM25Retriever: ["query"]}.get(kind, list(by))
    return {name: by[name] for name in wanted}


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_come_first(kind: type[Any], filled: ReperioDocumentStore) -> None:
    """With their scores, as many as asked for; the filter leaves exactly those that match."""
    retriever = kind(filled, top_k=3)
    found = retriever.run(**asked(kind, "the train from platform nine"))["documents"]
    assert found[0].id == "train"
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len(retriever.run(**asked(kind, "the train"), top_k=1)["documents"]) == 1
    assert retriever.run(**asked(kind, "the train"), top_k=0) == {"documents": []}
    food = retriever.run(**asked(kind, "a fruit of the orchard"), filters=FOOD, top_k=6)["documents"]
    assert {each.id for each in food} == {"apple", "pear"}


def test_documents_without_embedding_are_found_by_words_alone(filled: ReperioDocumentStore) -> None:
    """What stands for their vector is no answer to any vector."""
    text = "a password without an embedding"
    assert "bare" in [each.id for each in ReperioBM25Retriever(filled).run(text)["documents"]]
    for kind in (ReperioEmbeddingRetriever, ReperioHybridRetriever):
        found = kind(filled).run(**{**asked(kind, text), "query_embedding": [1.0] + [0.0] * 63})["documents"]
        assert {each.id for each in found} == {"apple", "pear", "train", "tram", "error"}


@pytest.mark.parametrize("kind", KINDS)
async def test_coroutines_find_the_same(kind: type[Any], filled: ReperioDocumentStore) -> None:
    """As `run` does."""
    question = asked(kind, "the tram")
    assert await kind(filled).run_async(**question) == kind(filled).run(**question)


@pytest.mark.parametrize("kind", KINDS)
def test_filter_policies(kind: type[Any], filled: ReperioDocumentStore) -> None:
    """REPLACE takes the filters of the call, MERGE both."""
    question = asked(kind, "a fruit of the orchard")
    replacing = kind(filled, filters=FOOD, filter_policy="replace")
    assert {each.id for each in replacing.run(**question)["documents"]} == {"apple", "pear"}
    merging = kind(filled, filters=FOOD, filter_policy=FilterPolicy.MERGE)
    assert [each.id for each in merging.run(**question, filters=OLD)["documents"]] == ["apple"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_retriever_is_serialized(kind: type[Any], filled: ReperioDocumentStore) -> None:
    """With its store and its options, as a component and in a pipeline's YAML."""
    options = {} if kind is ReperioBM25Retriever else {"recall": 0.9}
    retriever = kind(filled, filters=FOOD, top_k=2, filter_policy="merge", min_score=-1.0, **options)
    again = kind.from_dict(retriever.to_dict())
    assert again.to_dict() == retriever.to_dict()
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    loaded = Pipeline.loads(pipeline.dumps())
    question = asked(kind, "a fruit of the orchard")
    assert [each.id for each in loaded.run({"retriever": question})["retriever"]["documents"]] == [
        each.id for each in retriever.run(**question)["documents"]
    ]
    loaded.get_component("retriever").document_store.close()
    again.document_store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_are_refused(kind: type[Any], filled: ReperioDocumentStore) -> None:
    """By Haystack's kinds of errors, with what is wrong."""
    with pytest.raises(ValueError, match="top_k must be greater than 0"):
        kind(filled, top_k=0)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        kind(filled).run(**asked(kind, "x"), top_k=-1)
    with pytest.raises(InvalidInput, match="pass a ReperioDocumentStore"):
        kind("kb")
    if kind is not ReperioEmbeddingRetriever:
        with pytest.raises(ValueError, match="non-empty string"):
            kind(filled).run(**{**asked(kind, "x"), "query": " "})


def test_hybrid_weighs_both(filled: ReperioDocumentStore) -> None:
    """An error code is found by its word where the vector alone does not tell."""
    found = ReperioHybridRetriever(filled, weight=0.2, fusion="convex").run("E4711", embed("fruit"))["documents"]
    assert found[0].id == "error"
