"""Queries of the vector store: restrictions, similarities, modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from reperio import InvalidInput

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import ask, node, only, to_query, vector


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"filters": MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])}, ["a", "c", "d"]),
        ({"doc_ids": ["d1"]}, ["a", "b"]),
        ({"node_ids": ["d", "a", "no"]}, ["d", "a"]),
        (
            {"doc_ids": ["d1"], "filters": MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])},
            ["a"],
        ),
        ({"doc_ids": []}, []),
        ({"filters": MetadataFilters(filters=[])}, ["a", "b", "c", "d"]),
    ],
)
def test_a_query_by_filters_alone(tmp_path: Path, query: dict[str, Any], expected: list[str]) -> None:
    """The first so many nodes that match, in the order of adding (or of node_ids), without similarities."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        assert store.query(to_query(None, **query)).ids == []
        store.add([node("a", lang="en", document="d1"), node("b", lang="de", document="d1")])
        store.add([node("c", lang="en", document="d2"), node("d", lang="en")])
        found = store.query(to_query(None, **query))
        assert found.ids == [each.node_id for each in found.nodes or []] == expected
        assert found.similarities is None
        assert store.query(to_query(None, k=1, **query)).ids == expected[:1]
        with pytest.raises(InvalidInput, match="recall has no effect"):
            store.query(to_query(None, **query), recall=0.9)
        with pytest.raises(InvalidInput, match="needs query_embedding"):
            store.query(to_query(None, query_str="asked", **query))
        with pytest.raises(InvalidInput, match="needs query_embedding"):
            store.query(to_query(None))


def test_doc_ids_node_ids_and_filters_intersect(filled: ReperioVectorStore) -> None:
    """Each restricts by itself, and together they leave what all of them allow, in every mode."""
    assert ask(filled, doc_ids=["d2", "d0"]) == ["n0", "n1", "n4", "n5"]
    assert ask(filled, node_ids=["n5", "n3"]) == ["n3", "n5"]
    assert ask(filled, doc_ids=["d2", "d0"], node_ids=["n5", "n3", "n0"]) == ["n0", "n5"]
    together = {"doc_ids": ["d2", "d0"], "node_ids": ["n5", "n3", "n0"], "filters": only("even", "False")}
    assert ask(filled, **together) == ["n5"]
    for mode in ("mmr", "hybrid"):
        assert ask(filled, mode=mode, query_str=None if mode == "mmr" else "n5", **together) == ["n5"]
    assert ask(filled, None, mode="text_search", query_str="n5 n0 n3", **together) == ["n5"]


def test_empty_node_ids_restrict_nothing_and_empty_doc_ids_everything(filled: ReperioVectorStore) -> None:
    """A retriever passes node_ids=[] always; doc_ids=[] is a list of allowed documents with nothing on it."""
    assert len(ask(filled, node_ids=[])) == 6
    assert ask(filled, doc_ids=[]) == []


def test_exactly_k_under_any_filter(store: ReperioVectorStore) -> None:
    """A filter that 1% matches still gives k results, all of them matching."""
    generator = np.random.default_rng(1)
    store.add([node(f"n{i}", generator.normal(size=4), tenant="rare" if i % 100 == 0 else "many") for i in range(2000)])
    found = store.query(to_query(k=20, filters=only("tenant", "rare")))
    assert len(found.ids or []) == 20
    assert {each.metadata["tenant"] for each in found.nodes or []} == {"rare"}


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid", "text_search", "sparse"])
def test_similarities_are_python_floats_and_higher_is_better(tmp_path: Path, metric: str, mode: str) -> None:
    """So that SimilarityPostprocessor keeps the right ones: the nearest, whatever the metric and mode."""
    store = ReperioVectorStore(tmp_path / "kb", metric=metric)
    texts = ["apple apple", "apple pear", "apple pear plum cherry", "apple quince medlar sloe damson"]
    store.add([node(f"n{i}", (1.0 - i / 4, i / 4), text=text) for i, text in enumerate(texts)])
    words = None if mode in ("default", "mmr") else "apple"
    embedding = None if mode in ("text_search", "sparse") else (1.0,)
    options = {"mmr_threshold": 1.0} if mode == "mmr" else {}
    result = store.query(to_query(embedding, mode=mode, query_str=words), **options)
    assert result.ids == ["n0", "n1", "n2", "n3"]
    similarities = result.similarities or []
    assert all(type(each) is float for each in similarities)
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] > similarities[-1]
    scored = [NodeWithScore(node=n, score=s) for n, s in zip(result.nodes or [], similarities, strict=True)]
    cut = (similarities[1] + similarities[2]) / 2
    kept = SimilarityPostprocessor(similarity_cutoff=cut).postprocess_nodes(scored)
    assert [each.node_id for each in kept] == ["n0", "n1"]
    store.close()


def test_similarity_under_l2_is_between_0_and_1(tmp_path: Path) -> None:
    """1 / (1 + distance²): 1 for the same vector, 1/2 at distance 1, so that a usual cutoff works."""
    store = ReperioVectorStore(tmp_path / "kb", metric="l2")
    store.add([node("same", (1.0,)), node("one away", (2.0,)), node("three away", (4.0,))])
    found = store.query(to_query((1.0,)))
    assert found.similarities == pytest.approx([1.0, 0.5, 0.1])
    store.close()


def test_negative_cosines_stay_negative(store: ReperioVectorStore) -> None:
    """A cosine is the cosine."""
    store.add([node("there", (1.0,)), node("opposite", (-1.0,))])
    assert store.query(to_query((1.0,))).similarities == pytest.approx([1.0, -1.0])


def test_filters_of_every_condition_in_a_query(filled: ReperioVectorStore) -> None:
    """AND, OR, NOT and a nested tree select what they say."""
    filters = [MetadataFilter(key="number", value=2, operator=FilterOperator.GTE), *only("even", "True").filters]
    for condition, expected in (
        (FilterCondition.AND, ["n2", "n4"]),
        (FilterCondition.OR, ["n0", "n2", "n3", "n4", "n5"]),
        (FilterCondition.NOT, ["n1"]),
    ):
        assert ask(filled, filters=MetadataFilters(filters=filters, condition=condition)) == expected
    nested = MetadataFilters(
        filters=[only("number", 4), MetadataFilters(filters=filters, condition=FilterCondition.NOT)],
        condition=FilterCondition.OR,
    )
    assert ask(filled, filters=nested) == ["n1", "n4"]


def test_learner_modes_are_refused_by_name(filled: ReperioVectorStore) -> None:
    """svm, logistic_regression and linear_regression raise ValueError naming the mode, and so does what is none."""
    with pytest.raises(ValueError, match="'nonsense'"):
        filled.query(VectorStoreQuery(query_embedding=vector(1.0), mode="nonsense"))  # type: ignore[arg-type]  # wrong on purpose
    for mode in ("svm", "logistic_regression", "linear_regression"):
        assert VectorStoreQueryMode(mode)
        with pytest.raises(ValueError, match=f"'{mode}' is not offered; choose 'default'"):
            ask(filled, mode=mode)
