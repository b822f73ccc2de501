"""The dialect, the limits, and the meaning of each operator as docs/filters.md states it."""

from __future__ import annotations

import enum
import re
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from reperio.errors import InvalidInput
from reperio.filters import (
    EVERYTHING,
    Not,
    Operator,
    Or,
    all_of,
    any_of,
    field,
    join_path,
    matches,
    none_of,
    parse,
    parse_path,
    to_dict,
)
from tests.naive_filters import expected

DOCS = Path(__file__).parents[2] / "docs" / "filters.md"

# What the columns of the documented table stand for. "wrong type" is an object, which no operator but equality knows.
PRESENT: dict[str, tuple[Any, Any]] = {  # operator: (operand, a value that matches)
    "$eq": ("b", "b"),
    "$ne": ("b", "c"),
    "$gt": ("b", "c"),
    "$gte": ("b", "b"),
    "$lt": ("b", "a"),
    "$lte": ("b", "b"),
    "$between": (["a", "c"], "b"),
    "$in": (["a", "b"], "b"),
    "$nin": (["a", "b"], "c"),
    "$any": (["a", "b"], ["b", "x"]),
    "$all": (["a", "b"], ["b", "x", "a"]),
    "$contains": ("b", "abc"),
    "$like": ("_b%", "abc"),
    "$ilike": ("_B%", "abc"),
    "$text_match": ("b", "abc"),
    "$text_match_insensitive": ("B", "abc"),
    "$exists": (True, "b"),
    "$is_empty": (True, ""),
}
LISTS: dict[str, tuple[list[Any], list[Any]]] = {  # operator: (a list that matches, one that does not)
    "$ne": (["c", "d"], ["c", "b"]),
    "$nin": (["c", "d"], ["c", "b"]),
    "$any": (["x", "b"], ["x", "y"]),
    "$all": (["a", "b", "x"], ["a", "x"]),
    "$contains": (["x", "b"], ["abc"]),
    "$exists": ([], []),
    "$is_empty": ([], ["x"]),
    "$gt": (["a", "c"], ["a", "b"]),
    "$lt": (["z", "a"], ["b", "z"]),
    "$between": (["z", "b"], ["z", "0"]),
    "$like": (["x", "abc"], ["xyz"]),
    "$ilike": (["x", "abc"], ["xyz"]),
}


def documented() -> dict[str, list[str]]:
    """Read the table: operator → its cells for present, missing, null, wrong type, list."""
    rows = re.findall(r"^\| `(\$\w+)` \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    split = ((name, [cell.strip() for cell in cells.split("|")]) for name, cells in rows)
    return {name: cells for name, cells in split if len(cells) == 5}


def test_the_table_has_every_operator() -> None:
    """No operator without its row, no row without its operator."""
    assert list(documented()) == [operator.value for operator in Operator]


@pytest.mark.parametrize("name", PRESENT)
def test_each_cell_of_the_table(name: str) -> None:
    """Missing, null and an object match exactly where the table says yes; so do the present value and the lists."""
    _, missing, null, wrong, _ = documented()[name]
    wanted, fitting = PRESENT[name]
    tree = parse({"f": {name: wanted}})
    assert matches(tree, {"f": fitting})
    assert matches(tree, {}) == missing.startswith("yes")
    assert matches(tree, {"f": None}) == null.startswith("yes")
    assert matches(tree, {"f": {"x": 1}}) == wrong.startswith("yes")
    one, other = LISTS.get(name, (["z", "b"], ["0"]) if name not in ("$lte",) else (["z", "b"], ["z"]))
    assert matches(tree, {"f": one})
    assert matches(tree, {"f": other}) == (name == "$exists")
    for metadata in ({"f": fitting}, {}, {"f": None}, {"f": {"x": 1}}, {"f": one}, {"f": other}):
        assert matches(tree, metadata) == expected(tree, metadata)


@pytest.mark.parametrize(
    ("where", "metadata", "answer"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": [1, 2]}, {"a": 2}, True),
        ({"tags": "x"}, {"tags": ["x", "y"]}, True),
        ({"tags": {"$eq": ["x", "y"]}}, {"tags": ["x", "y"]}, True),
        ({"tags": {"$eq": ["y", "x"]}}, {"tags": ["x", "y"]}, False),
        ({"a": {"$gt": 2**53}}, {"a": 2**53 + 1}, True),
        ({"a": {"$gte": float(2**53)}}, {"a": 2**53 - 1}, False),
        ({"a": {"$gt": "Z"}}, {"a": "a"}, True),  # by code point, not by alphabet
        ({"a": {"$gt": "\uffff"}}, {"a": "\U00010000"}, True),  # nor by UTF-16
        ({"a": {"$gt": 1}}, {"a": "2"}, False),
        ({"a": {"$gte": 0}}, {"a": True}, False),
        ({"a": {"$gt": 1, "$lt": 3}}, {"a": 2}, True),
        ({"a": {"$gt": 1, "$lt": 3}}, {"a": 3}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, False),
        ({r"a\.b": 1}, {"a.b": 1}, True),
        ({r"\$x": 1}, {"$x": 1}, True),
        ({"a.b": 1}, {"a": [{"b": 1}]}, False),
        ({"a.0": 1}, {"a": [1]}, False),
        ({"a": {"$eq": {"y": 2, "x": [1]}}}, {"a": {"x": [1.0], "y": 2}}, True),
        ({"a": {"$not": {"$gt": 1}}}, {}, True),
        ({"$not": {"a": 1}}, {"a": 1}, False),
        ({"$not": [{"a": 1}, {"b": 1}]}, {"a": 2, "b": 1}, False),  # none of
        ({"$not": [{"a": 1}, {"b": 1}]}, {"a": 2, "b": 2}, True),
        ({"$or": [{"a": 1}, {"b": 1}], "c": 1}, {"b": 1, "c": 2}, False),
        ({"a": {"$in": []}}, {"a": 1}, False),
        ({"a": {"$nin": []}}, {"a": 1}, True),
        ({"a": {"$all": []}}, {"a": []}, True),
        ({"a": {"$neq": 1}}, {"a": 1}, False),
        ({"a": {"$like": "100\\%"}}, {"a": "100%"}, True),
        ({"a": {"$like": "100\\%"}}, {"a": "1000"}, False),
        ({"a": {"$like": "a%b"}}, {"a": "a\nb"}, True),
        ({"a": {"$like": "ab%ab"}}, {"a": "ab"}, False),  # the ends may not share a letter
        ({"a": {"$ilike": "STRASSE"}}, {"a": "straße"}, False),  # letter by letter
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"a": {"$is_empty": False}}, {"a": 0}, True),
        ({"a": None}, {}, False),
    ],
)
def test_meaning(where: dict[str, Any], metadata: dict[str, Any], answer: bool) -> None:
    """The cases that other systems disagree on."""
    assert matches(parse(where), metadata) is answer
    assert expected(parse(where), metadata) is answer
    assert matches(parse(to_dict(parse(where))), metadata) is answer


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1, "b": 2}, {"$and": [{"b": 2}, {"a": {"$eq": 1.0}}]}),
        ({"a": [1, 2]}, {"a": {"$in": [2, 1, 2.0]}}),
        ({"$not": [{"a": 1}]}, {"$not": {"a": 1}}),
        ({"$or": [{"a": 1}]}, {"a": 1}),
        ({"$or": [{"a": 1}, {"$or": [{"b": 1}, {"a": 1}]}]}, {"$or": [{"b": 1}, {"a": 1}]}),
        ({"$not": {"$not": {"a": 1}}}, {"a": 1}),
        ({"$and": [{}]}, {}),
        ({"a": {"$eq": {"x": 1, "y": 2}}}, {"a": {"$eq": {"y": 2, "x": 1}}}),
    ],
)
def test_equal_filters_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What is written differently but is the same by the order of its parts serves from one cache entry."""
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": [0]}, {"a": [False]}),
        ({"a": {"$eq": [1]}}, {"a": [1]}),
        ({"a": None}, {"a": {"$exists": False}}),
        ({"a.b": 1}, {r"a\.b": 1}),
        ({"a": "1"}, {"a": 1}),
        ({"a": {"$eq": ["bool", True]}}, {"a": {"$eq": True}}),
    ],
)
def test_different_filters_are_two(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Python's 1 == True must not let one filter answer for another."""
    assert parse(one) != parse(other)


def test_the_builder_makes_the_same_trees() -> None:
    """Each method of `field` is its operator of the dialect."""
    year, tags = field("year"), field("tags")
    assert ((year >= 2023) & field("lang").in_(["en", "de"])) == parse({"year": {"$gte": 2023}, "lang": ["en", "de"]})
    assert (~(year == 1) | (year != 2)) == parse({"$or": [{"$not": {"year": 1}}, {"year": {"$ne": 2}}]})
    built = [
        *(year > 1, year < 1, year <= 1, year.between(1, 2), year.not_in([1]), tags.any_of(["a"])),
        *(tags.all_of({"a"}), tags.contains("a"), year.like("a%"), year.like("a%", ignore_case=True)),
        *(year.text_match("a"), year.text_match("a", ignore_case=True), year.exists(), year.exists(False)),
        *(year.is_empty(), field(r"v1\.0") == 1, field("a.b").in_(x for x in range(3))),
    ]
    assert all(parse(to_dict(one)) == one for one in built)
    assert {one.operator for one in built} | {Operator.GTE, Operator.IN, Operator.EQ, Operator.NE} == set(Operator)
    assert built[-1].path == ("a", "b")
    assert built[-2].path == ("v1.0",)


def test_a_filter_has_no_truth() -> None:
    """``a and b``, which would be b alone, and a chained comparison raise instead."""
    with pytest.raises(InvalidInput, match=re.escape("combine filters with &, | and ~")):
        bool(field("a") == 1)
    with pytest.raises(InvalidInput):
        assert 1 < field("a") < 3


def test_paths_survive_any_key() -> None:
    """Every key can be written: `parse_path` reads what `join_path` writes."""
    for path in [("a.b",), ("$a", "$b"), ("\\",), ("", ""), ("a\\.b", "c"), ("\0", '"'), (".",)]:
        assert parse_path(join_path(path)) == path
    with pytest.raises(InvalidInput, match="escapes nothing; write two"):
        parse_path("a\\b")


def test_the_tree_is_what_it_was() -> None:
    """Changing a list or dict after it became a filter does not change the filter."""
    values, whole = ["a"], {"x": [1]}
    tree = parse({"a": {"$in": values}, "b": {"$eq": whole}})
    values.append("b")
    whole["x"].append(2)
    assert matches(tree, {"a": "a", "b": {"x": [1]}})
    assert not matches(tree, {"a": "b", "b": {"x": [1, 2]}})
    with pytest.raises(AttributeError):
        tree.children = ()


def test_what_an_adapter_has_is_taken() -> None:
    """Scalars and arrays of numpy, enums, sets, tuples and any mapping mean what they hold."""

    class Lang(str, enum.Enum):
        EN = "en"

    tree = parse(
        MappingProxyType({"a": np.int64(1), "b": np.float32(0.5), "c": Lang.EN, "d": {1, 2}, "e": np.array([1, 2])})
    )
    assert tree == parse({"a": 1, "b": 0.5, "c": "en", "d": [1, 2], "e": [2, 1]})
    assert all(type(child.value) in (int, float, str, tuple) for child in tree.children)
    assert parse(tree) is tree
    assert parse({"$and": [field("a") == 1]}) == parse({"a": 1})


def test_none_and_nothing() -> None:
    """No conditions match everything; an empty or, which could mean either, is refused."""
    assert parse({}) == EVERYTHING == all_of([])
    assert to_dict(EVERYTHING) == {}
    assert none_of([field("a") == 1]) == Not(field("a") == 1)
    for refused in (lambda: any_of([]), lambda: none_of([]), lambda: Or(())):
        with pytest.raises(InvalidInput, match="an or of nothing"):
            refused()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a": {"$gtr": 1}}, "unknown operator '$gtr'; did you mean '$gt"),
        ({"a": {"$containz": 1}}, "did you mean '$contains'"),
        ({"$nor": [{"a": 1}]}, "did you mean '$or'"),
        ({"$gt": 1}, "$gt belongs inside a field"),
        ({"a": {"$or": [{"$gt": 1}]}}, "the fields instead of inside one"),
        ({"a": {"b": 1}}, "write 'a.b'"),
        ({"a": {}}, "without operators"),
        ({"a": {"$gt": 1, "b": 2}}, "without operators"),
        ({"a": {"$in": "abc"}}, "must be a list of values"),
        ({"a": {"$gt": None}}, "only numbers and strings have an order"),
        ({"a": {"$gt": True}}, "only numbers and strings have an order"),
        ({"a": {"$between": [1]}}, "must be a list of two"),
        ({"a": {"$between": [1, "b"]}}, "both bounds"),
        ({"a": {"$exists": 1}}, "must be True or False"),
        ({"a": {"$like": 1}}, "must be a string"),
        ({"a": {"$like": "a\\"}}, "escapes nothing"),
        ({"a": float("nan")}, "finite numbers only"),
        ({"a": {"$lt": float("inf")}}, "finite numbers only"),
        ({"a": {"$in": [1, float("-inf")]}}, "finite numbers only"),
        ({"a": datetime(2026, 1, 1)}, "ISO 8601"),
        ({"a": b"x"}, "is a bytes"),
        ({"a": object()}, "is a object"),
        ({"a": {"$eq": {1: 2}}}, "must be a string"),
        ({1: 2}, "a key is a int"),
        ({"$and": []}, "$and has an empty list"),
        ({"$or": {"a": 1}}, "$or takes a list of filters"),
        ({"$or": [1]}, "a filter is a dict"),
        ([("a", 1)], "a filter is a dict"),
        ("a = 1", "a filter is a dict"),
        (None, "a filter is a dict"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
    ],
)
def test_refused_with_the_cure(where: Any, message: str) -> None:
    """What cannot be meant is refused, naming the nearest thing that can."""
    with pytest.raises(InvalidInput, match=re.escape(message)):
        parse(where)
