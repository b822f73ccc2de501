"""Haystack's filters to the core's filter tree, meaning what they do in Haystack's own `document_matches_filter`.

That function compares whole values by Python's ``==``. The core's operators follow MongoDB: there a list matches by its
elements, and true is not 1. So most operators become a few conditions here. These things are on purpose not as there:

- What raises there because of what is stored (``"a" > 5``) does not match here. What would raise for each document that
  has the field is refused at once.
- Dates are compared as ISO 8601 texts, so one spelling and one time zone is what is asked for.
- Objects and lists are compared as JSON: ``[true]`` is not ``[1]``.

A field that is missing and one that is None are alike: they match ``== None``, ``!=`` of anything else, and ``not in``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict

from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from reperio import Collection, InvalidInput
from reperio.filters import EVERYTHING, Condition, Filter, Operator, all_of, any_of

from haystack_integrations.document_stores.reperio.documents import from_chunk

_COMPARISONS = ("==", "!=", ">", ">=", "<", "<=", "in", "not in")
_ORDERED = {">": Operator.GT, ">=": Operator.GTE, "<": Operator.LT, "<=": Operator.LTE}
_COMPARED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_DATE = "____-__-__%"  # what is stored and no date is in no order with one
_FIELDS = frozenset(("id", "content", "blob", "score", "embedding", "sparse_embedding"))
_Path = tuple[str, ...]


class Narrowed(TypedDict, total=False):
    """A filter as `reperio.Collection.search` takes it."""

    where: Filter
    ids: list[str]


def to_narrowed(collection: Collection, filters: Mapping[str, Any] | None, *more: Filter) -> Narrowed:
    """Return a filter as options of a search, which then gives exactly min(k, matching documents) hits.

    Filters on ``meta`` go to the collection. One on another field of a document (``id``, ``content``) is the slow path:
    every document is read and shown to Haystack's own function.

    Args:
        collection: it is read on the slow path.
        filters: as Haystack writes them; None and ``{}`` for none.
        *more: what must match as well.

    Raises:
        FilterError: they are no filters, or beyond the limits of a collection.
    """
    try:
        tree = to_filter(filters) if filters else EVERYTHING
        if tree is None:
            found = [
                chunk.id for chunk in collection if document_matches_filter(dict(filters or {}), from_chunk(chunk))
            ]
            return {"ids": found, "where": all_of(more)} if more else {"ids": found}
        return {"where": all_of([tree, *more])}
    except InvalidInput as error:
        raise FilterError(str(error)) from error
    except RecursionError:
        raise FilterError("the filter is nested too deep") from None


def to_filter(filters: Any) -> Filter | None:
    """Return the filter tree that *filters* stand for; None where they ask for another field than meta's.

    Raises:
        FilterError: they are no filters.
    """
    if not isinstance(filters, Mapping):
        raise FilterError(f"a filter is a dictionary, not a {type(filters).__name__}")
    if "field" in filters:
        return _comparison(filters)
    for key in ("operator", "conditions"):
        if key not in filters:
            hint = "" if "operator" in filters or "conditions" in filters else "; filters of Haystack 1.x are not read"
            raise FilterError(f"'{key}' key missing in {filters!r:.200}{hint}")
    combine = _LOGICAL.get(filters["operator"]) if isinstance(filters["operator"], str) else None
    if combine is None:
        raise FilterError(f"Unknown logical operator {filters['operator']!r:.60}; valid ones are {sorted(_LOGICAL)}")
    if not isinstance(filters["conditions"], list):
        raise FilterError(f"'conditions' is a list, not a {type(filters['conditions']).__name__}")
    children = [to_filter(condition) for condition in filters["conditions"]]
    known = [child for child in children if child is not None]
    return combine(known) if len(known) == len(children) else None


def of_meta(field: str) -> _Path:
    """Return the path of a field of meta, however it is called: with ``meta.`` before it, or without."""
    if not isinstance(field, str):
        raise InvalidInput(f"a field of meta is named by a string, not by {field!r:.60}")
    return tuple(field.removeprefix("meta.").split("."))


def _any(children: list[Filter]) -> Filter:
    return any_of(children) if children else ~EVERYTHING


_LOGICAL: dict[str, Callable[[list[Filter]], Filter]] = {
    "AND": all_of,
    "OR": _any,
    "NOT": lambda children: ~all_of(children),
}


def _comparison(asked: Mapping[str, Any]) -> Filter | None:
    for key in ("operator", "value"):
        if key not in asked:
            raise FilterError(f"'{key}' key missing in {asked!r:.200}")
    field, name, value = asked["field"], asked["operator"], asked["value"]
    if not isinstance(field, str) or not field:
        raise FilterError(f"'field' is a string, not {field!r:.60}")
    if name not in _COMPARISONS:
        raise FilterError(f"Unknown comparison operator {name!r:.60}; valid ones are {list(_COMPARISONS)}")
    condition = _built(name, of_meta(field), value)
    return None if field in _FIELDS else condition


def _built(name: str, path: _Path, value: Any) -> Filter:
    if name in _ORDERED:
        return _order(name, path, value)
    if name in ("==", "!="):
        return _equal(path, value) if name == "==" else ~_equal(path, value)
    if not isinstance(value, list):
        raise FilterError(f"the value of '{name}' is a list, not a {type(value).__name__}")
    return _among(path, value) if name == "in" else ~_among(path, value)


def _is_list(path: _Path) -> Filter:
    return Condition(path, Operator.ALL, [])  # any list has all of no values


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _equal(path: _Path, value: Any) -> Filter:
    if value is None:
        return any_of(
            [~Condition(path, Operator.EXISTS, True), all_of([Condition(path, Operator.EQ, None), ~_is_list(path)])]
        )
    if isinstance(value, list):  # the whole list, not an element that is such a list
        return all_of([Condition(path, Operator.EQ, value), ~Condition(path, Operator.CONTAINS, value)])
    same: list[Any] = [flag for flag in (True, False) if not isinstance(value, (str, bool)) and value == flag]
    if isinstance(value, bool):
        same = [int(value)]  # Python holds True and 1 for equal
    return all_of([Condition(path, Operator.IN, [_plain(value), *same]), ~_is_list(path)])


def _among(path: _Path, values: list[Any]) -> Filter:
    plain = [value for value in values if value is not None and not isinstance(value, list)]
    flags = [flag for flag in (True, False) if any(not isinstance(value, str) and value == flag for value in plain)]
    numbers = [int(value) for value in plain if isinstance(value, bool)]
    found: list[Filter] = [_equal(path, value) for value in values if value is None or isinstance(value, list)]
    if plain:
        wanted = [*map(_plain, plain), *flags, *numbers]
        found.append(all_of([Condition(path, Operator.IN, wanted), ~_is_list(path)]))
    return _any(found)


def _order(name: str, path: _Path, value: Any) -> Filter:
    if value is None:
        return ~EVERYTHING
    value = _plain(value)
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise FilterError(
                f"Strings are only comparable by '{name}' if they are ISO formatted dates; {value!r:.60} is none"
            ) from None
        dated = Condition(path, Operator.LIKE, _DATE)
        return all_of([Condition(path, _ORDERED[name], value), dated, ~_is_list(path)])
    if not isinstance(value, (int, float)):
        raise FilterError(f"the value of '{name}' is a number or a date, not a {type(value).__name__}")
    flags = [flag for flag in (True, False) if _COMPARED[name](flag, value)]  # to Python, true is 1
    found: Filter = Condition(path, _ORDERED[name], int(value) if isinstance(value, bool) else value)
    return all_of([any_of([found, Condition(path, Operator.IN, flags)]), ~_is_list(path)])
