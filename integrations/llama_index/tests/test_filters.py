"""Filters mean what LlamaIndex's own function says: operator by operator, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reperio
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from reperio.filters import matches

from llama_index.vector_stores.reperio import ReperioVectorStore
from llama_index.vector_stores.reperio.conversion.filters import to_filter
from tests.conftest import ask, node, to_query

MISSING = object()

STORED: list[Any] = [
    MISSING, None, "", "a", "ab", "b", "A", "AB", "abc", "x.y", "2024-01-05", "10", "é", "É",
    0, 1, 2, -1, 10, 2**53, 2**53 + 1, 0.0, 1.0, 1.5, -0.5, 1e300, True, False,
    [], ["a"], ["a", "b"], ["ab"], [1], [1, 2], [1.0], [True], [None], [["a"]], [[1]], [""], ["A"], ["a", 1],
    {}, {"a": 1}, {"ab": None}, {"": 0}, {"x.y": 1},
]  # fmt: skip
"""What a node may have in a field."""

ASKED: list[Any] = [
    None, "", "a", "ab", "b", "A", "x.y", "2024-01-01", "é",
    0, 1, 2, -1, 2**53, 2**53 + 1, 0.0, 1.0, 1.5, 1e300,
    [], ["a"], ["a", "b"], ["a", "ab"], ["A"], [""], [0], [1], [1, 2], [2, 1], [1.0], [1.5], ["x.y"],
]  # fmt: skip
"""What a filter may ask for."""

RAISES = object()
ORDERED = {FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT, FilterOperator.LTE}


def metadata_of(stored: Any) -> dict[str, Any]:
    return {} if stored is MISSING else {"key": stored}


def reference(filters: MetadataFilters, metadata: dict[str, Any]) -> Any:
    """Return what the installed LlamaIndex says, or that it raises TypeError."""
    try:
        return bool(build_metadata_filter_fn(lambda _: metadata, filters)("node"))
    except TypeError:
        return RAISES


def one(operator: FilterOperator, value: Any, key: str = "key") -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def is_json_equality(operator: FilterOperator, asked: Any, stored: Any) -> bool:
    """Say whether this is the one exception: booleans inside a whole list that is compared."""
    return operator in (FilterOperator.EQ, FilterOperator.NE) and isinstance(asked, list) and stored == [True]


@pytest.mark.parametrize("operator", list(FilterOperator))
def test_each_operator_is_llamaindexs_own(operator: FilterOperator) -> None:
    """Every value asked for against every value stored, missing and None included.

    Where theirs raises because of what is stored, ours does not match (and NIN, the negation, does); where theirs
    raises whatever is stored, ours refuses the filter.
    """
    compared = 0
    for asked in ASKED:
        filters = one(operator, asked)
        theirs = [reference(filters, metadata_of(stored)) for stored in STORED]
        try:
            tree = to_filter(filters)
        except reperio.InvalidInput:
            present = [said for said, stored in zip(theirs, STORED, strict=True) if stored not in (MISSING, None)]
            assert all(said is RAISES for said in present) or (operator in ORDERED and isinstance(asked, list))
            continue
        for stored, said in zip(STORED, theirs, strict=True):
            if is_json_equality(operator, asked, stored):
                continue
            expected = operator is FilterOperator.NIN if said is RAISES else said
            assert matches(tree, metadata_of(stored)) is expected, (operator, asked, stored)
            compared += 1
    assert compared > 300


def test_a_collection_says_the_same_as_the_plain_evaluation(tmp_path: Path) -> None:
    """The same through the store: nodes with every stored value, asked with every operator and value."""
    store = ReperioVectorStore(tmp_path / "kb")
    nodes = [node(f"n{at}", (1.0, at / 50)) for at in range(len(STORED))]
    for each, stored in zip(nodes, STORED, strict=True):
        each.metadata = metadata_of(stored)
    store.add(nodes)
    for operator in FilterOperator:
        for asked in ASKED[::3]:
            filters = one(operator, asked)
            try:
                tree = to_filter(filters)
            except reperio.InvalidInput:
                continue
            expected = {each.node_id for each in nodes if matches(tree, each.metadata)}
            assert set(ask(store, k=100, filters=filters)) == expected, (operator, asked)
    store.close()


scalars = st.one_of(
    st.integers(-3, 3), st.floats(-3, 3, width=16), st.text("abA.", max_size=3), st.integers(2**53 - 1, 2**53 + 1)
)
stored_values = st.one_of(
    st.just(MISSING), st.none(), st.booleans(), scalars,
    st.lists(st.one_of(scalars, st.booleans(), st.none()), max_size=3),
    st.dictionaries(st.text("ab", max_size=2), scalars, max_size=2),
)  # fmt: skip
asked_values = st.one_of(
    st.none(), scalars, st.lists(st.text("abA.", max_size=2), max_size=3), st.lists(st.integers(-2, 2), max_size=3),
    st.lists(st.floats(-3, 3, width=16), max_size=3),
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(list(FilterOperator)), asked_values, stored_values)
def test_any_operator_and_values(operator: FilterOperator, asked: Any, stored: Any) -> None:
    """The same for values that Hypothesis makes up."""
    filters, metadata = one(operator, asked), metadata_of(stored)
    said = reference(filters, metadata)
    try:
        tree = to_filter(filters)
    except reperio.InvalidInput:
        absent = stored is MISSING or stored is None
        assert said is RAISES or absent or (operator in ORDERED and isinstance(asked, list))
        return
    holds_boolean = isinstance(stored, list) and any(isinstance(each, bool) for each in stored)
    if isinstance(asked, list) and operator in (FilterOperator.EQ, FilterOperator.NE) and holds_boolean:
        return
    assert matches(tree, metadata) is (operator is FilterOperator.NIN if said is RAISES else said)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(FilterCondition)),
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from(["==", "!=", ">", "<=", "is_empty"]), st.integers(0, 3)),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from("pqr"), st.one_of(st.none(), st.integers(0, 3))),
)  # fmt: skip
def test_conditions_are_llamaindexs_own(
    condition: FilterCondition, asked: list[tuple[str, str, int]], metadata: dict[str, Any]
) -> None:
    """AND, OR and NOT over several fields; an empty list restricts nothing, under any condition."""
    filters = MetadataFilters(
        filters=[MetadataFilter(key=key, operator=FilterOperator(name), value=value) for key, name, value in asked],
        condition=condition,
    )
    assert matches(to_filter(filters), metadata) is reference(filters, metadata)


leaves = st.builds(
    lambda key, name, value: MetadataFilter(key=key, operator=FilterOperator(name), value=value),
    st.sampled_from("pqr"),
    st.sampled_from(
        ["==", "!=", ">", ">=", "<", "<=", "in", "nin", "any", "all", "contains", "text_match", "is_empty"]
    ),
    st.integers(0, 2) | st.sampled_from(["a", "ab", ""]) | st.lists(st.sampled_from(["a", "b", "ab"]), max_size=2),
)
trees = st.recursive(
    st.builds(
        lambda filters, condition: MetadataFilters(filters=filters, condition=condition),
        st.lists(leaves, min_size=1, max_size=3),
        st.sampled_from(list(FilterCondition)),
    ),
    lambda inner: st.builds(
        lambda filters, condition: MetadataFilters(filters=filters, condition=condition),
        st.lists(inner | leaves, min_size=1, max_size=3),
        st.sampled_from(list(FilterCondition)),
    ),
    max_leaves=4,
)
MODEL: dict[str, Any] = {
    "==": lambda stored, asked: stored == asked,
    ">": lambda stored, asked: stored > asked,
    ">=": lambda stored, asked: stored >= asked,
    "<": lambda stored, asked: stored < asked,
    "<=": lambda stored, asked: stored <= asked,
    "in": lambda stored, asked: stored in asked,
    "any": lambda stored, asked: any(each in stored for each in asked),
    "all": lambda stored, asked: all(each in stored for each in asked),
    "contains": lambda stored, asked: asked in stored,
    "text_match": lambda stored, asked: asked in stored if isinstance(stored, str) else stored > RAISES,  # type: ignore[operator]  # raises
}


def model(asked: MetadataFilter | MetadataFilters, metadata: dict[str, Any]) -> bool:
    """Say in plain Python what a filter means: None is missing, and what would raise does not match."""
    if isinstance(asked, MetadataFilters):
        parts = [model(each, metadata) for each in asked.filters]
        if asked.condition is FilterCondition.OR:
            return any(parts)
        return not any(parts) if asked.condition is FilterCondition.NOT else all(parts)
    stored, name = metadata.get(asked.key), asked.operator.value
    if name == "is_empty":
        return stored is None or stored in ("", [])
    negated = {"!=": "==", "nin": "in"}.get(name)
    if stored is None:
        return negated is not None
    try:
        said = bool(MODEL[negated or name](stored, asked.value))
    except TypeError:
        said = False
    return not said if negated else said


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ReperioVectorStore, dict[str, dict[str, Any]]]]:
    """Nodes with every pair of these values."""
    values = [None, 0, 1, 2, "", "a", "ab", [], ["a"], ["a", "b"]]
    with ReperioVectorStore(tmp_path_factory.mktemp("filters") / "kb") as store:
        made = [
            node(f"{p}-{q}", p=left, q=right, **({"r": right} if p % 2 else {}))
            for p, left in enumerate(values)
            for q, right in enumerate(values)
        ]
        store.add(made)
        yield store, {each.node_id: each.metadata for each in made}


@settings(max_examples=300, deadline=None)
@given(trees)
def test_trees_of_filters_mean_what_python_says(
    stocked: tuple[ReperioVectorStore, dict[str, dict[str, Any]]], asked: MetadataFilters
) -> None:
    """Any tree of operators and conditions, through the store: the nodes that a plain model in Python selects."""
    store, nodes = stocked
    try:
        found = store.query(to_query(None, k=1000, filters=asked))
    except reperio.InvalidInput:  # an operator with a value that it cannot use: nothing could match
        reject()
    assert found.ids == [name for name, metadata in nodes.items() if model(asked, metadata)]


def test_nested_filters_are_what_they_say() -> None:
    """(a or b) and not (c or (d and e)), which LlamaIndex's own function refuses."""

    def equal(key: str) -> MetadataFilter:
        return MetadataFilter(key=key, value=1)

    tree = to_filter(
        MetadataFilters(
            filters=[
                MetadataFilters(filters=[equal("a"), equal("b")], condition=FilterCondition.OR),
                MetadataFilters(
                    filters=[equal("c"), MetadataFilters(filters=[equal("d"), equal("e")])],
                    condition=FilterCondition.NOT,
                ),
            ]
        )
    )
    for bits in range(32):
        a, b, c, d, e = (bool(bits >> at & 1) for at in range(5))
        metadata = {name: 1 for name, on in zip("abcde", (a, b, c, d, e), strict=True) if on}
        assert matches(tree, metadata) is ((a or b) and not (c or (d and e)))


def test_no_condition_is_and() -> None:
    """condition=None means AND, as in LlamaIndex."""
    filters = [MetadataFilter(key="a", value=1), MetadataFilter(key="b", value=1)]
    tree = to_filter(MetadataFilters(filters=filters, condition=None))
    assert matches(tree, {"a": 1, "b": 1})
    assert not matches(tree, {"a": 1})


def test_ranges_on_iso_dates(store: ReperioVectorStore) -> None:
    """Dates as strings and as datetimes are compared in the order of time."""
    from datetime import datetime

    store.add([node(f"m{month}", (1.0, month), on=datetime(2024, month, 1)) for month in range(1, 7)])
    store.add([node("text", (1.0,), on="2024-03-15")])
    between = MetadataFilters(
        filters=[
            MetadataFilter(key="on", value="2024-02-01", operator=FilterOperator.GTE),
            MetadataFilter(key="on", value="2024-04-01", operator=FilterOperator.LT),
        ]
    )
    assert set(ask(store, filters=between)) == {"m2", "m3", "text"}


@pytest.mark.parametrize("key", ["doc_id", "ref_doc_id", "document_id"])
def test_the_document_can_be_asked_for_by_any_of_its_names(store: ReperioVectorStore, key: str) -> None:
    """A node's own field of that name wins; where it has none, the document that it belongs to is meant."""
    store.add([node("a", document="d1"), node("b", document="d2"), node("c", document="d2", **{key: "mine"})])
    assert ask(store, filters=one(FilterOperator.EQ, "d2", key)) == ["b"]
    assert ask(store, filters=one(FilterOperator.EQ, "mine", key)) == ["c"]
    assert ask(store, filters=one(FilterOperator.NE, "d2", key)) == ["a", "c"]
    assert ask(store, filters=one(FilterOperator.IN, ["d1", "mine"], key)) == ["a", "c"]


def test_keys_are_taken_literally(store: ReperioVectorStore) -> None:
    """Dots, dollars, backslashes, spaces, the reserved name: a key is a key."""
    keys = ["a.b", "$eq", "a\\b", "with space", "", "_llama_index", "text", "ünï"]
    nodes = [node(f"n{at}") for at in range(len(keys))]
    for each, key in zip(nodes, keys, strict=True):
        each.metadata = {key: "here"}
    store.add(nodes)
    for at, key in enumerate(keys):
        assert ask(store, filters=one(FilterOperator.EQ, "here", key)) == [f"n{at}"], key
        assert f"n{at}" not in ask(store, filters=one(FilterOperator.NE, "here", key))


@pytest.mark.parametrize(
    ("operator", "value", "message"),
    [
        (FilterOperator.GT, None, "GT takes a number or a string"),
        (FilterOperator.LTE, ["a"], "LTE takes a number or a string"),
        (FilterOperator.IN, 3, "IN takes a list"),
        (FilterOperator.NIN, None, "NIN takes a list"),
        (FilterOperator.ANY, 3, "ANY takes a list"),
        (FilterOperator.ALL, None, "ALL takes a list"),
        (FilterOperator.TEXT_MATCH, 3, "TEXT_MATCH takes a string"),
        (FilterOperator.IN, "x" * 141, "at most 140 characters"),
    ],
)
def test_a_filter_that_could_never_match_is_refused(operator: FilterOperator, value: Any, message: str) -> None:
    """With the key, the operator, and what it takes."""
    with pytest.raises(ValueError, match=f"filter on 'key': .*{message}"):
        to_filter(one(operator, value))


def test_case_is_ignored_character_by_character() -> None:
    """The one difference to `str.lower`: characters that stand for each other without being each other's lower case."""
    tree = to_filter(one(FilterOperator.TEXT_MATCH_INSENSITIVE, "STRASSE"))
    assert matches(tree, {"key": "die Strasse"})
    assert not matches(tree, {"key": "die Straße"})


def test_booleans_inside_a_list_are_no_numbers() -> None:
    """The pinned difference: [True] == [1] in Python, and not in JSON."""
    assert not matches(to_filter(one(FilterOperator.EQ, [1])), {"key": [True]})
    assert matches(to_filter(one(FilterOperator.EQ, 1)), {"key": True})


def test_too_much_for_one_filter_is_refused_not_cut(store: ReperioVectorStore) -> None:
    """Depth, number of conditions, number of values: the core's limits, by their message."""
    store.add([node("a")])
    deep = one(FilterOperator.EQ, 1)
    for _ in range(12):
        deep = MetadataFilters(filters=[deep, MetadataFilter(key="k", value=1)], condition=FilterCondition.NOT)
    with pytest.raises(ValueError, match="8"):
        ask(store, filters=deep)
    with pytest.raises(ValueError, match="10,000"):
        ask(store, filters=one(FilterOperator.IN, [f"v{i}" for i in range(10_001)]))
    assert ask(store, filters=one(FilterOperator.NIN, [f"v{i}" for i in range(9_000)])) == ["a"]
