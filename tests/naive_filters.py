"""The table of docs/filters.md, written down a second time and slowly: what the tests compare with."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from reperio.filters import And, Condition, Filter, Not

ABSENT = object()


def expected(tree: Filter, metadata: dict[str, Any]) -> bool:
    """Evaluate a tree by the table."""
    if isinstance(tree, Condition):
        return row_of_the_table(tree.operator.value, find(metadata, tree.path), tree.value)
    if isinstance(tree, Not):
        return not expected(tree.child, metadata)
    verdicts = [expected(child, metadata) for child in tree.children]
    return False not in verdicts if isinstance(tree, And) else True in verdicts


def find(metadata: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return metadata
    return find(metadata[path[0]], path[1:]) if isinstance(metadata, dict) and path[0] in metadata else ABSENT


def row_of_the_table(operator: str, value: Any, wanted: Any) -> bool:
    if operator in ("$ne", "$nin"):
        return not row_of_the_table({"$ne": "$eq", "$nin": "$in"}[operator], value, wanted)
    if operator == "$exists":
        return (value is not ABSENT) == wanted
    if operator == "$is_empty":
        return (value is ABSENT or any(same(value, empty) for empty in (None, "", [], {}))) == wanted
    if value is ABSENT:
        return False
    if operator == "$in":
        return any(row_of_the_table("$eq", value, each) for each in wanted)
    return of_a_list(operator, value, wanted) if isinstance(value, list) else of_one(operator, value, wanted)


def of_a_list(operator: str, elements: list[Any], wanted: Any) -> bool:
    if operator == "$any":
        return any(same(one, each) for one in elements for each in wanted)
    if operator == "$all":
        return all(any(same(one, each) for one in elements) for each in wanted)
    if operator == "$contains":
        return any(same(one, wanted) for one in elements)
    if operator == "$eq":
        return same(elements, wanted) or any(same(one, wanted) for one in elements)
    return any(scalar(operator, one, wanted) for one in elements)


def of_one(operator: str, value: Any, wanted: Any) -> bool:
    if operator in ("$any", "$all"):
        return False
    if operator == "$contains":
        return isinstance(value, str) and isinstance(wanted, str) and value.find(wanted) >= 0
    return same(value, wanted) if operator == "$eq" else scalar(operator, value, wanted)


def same(left: Any, right: Any) -> bool:
    if kind(left) != kind(right):
        return False
    if kind(left) == "list":
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if kind(left) == "object":
        return set(left) == set(right) and all(same(left[key], right[key]) for key in left)
    return Fraction(left) == Fraction(right) if kind(left) == "number" else bool(left == right)


def kind(value: Any) -> str:
    for name, types in (
        ("null", type(None)),
        ("boolean", bool),
        ("number", (int, float)),
        ("string", str),
        ("list", (list, tuple)),
    ):
        if isinstance(value, types):
            return name
    return "object"


def scalar(operator: str, value: Any, wanted: Any) -> bool:
    if operator == "$between":
        return scalar("$gte", value, wanted[0]) and scalar("$lte", value, wanted[1])
    if kind(value) != kind(wanted):
        return False
    if operator == "$like":
        return like(value, wanted, lambda a, b: a == b)
    if operator == "$ilike":
        return like(value, wanted, alike)
    if operator in ("$text_match", "$text_match_insensitive"):
        equal = alike if operator.endswith("insensitive") else lambda a, b: a == b
        starts = range(len(value) - len(wanted) + 1)
        return any(all(equal(value[i + j], wanted[j]) for j in range(len(wanted))) for i in starts)
    order: Any = Fraction if kind(value) == "number" else lambda text: [ord(character) for character in text]
    left, right = order(value), order(wanted)
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]


def alike(left: str, right: str) -> bool:
    return re.fullmatch(re.escape(right), left, re.IGNORECASE) is not None


def like(text: str, pattern: str, equal: Any) -> bool:
    """Match by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[i:], pattern[1:], equal) for i in range(len(text) + 1))
    literal = pattern[0] == "\\"
    rest = pattern[2:] if literal else pattern[1:]
    if not text:
        return False
    if pattern[0] == "_":
        return like(text[1:], rest, equal)
    return equal(text[0], pattern[1] if literal else pattern[0]) and like(text[1:], rest, equal)
