"""Filters mean what they mean to Haystack itself: compared with its own function, on documents of every kind."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from haystack.dataclasses import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reperio.filters import matches

from haystack_integrations.document_stores.reperio import ReperioDocumentStore
from haystack_integrations.document_stores.reperio.documents import to_chunk
from haystack_integrations.document_stores.reperio.filters import to_filter

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
        assert found == {each.id for each in documents() if of_haystack(filters, each)}, value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.0, 1.0, 2.5, 2**63, 2**64 - 1, 1e300]),
    st.sampled_from(["", "a", "A", "b", "true", "1", "2024-01-01", "2024-06-01", "2023-12-31"]),
)
STORED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)


def mixed_inside(left: Any, right: Any) -> bool:
    """Say whether two values are one to Python alone: [True] and [1]."""
    return left == right and isinstance(left, (list, dict)) and json.dumps(left) != json.dumps(right)


@settings(max_examples=400, deadline=None)
@given(stored=STORED, operator=st.sampled_from(["==", "!=", "in", "not in"]), asked=STORED, several=st.lists(STORED))
def test_equality_of_any_values(stored: Any, operator: str, asked: Any, several: list[Any]) -> None:
    """Compare as Haystack does, except numbers and booleans inside lists and objects, which are JSON's."""
    value = several if "in" in operator else asked
    assume(not any(mixed_inside(stored, each) for each in (several if "in" in operator else [asked])))
    document = Document(id="a", content="x", meta={"v": stored})
    filters = {"field": "meta.v", "operator": operator, "value": value}
    tree = to_filter(filters)
    assert tree is not None
    assert matches(tree, to_chunk(document).metadata) == document_matches_filter(filters, document)


@settings(max_examples=400, deadline=None)
@given(stored=STORED, operator=st.sampled_from([">", ">=", "<", "<="]), asked=STORED)
def test_order_of_any_values(stored: Any, operator: str, asked: Any) -> None:
    """Match nothing where Haystack raises because of what is stored; refuse what would raise for any document."""
    document = Document(id="a", content="x", meta={"v": stored})
    filters = {"field": "meta.v", "operator": operator, "value": asked}
    try:
        tree = to_filter(filters)
    except FilterError:
        assert isinstance(asked, (str, list, dict))
        return
    assert tree is not None
    assert matches(tree, to_chunk(document).metadata) == of_haystack(filters, document)


@pytest.mark.parametrize("operator", ["==", "in", "!="])
def test_inside_lists_and_objects_json_counts(operator: str) -> None:
    """The one difference of equality, which the README names: to Python, [True] is [1]."""
    for stored, asked in (([True], [1]), ({"x": 0}, {"x": False}), ([[1]], [[True]])):
        tree = to_filter({"field": "v", "operator": operator, "value": [asked] if operator == "in" else asked})
        assert tree is not None
        assert matches(tree, {"v": stored}) is (operator == "!=")
        assert matches(tree, {"v": asked}) is (operator != "!=")


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
