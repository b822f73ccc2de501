"""Filters mean what they mean to Haystack itself: compared with its own function, on documents of every kind."""

from __future__ import annotations

import random
from typing import Any

import pytest
from haystack.dataclasses import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

from haystack_integrations.document_stores.reperio import ReperioDocumentStore

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    2,
    2.5,
    -3,
    "a",
    "b",
    "",
    ["a"],
    ["a", "b"],
    [],
    [1],
    {"x": 1},
    [None],
]


def documents() -> list[Document]:
    made = [Document(id=f"missing-{number}", content=f"text {number}") for number in range(2)]
    made += [Document(id=f"v{number}", content="x", meta={"v": value}) for number, value in enumerate(VALUES)]
    return made + [Document(id=f"n{number}", meta={"n": {"v": value}}) for number, value in enumerate(VALUES)]


def of_haystack(filters: dict[str, Any], document: Document) -> bool:
    try:
        return document_matches_filter(filters, document)
    except (FilterError, TypeError):  # because of what is stored
        return False


@pytest.fixture
def every(store: ReperioDocumentStore) -> ReperioDocumentStore:
    store.write_documents(documents())
    return store


@pytest.mark.parametrize("field", ["meta.v", "v", "meta.n.v", "meta.none"])
@pytest.mark.parametrize("operator", ["==", "!=", "in", "not in"])
def test_equality_is_haystacks(field: str, operator: str, every: ReperioDocumentStore) -> None:
    """For each pair of a stored and an asked value."""
    asked = VALUES if operator in ("==", "!=") else [[value] for value in VALUES] + [VALUES[:9], []]
    for value in asked:
        filters = {"field": field, "operator": operator, "value": value}
        found = [each.id for each in every.filter_documents(filters)]
        assert found == [each.id for each in documents() if of_haystack(filters, each)], value


@pytest.mark.parametrize("operator", [">", ">=", "<", "<="])
def test_order_is_haystacks(operator: str, every: ReperioDocumentStore) -> None:
    """Among numbers; nothing is in order with None."""
    for value in (0, 1, 2.0, -5, None):
        filters = {"field": "meta.v", "operator": operator, "value": value}
        found = {each.id for each in every.filter_documents(filters)}
        stored = [each for each in documents() if not isinstance(each.meta.get("v"), bool)]
        assert found == {each.id for each in stored if of_haystack(filters, each)}, value


def test_random_trees_are_haystacks(every: ReperioDocumentStore) -> None:
    """Of AND, OR and NOT, some levels deep."""
    chance = random.Random(3)

    def tree(depth: int) -> dict[str, Any]:
        if depth == 0 or chance.random() < 0.3:
            operator = chance.choice(["==", "!=", "in", "not in"])
            value = chance.choice(VALUES)
            return {"field": "meta.v", "operator": operator, "value": value if "=" in operator else [value, 1]}
        conditions = [tree(depth - 1) for _ in range(chance.randint(1, 3))]
        return {"operator": chance.choice(["AND", "OR", "NOT"]), "conditions": conditions}

    for _ in range(60):
        filters = tree(2)
        found = [each.id for each in every.filter_documents(filters)]
        assert found == [each.id for each in documents() if document_matches_filter(filters, each)], filters


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"field": "id", "operator": "==", "value": "apple"}, ["apple"]),
        ({"field": "content", "operator": "==", "value": "a password without an embedding"}, ["bare"]),
        (
            {
                "operator": "AND",
                "conditions": [
                    {"field": "id", "operator": "in", "value": ["apple", "tram"]},
                    {"field": "meta.year", "operator": ">", "value": 2022},
                ],
            },
            ["tram"],
        ),
    ],
)
def test_fields_of_a_document_are_asked_for(
    filters: dict[str, Any], found: list[str], filled: ReperioDocumentStore
) -> None:
    """Also together with those of meta, for reading, counting and deleting."""
    assert [each.id for each in filled.filter_documents(filters)] == found
    assert filled.count_documents_by_filter(filters) == 1
    assert filled.delete_by_filter(filters) == 1


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"topic": "food"}, r"'operator' key missing .*Haystack 1\.x are not read"),
        ({"topic": {"$eq": "food"}, "$and": []}, "'operator' key missing"),
        ({"operator": "AND"}, "'conditions' key missing"),
        ({"conditions": []}, "'operator' key missing"),
        ({"operator": "XOR", "conditions": []}, "Unknown logical operator 'XOR'"),
        ({"operator": "AND", "conditions": {}}, "'conditions' is a list"),
        ({"field": "meta.a", "operator": "=", "value": 1}, "Unknown comparison operator '='"),
        ({"field": "meta.a", "operator": ["=="], "value": 1}, "Unknown comparison operator"),
        ({"field": 3, "operator": "==", "value": 1}, "'field' is a string"),
        ({"field": "meta.a", "operator": ">", "value": {}}, "a number or a date"),
        ({"field": "meta.a", "operator": "==", "value": {1, 2}}, "where: "),
        ([{"field": "meta.a"}], "a filter is a dictionary"),
    ],
)
def test_what_is_no_filter_is_refused(filters: Any, message: str, filled: ReperioDocumentStore) -> None:
    """By Haystack's own error, whatever is stored."""
    with pytest.raises(FilterError, match=message):
        filled.filter_documents(filters)


def test_too_deep_a_filter_is_refused(filled: ReperioDocumentStore) -> None:
    """With the limit, by Haystack's error."""
    filters: dict[str, Any] = {"field": "meta.a", "operator": "==", "value": 1}
    for number in range(20):
        other = {"field": "meta.b", "operator": "==", "value": number}
        filters = {"operator": "NOT", "conditions": [filters, other]}
    with pytest.raises(FilterError, match="levels"):
        filled.filter_documents(filters)
    for _ in range(20_000):
        filters = {"operator": "NOT", "conditions": [filters]}
    with pytest.raises(FilterError, match=r"levels|deep"):
        filled.filter_documents(filters)
