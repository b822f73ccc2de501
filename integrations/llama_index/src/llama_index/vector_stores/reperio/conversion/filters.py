"""MetadataFilters to the core's filter tree, meaning what they do in LlamaIndex's own `build_metadata_filter_fn`.

That function applies Python's ``==``, ``<`` and ``in`` to the value as stored. The core's operators follow MongoDB:
there a list matches by its elements, and true is not 1. So most operators become a few conditions here. These things
are on purpose not as there:

- Where it raises TypeError because of what is stored (``"a" > 5``), a node does not match, and does match NIN.
- A filter that would raise for every node that has the field is refused when it is made, and so is the order of lists.
- Nested filters, which it refuses, are what they say.
- A list asked for by EQ or NE is compared as JSON: ``[true]`` is not ``[1]``.
- TEXT_MATCH_INSENSITIVE ignores case character by character, where ``str.lower`` may change a text's length.

A field that is missing and one that is None are alike: only NE, NIN and IS_EMPTY match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from reperio import InvalidInput
from reperio.filters import EVERYTHING, Condition, Filter, Operator, all_of, any_of, none_of

from llama_index.vector_stores.reperio.conversion.documents import RESERVED

DOCUMENT = (RESERVED, "doc_id")
"""Path of the document that a node belongs to."""

_DOCUMENT_KEYS = ("doc_id", "ref_doc_id", "document_id")
_LONGEST_KEY = 1000  # of the core's paths
_LONGEST_WHOLE = 140  # characters of a string whose parts fit into one filter

_Path: TypeAlias = tuple[str, ...]


def to_filter(filters: MetadataFilters) -> Filter:
    """Return the filter that *filters* stand for; without any, one that matches everything.

    The keys doc_id, ref_doc_id and document_id mean a node's own metadata, or, where it has no such field, the document
    that it belongs to. Dots in a key are part of it.

    Raises:
        InvalidInput: an operator with a value that it cannot use, or a filter beyond the core's limits.
    """
    if not isinstance(filters, MetadataFilters):
        raise InvalidInput(f"filters is a {type(filters).__name__}; pass MetadataFilters(filters=[MetadataFilter(…)])")
    children = [
        to_filter(child) if isinstance(child, MetadataFilters) else _to_condition(child) for child in filters.filters
    ]
    if not children:
        return EVERYTHING
    if filters.condition is FilterCondition.OR:
        return any_of(children)
    if filters.condition is FilterCondition.NOT:
        return none_of(children)
    return all_of(children)


def of_documents(doc_ids: Sequence[str]) -> Filter:
    """Return the filter that matches the nodes of these documents; of none, nothing."""
    return Condition(DOCUMENT, Operator.IN, list(doc_ids))


def _to_condition(asked: MetadataFilter) -> Filter:
    build, key = _BUILDERS[asked.operator], asked.key
    if key == RESERVED:
        return build((RESERVED, "own"), asked)
    if key not in _DOCUMENT_KEYS:
        return build((key,), asked)
    own = Condition((key,), Operator.EXISTS, True)
    return any_of([all_of([own, build((key,), asked)]), all_of([~own, build(DOCUMENT, asked)])])


# ── what the stored value is ─────────────────────────────────────────────────────────────────────────────────────────


def _is_list(path: _Path) -> Filter:
    return Condition(path, Operator.ALL, [])  # any list has all of no values


def _nothing(path: _Path) -> Filter:
    return Condition(path, Operator.IN, [])


def _no_list(path: _Path, found: Filter) -> Filter:
    return all_of([found, ~_is_list(path)])


def _like_booleans(values: Sequence[Any]) -> list[Any]:
    """Return what Python holds for equal to one of *values*, and JSON does not."""
    return [flag for flag in (True, False) if any(not isinstance(value, str) and value == flag for value in values)]


# ── one builder per operator ─────────────────────────────────────────────────────────────────────────────────────────


def _equal(path: _Path, asked: MetadataFilter) -> Filter:
    value = asked.value
    if value is None:  # `None == None` is never asked: a field that is None counts as missing
        return _nothing(path)
    if isinstance(value, list):  # the whole list, not an element that is such a list
        return all_of([Condition(path, Operator.EQ, value), ~Condition(path, Operator.CONTAINS, value)])
    return _no_list(path, Condition(path, Operator.IN, [value, *_like_booleans([value])]))


def _in(path: _Path, asked: MetadataFilter) -> Filter:
    value = asked.value
    if isinstance(value, str):  # Python's `in`: what is stored is a part of this string
        if len(value) > _LONGEST_WHOLE:
            raise _refused(asked, f"a list (or a string of at most {_LONGEST_WHOLE} characters, for its parts)")
        ends = range(len(value) + 1)
        return _no_list(path, Condition(path, Operator.IN, sorted({value[a:b] for a in ends for b in ends if a <= b})))
    values = _required_list(asked)
    return _no_list(path, Condition(path, Operator.IN, [*values, *_like_booleans(values)]))


def _ordered(path: _Path, asked: MetadataFilter) -> Filter:
    value, name = asked.value, asked.operator.name
    if value is None or isinstance(value, list):
        raise _refused(asked, "a number or a string (dates as ISO 8601 strings)")
    found: Filter = Condition(path, Operator[name], value)
    if not isinstance(value, str):
        flags = [flag for flag in (True, False) if _COMPARISONS[name](flag, value)]
        found = any_of([found, Condition(path, Operator.IN, flags)])
    return _no_list(path, found)


def _contains(path: _Path, asked: MetadataFilter) -> Filter:
    return _has(path, asked.value)


def _has(path: _Path, value: Any) -> Filter:
    """Python's ``value in stored``: an element of a list, a part of a string, a key of a dict."""
    found = [Condition(path, Operator.CONTAINS, item) for item in (value, *_like_booleans([value]))]
    if isinstance(value, str) and len(value) <= _LONGEST_KEY:  # no field can be asked for by a longer key
        found.append(Condition((*path, value), Operator.EXISTS, True))
    return any_of(found)


def _any(path: _Path, asked: MetadataFilter) -> Filter:
    values = _required_several(asked)
    if not values:
        return _nothing(path)
    elements = Condition(path, Operator.ANY, [*values, *_like_booleans(values)])
    return any_of([elements, *(_has(path, value) for value in values if isinstance(value, str))])


def _all(path: _Path, asked: MetadataFilter) -> Filter:
    values = _required_several(asked)
    if not values:
        null = _no_list(path, Condition(path, Operator.EQ, None))
        return all_of([Condition(path, Operator.EXISTS, True), ~null])
    return all_of([_has(path, value) for value in dict.fromkeys(values)])


def _text_match(path: _Path, asked: MetadataFilter) -> Filter:
    if not isinstance(asked.value, str):
        raise _refused(asked, "a string")
    return _no_list(path, Condition(path, Operator[asked.operator.name], asked.value))


def _is_empty(path: _Path, asked: MetadataFilter) -> Filter:  # noqa: ARG001  # this operator has no value
    # The core counts an empty dict among the empty values, LlamaIndex does not.
    return all_of([Condition(path, Operator.IS_EMPTY, True), ~Condition(path, Operator.EQ, {})])


def _negated(build: Callable[[_Path, MetadataFilter], Filter]) -> Callable[[_Path, MetadataFilter], Filter]:
    return lambda path, asked: ~build(path, asked)


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "GT": operator.gt,
    "GTE": operator.ge,
    "LT": operator.lt,
    "LTE": operator.le,
}

_BUILDERS: dict[FilterOperator, Callable[[_Path, MetadataFilter], Filter]] = {
    FilterOperator.EQ: _equal,
    FilterOperator.NE: _negated(_equal),
    FilterOperator.GT: _ordered,
    FilterOperator.GTE: _ordered,
    FilterOperator.LT: _ordered,
    FilterOperator.LTE: _ordered,
    FilterOperator.IN: _in,
    FilterOperator.NIN: _negated(_in),
    FilterOperator.ANY: _any,
    FilterOperator.ALL: _all,
    FilterOperator.CONTAINS: _contains,
    FilterOperator.TEXT_MATCH: _text_match,
    FilterOperator.TEXT_MATCH_INSENSITIVE: _text_match,
    FilterOperator.IS_EMPTY: _is_empty,
}


def _required_list(asked: MetadataFilter) -> list[Any]:
    if not isinstance(asked.value, list):
        raise _refused(asked, "a list")
    return asked.value


def _required_several(asked: MetadataFilter) -> Sequence[Any]:
    """Return a list, or a string, which is its characters, as in Python."""
    if not isinstance(asked.value, (list, str)):
        raise _refused(asked, "a list")
    return asked.value


def _refused(asked: MetadataFilter, wanted: str) -> InvalidInput:
    return InvalidInput(
        f"filter on {asked.key!r}: {asked.operator.name} takes {wanted}, not {asked.value!r:.60}; no value could match"
    )
