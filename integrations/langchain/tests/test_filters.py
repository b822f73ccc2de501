"""``filter=`` as a dictionary, as Reperio's own, as a function; and what a self-query becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery
from reperio import field
from reperio.errors import InvalidInput

from langchain_reperio import ReperioTranslator, ReperioVectorStore
from tests.conftest import TrigramEmbeddings


def ids(documents: list[Document]) -> set[str]:
    return {str(document.id) for document in documents}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"topic": "food"}, {"apple", "pear"}),
        ({"topic": {"$eq": "food"}, "year": {"$ne": 2021}}, {"pear"}),
        ({"year": {"$gt": 2022, "$lt": 2024}}, {"train"}),
        ({"year": {"$gte": 2024}}, {"tram", "fever"}),
        ({"year": {"$lte": 2021}}, {"apple", "error"}),
        ({"topic": {"$in": ["health", "support"]}}, {"fever", "error"}),
        ({"topic": {"$nin": ["food", "travel"]}}, {"fever", "error"}),
        ({"year": {"$between": [2022, 2023]}}, {"pear", "train"}),
        ({"reviewed": {"$exists": True}}, {"fever"}),
        ({"reviewed": {"$like": "2024-%"}}, {"fever"}),
        ({"topic": {"$ilike": "F%"}}, {"apple", "pear"}),
        ({"tags": {"$contains": "green"}}, {"pear"}),
        ({"author.name": "Ada"}, {"train"}),
        ({"$and": [{"topic": "travel"}, {"year": 2024}]}, {"tram"}),
        ({"$or": [{"topic": "food"}, {"year": 2020}]}, {"apple", "pear", "error"}),
        ({"$not": [{"topic": "food"}, {"topic": "travel"}]}, {"fever", "error"}),
        (field("year") > 2023, {"tram", "fever"}),
        ((field("topic") == "food") & ~field("tags").contains("red"), {"pear"}),
        (lambda document: "nine" in document.page_content, {"train", "tram"}),
        (lambda document: document.id == "error" and document.metadata["year"] == 2020, {"error"}),
        ({"$text": {"$contains": "nine"}}, {"train", "tram"}),
        ({"$text": {"$text_match_insensitive": "NINE"}, "year": {"$gte": 2024}}, {"tram"}),
        ({"$text": {"$like": "a% is %"}, "topic": {"$ne": "food"}}, {"fever"}),
        ({"$text": {"$not": {"$contains": "fruit"}}, "$or": [{"topic": "food"}, {"year": 2020}]}, {"error"}),
        ({"$text": "no such text"}, set()),
        ({}, {"apple", "pear", "train", "tram", "fever", "error"}),
        ({"topic": "nothing"}, set()),
        (lambda document: False, set()),  # noqa: ARG005  # a function of a document is what is passed
    ],
)
def test_a_filter_selects(filled: ReperioVectorStore, asked: Any, expected: set[str]) -> None:
    """Every search gives exactly what matches, whatever the filter is written as."""
    vector = filled.embeddings.embed_query("fruit") if filled.embeddings else []
    assert ids(filled.similarity_search("fruit", k=10, filter=asked)) == expected
    assert ids(filled.similarity_search_by_vector(vector, k=10, filter=asked)) == expected
    assert ids(filled.max_marginal_relevance_search("fruit", k=10, filter=asked)) == expected
    assert ids(filled.max_marginal_relevance_search_by_vector(vector, k=10, filter=asked)) == expected
    assert ids(filled.search("fruit", "hybrid", k=10, filter=asked)) == expected
    assert len(filled.similarity_search("fruit", k=1, filter=asked)) == min(1, len(expected))


def test_siblings_beside_or_count(filled: ReperioVectorStore) -> None:
    """Fields beside $or must hold as well: LangChain's FAISS store ignored them."""
    asked = {"topic": "travel", "$or": [{"year": 2021}, {"year": 2023}]}
    assert ids(filled.similarity_search("nine", k=10, filter=asked)) == {"train"}


def test_unknown_operators_are_refused_by_name(filled: ReperioVectorStore) -> None:
    """A misspelt operator is an error, not a filter that matches nothing."""
    with pytest.raises(InvalidInput, match=r"\$gte"):
        filled.similarity_search("nine", filter={"year": {"$get": 2021}})
    with pytest.raises(InvalidInput, match="filter is a list"):
        filled.similarity_search("nine", filter=["year"])


def test_a_function_finds_the_last_of_many(store: ReperioVectorStore) -> None:
    """A function that accepts few of many documents, far from the question, still gives exactly min(k, matching)."""
    texts = ["an apple is a fruit of the orchard"] * 3000 + ["zzz"] * 5
    store.add_texts(texts, [{"n": number} for number in range(len(texts))])
    found = store.similarity_search("an apple is a fruit", k=4, filter=lambda document: document.metadata["n"] >= 3000)
    assert [document.page_content for document in found] == ["zzz"] * 4
    assert len(store.similarity_search("a fruit", k=9, filter=lambda document: document.metadata["n"] >= 3000)) == 5


def test_a_filter_on_the_key_id_is_on_the_metadata(store: ReperioVectorStore) -> None:
    """No key is reserved: "id" and "text" in a filter are the metadata's, as everywhere."""
    store.add_texts(["one", "two"], [{"id": "inner", "text": "t"}, {"id": "a"}], ids=["a", "b"])
    assert ids(store.similarity_search("one", filter={"id": "a"})) == {"b"}
    assert ids(store.similarity_search("one", filter={"text": "t"})) == {"a"}


def test_keys_with_dots_and_dollars_are_escaped(store: ReperioVectorStore) -> None:
    """A dot leads into an object; one of the key's own has a backslash before it. A bare $ key is refused by name."""
    store.add_texts(["one"], [{"v1.0": 1, "$price": 2}], ids=["a"])
    assert ids(store.similarity_search("one", filter={r"v1\.0": 1, r"\$price": 2})) == {"a"}
    assert store.similarity_search("one", filter={"v1.0": 1}) == []
    with pytest.raises(InvalidInput, match=r"\$price"):
        store.similarity_search("one", filter={"$price": 2})


def test_a_scope_confines_everything(path: Path, embeddings: TrigramEmbeddings) -> None:
    """A store with a scope reads, writes and deletes inside it alone, functions as filters included."""
    with ReperioVectorStore(embeddings, path, scope={"tenant": "a"}) as store:
        store.add_texts(["one"], [{"tenant": "a"}], ids=["a1"])
        with pytest.raises(InvalidInput, match="outside the scope"):
            store.add_texts(["two"], [{"tenant": "b"}])
    with ReperioVectorStore(embeddings, path, scope={"tenant": "b"}) as store:
        store.add_texts(["one"], [{"tenant": "b"}], ids=["b1"])
        assert ids(store.similarity_search("one")) == {"b1"}
        assert ids(store.similarity_search("one", filter=lambda document: document.metadata["tenant"] == "a")) == set()
        assert store.get_by_ids(["a1"]) == []
        store.delete(delete_all=True)
    with ReperioVectorStore(embeddings, path) as store:
        assert store.collection.ids() == ["a1"]


def compared(comparator: Comparator, attribute: str, value: Any) -> Comparison:
    return Comparison(comparator=comparator, attribute=attribute, value=value)


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        (compared(Comparator.EQ, "topic", "food"), {"apple", "pear"}),
        (compared(Comparator.NE, "topic", "food"), {"train", "tram", "fever", "error"}),
        (compared(Comparator.GT, "year", 2023), {"tram", "fever"}),
        (compared(Comparator.GTE, "year", 2023), {"train", "tram", "fever"}),
        (compared(Comparator.LT, "year", 2021), {"error"}),
        (compared(Comparator.LTE, "year", 2021), {"apple", "error"}),
        (compared(Comparator.CONTAIN, "tags", "sweet"), {"apple"}),
        (compared(Comparator.IN, "topic", ["health", "food"]), {"apple", "pear", "fever"}),
        (compared(Comparator.NIN, "topic", ["health", "food"]), {"train", "tram", "error"}),
        (compared(Comparator.LIKE, "topic", "trav%"), {"train", "tram"}),
        (compared(Comparator.LIKE, "topic", "rave"), {"train", "tram"}),
        (compared(Comparator.GTE, "reviewed", {"type": "date", "date": "2024-01-01"}), {"fever"}),
        (compared(Comparator.IN, "reviewed", [{"type": "date", "date": "2024-03-01"}]), {"fever"}),
        (compared(Comparator.EQ, "author.name", "Ada"), {"train"}),
        (
            Operation(
                operator=Operator.AND,
                arguments=[
                    compared(Comparator.EQ, "topic", "travel"),
                    Operation(
                        operator=Operator.OR,
                        arguments=[compared(Comparator.EQ, "year", 2024), compared(Comparator.EQ, "year", 2021)],
                    ),
                ],
            ),
            {"tram"},
        ),
        (
            Operation(operator=Operator.NOT, arguments=[compared(Comparator.EQ, "topic", "travel")]),
            {"apple", "pear", "fever", "error"},
        ),
    ],
)
def test_a_self_query_selects(filled: ReperioVectorStore, directive: Any, expected: set[str]) -> None:
    """Every comparator and operator of langchain-core, nested and with dates, means what it says."""
    asked = StructuredQuery(query="fruit", filter=directive, limit=10)
    query, options = ReperioTranslator().visit_structured_query(asked)
    assert ids(filled.search(query, "similarity", **options)) == expected


def test_every_comparator_and_operator_is_allowed() -> None:
    """The query constructor tells the model of all of them, those that a newer langchain-core adds excepted."""
    translator = ReperioTranslator()
    assert set(translator.allowed_comparators) == set(Comparator)
    assert set(translator.allowed_operators) == set(Operator)
    for comparator in Comparator:
        assert translator.visit_comparison(compared(comparator, "a", "b"))
    for operator in Operator:
        assert translator.visit_operation(Operation(operator=operator, arguments=[compared(Comparator.EQ, "a", 1)]))


def test_a_self_query_of_filter_alone_works(filled: ReperioVectorStore) -> None:
    """LangChain's query constructor asks for a blank text then."""
    asked = StructuredQuery(query=" ", filter=compared(Comparator.EQ, "topic", "food"), limit=1)
    query, options = ReperioTranslator().visit_structured_query(asked)
    assert query == " "
    assert options == {"filter": {"topic": {"$eq": "food"}}, "k": 1}
    (found,) = filled.search(query, "similarity", **options)
    assert found.metadata["topic"] == "food"
    asked = StructuredQuery(query="fruit", filter=None, limit=None)
    assert ReperioTranslator().visit_structured_query(asked) == ("fruit", {})


def test_what_a_model_makes_up_is_data(filled: ReperioVectorStore) -> None:
    """An impossible filter is refused with what is wrong; an operator as a field's name is no operator."""
    for comparison, message in (
        (compared(Comparator.GT, "year", ["a"]), "order"),
        (compared(Comparator.EQ, "$or", "x"), r"\$or"),
    ):
        with pytest.raises(InvalidInput, match=message):
            filled.similarity_search("fruit", filter=comparison.accept(ReperioTranslator()))


def test_a_filter_on_the_text_deletes_and_keeps_to_its_place(filled: ReperioVectorStore) -> None:
    """It deletes, is refused inside other conditions, and leaves a field of that name alone."""
    assert filled.delete(filter={"$text": {"$contains": "nine"}, "year": 2023}) is True
    assert "train" not in filled.collection
    assert "tram" in filled.collection
    with pytest.raises(InvalidInput, match=r"\$text"):
        filled.similarity_search("fruit", filter={"$or": [{"$text": {"$contains": "nine"}}, {"year": 2020}]})
    with pytest.raises(InvalidInput, match="frobnicate"):
        filled.similarity_search("fruit", filter={"$text": {"$frobnicate": "nine"}})
    filled.add_texts(["own"], [{"$text": "mine"}], ids=["own"])
    assert ids(filled.similarity_search("fruit", filter={"\\$text": "mine"})) == {"own"}
