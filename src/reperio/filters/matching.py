"""Evaluate a filter value by value: the meaning of each operator, which columns share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from reperio.filters.operands import Operator, to_key
from reperio.filters.patterns import fold, like
from reperio.filters.tree import And, Condition, Filter, Not, Or

MISSING: Final = object()  # the value that `lookup` returns for an absent field; null is a value
# An operator that matches exactly where another does not.
NEGATIONS = {Operator.NE: Operator.EQ, Operator.NIN: Operator.IN}
# Operators that hold texts for equal that differ in case.
CASELESS = frozenset((Operator.ILIKE, Operator.TEXT_MATCH_INSENSITIVE))
ORDER: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
}


def matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Say whether a chunk with this metadata is what *tree* asks for.

    Args:
        tree: from `parse`.
        metadata: a JSON object, as a chunk has it.
    """
    if isinstance(tree, Condition):
        return _holds(tree, lookup(metadata, tree.path))
    if isinstance(tree, Not):
        return not matches(tree.child, metadata)
    if isinstance(tree, Or):
        return any(matches(child, metadata) for child in tree.children)
    assert isinstance(tree, And)
    return all(matches(child, metadata) for child in tree.children)


def lookup(metadata: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the value at *path*, or `MISSING`. A path leads through objects only: a list on the way ends it."""
    value: Any = metadata
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return MISSING
        value = value[step]
    return value


def _holds(condition: Condition, value: Any) -> bool:
    asked = condition.operator
    if asked in NEGATIONS:
        return not _equals(condition, value)
    if asked is Operator.EXISTS:
        return (value is not MISSING) is condition.value
    if asked is Operator.IS_EMPTY:
        return (value is MISSING or is_empty(value)) is condition.value
    if value is MISSING:
        return False
    if asked in (Operator.EQ, Operator.IN):
        return _equals(condition, value)
    if asked in (Operator.ANY, Operator.ALL, Operator.CONTAINS):
        return _has(condition, value)
    test = value_test(condition)
    return any(map(test, value)) if isinstance(value, list) else test(value)


def _equals(condition: Condition, value: Any) -> bool:
    if value is MISSING:
        return False
    wanted = equal_keys(condition)
    return to_key(value) in wanted or (isinstance(value, list) and not wanted.isdisjoint(map(to_key, value)))


def _has(condition: Condition, value: Any) -> bool:
    if isinstance(value, list):
        found = set(map(to_key, value))
        wanted = equal_keys(condition)
        return wanted <= found if condition.operator is Operator.ALL else not wanted.isdisjoint(found)
    return condition.operator is Operator.CONTAINS and isinstance(value, str) and text_test(condition)(value)


def is_empty(value: Any) -> bool:
    """Say whether a stored value is null, or an empty string, list or object."""
    return value is None or (isinstance(value, (str, list, Mapping)) and not value)


def equal_keys(condition: Condition) -> frozenset[Any]:
    """Return the keys of the values that an equality, or a question about a list's elements, is satisfied by."""
    key = condition.key
    return key if isinstance(key, frozenset) else frozenset((key,))


def value_test(condition: Condition) -> Callable[[Any], bool]:
    """Return the test of one value, not of a list's elements, for an operator about order or text."""
    if condition.operator not in ORDER and condition.operator is not Operator.BETWEEN:
        test = text_test(condition)
        return lambda value: isinstance(value, str) and test(value)
    wanted = condition.value[0] if condition.operator is Operator.BETWEEN else condition.value
    ordered = order_test(condition)
    if isinstance(wanted, str):
        return lambda value: isinstance(value, str) and ordered(value)
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and ordered(value)


def order_test(condition: Condition) -> Callable[[Any], bool]:
    """Return the test of a value of the operand's own kind, for an operator about order."""
    if condition.operator is Operator.BETWEEN:
        low, high = condition.value
        return lambda value: low <= value <= high
    compare, wanted = ORDER[condition.operator], condition.value
    return lambda value: bool(compare(value, wanted))


def text_test(condition: Condition) -> Callable[[str], bool]:
    """Return the test of a string, for an operator about text; *contains* of what is no string never holds."""
    test = folded_test(condition)
    return (lambda text: test(fold(text))) if condition.operator in CASELESS else test


def folded_test(condition: Condition) -> Callable[[str], bool]:
    """Return the test of a string that `fold` has been applied to where the operator is one of `CASELESS`."""
    wanted = fold(condition.value) if condition.operator in CASELESS else condition.value
    if condition.operator in (Operator.LIKE, Operator.ILIKE):
        return like(wanted)
    return lambda text: isinstance(wanted, str) and wanted in text
