"""Does a filter hold of a whole value? A list matches by any one of its elements: for a fence that is too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from reperio.errors import InvalidInput
from reperio.filters.matching import lookup, matches
from reperio.filters.parsing import join_path
from reperio.filters.tree import And, Condition, Filter, Not, Or

MAX_ELEMENTS = 10_000  # elements of one list that are looked at
MAX_READINGS = 4096  # combinations of different elements of several lists


def holds_wholly(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Say whether a filter matches a chunk, and each alternative reading of it.

    A reading has, in place of each list in one of the filter's fields, a list of only one of its elements.
    ``{"tenant": ["a", "b"]}`` has the readings ``["a"]`` and ``["b"]``: it matches ``{"tenant": "a"}`` and does not
    wholly. An empty list has no reading but itself.

    Raises:
        InvalidInput: a list has more than `MAX_ELEMENTS`, or several have more than `MAX_READINGS` together.
    """
    if not matches(tree, metadata):
        return False
    # What all readings must satisfy, each part of an `And` must satisfy in all readings: fewer combinations.
    parts = tree.children if isinstance(tree, And) else (tree,)
    return all(_every_reading_matches(part, metadata) for part in parts)


def listed_fields(tree: Filter, metadata: Mapping[str, Any]) -> list[str]:
    """Return the names of the filter's fields that hold lists here, sorted."""
    return sorted({join_path(each.path) for each in conditions(tree) if isinstance(lookup(metadata, each.path), list)})


def conditions(tree: Filter) -> Iterator[Condition]:
    """Yield every condition of a filter."""
    if isinstance(tree, Condition):
        yield tree
    elif isinstance(tree, Not):
        yield from conditions(tree.child)
    else:
        assert isinstance(tree, (And, Or))  # there are no others
        for child in tree.children:
            yield from conditions(child)


def _every_reading_matches(tree: Filter, metadata: Mapping[str, Any]) -> bool:
    """Evaluate all readings; *tree* is known to match as it is."""
    # Elements about which all conditions say the same are one alternative, so that there are few: two at most for a
    # field with one condition.
    about: dict[tuple[str, ...], dict[Condition, None]] = {}
    for each in conditions(tree):
        about.setdefault(each.path, {})[each] = None
    alternatives = [
        _alternatives(tuple(asked), value)
        for path, asked in about.items()
        if isinstance(value := lookup(metadata, path), list) and value
    ]
    if not alternatives:
        return True
    if prod(map(len, alternatives)) > MAX_READINGS:
        raise InvalidInput(
            f"lists in {len(alternatives)} fields of a filter have more than {MAX_READINGS:,} readings together; "
            "store single values"
        )
    return all(
        _evaluated(tree, metadata, {name: said for some in reading for name, said in some})
        for reading in product(*alternatives)
    )


def _alternatives(asked: tuple[Condition, ...], values: list[Any]) -> set[tuple[tuple[Condition, bool], ...]]:
    """Return the different ways in which the elements of a list, each alone, satisfy the conditions on its field."""
    if len(values) > MAX_ELEMENTS:
        raise InvalidInput(
            f"field {join_path(asked[0].path)!r:.80} holds a list of {len(values):,} values, and a filter that must "
            f"hold of each compares at most {MAX_ELEMENTS:,}; store fewer"
        )
    return {tuple((each, matches(each, _nested(each.path, [value]))) for each in asked) for value in values}


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for step in reversed(path):
        value = {step: value}
    return value  # type: ignore[no-any-return]  # a path has at least one step


def _evaluated(tree: Filter, metadata: Mapping[str, Any], said: Mapping[Condition, bool]) -> bool:
    if isinstance(tree, Condition):
        known = said.get(tree)
        return matches(tree, metadata) if known is None else known
    if isinstance(tree, Not):
        return not _evaluated(tree.child, metadata, said)
    assert isinstance(tree, (And, Or))  # there are no others
    holds = all if isinstance(tree, And) else any
    return holds(_evaluated(child, metadata, said) for child in tree.children)
