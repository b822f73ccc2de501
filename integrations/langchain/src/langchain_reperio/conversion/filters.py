"""Translate ``filter=`` and self-queries to filters of Reperio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict

from langchain_core.documents import Document
from langchain_core.structured_query import (
    Comparator,
    Comparison,
    Operation,
    Operator,
    StructuredQuery,
    Visitor,
)
from reperio import Collection, Filter
from reperio.errors import InvalidInput
from reperio.filters import matches, parse

from langchain_reperio.conversion.documents import from_chunk
from langchain_reperio.conversion.values import to_operand

DocumentFilter: TypeAlias = "Mapping[str, Any] | Filter | Callable[[Document], bool] | None"
"""A dictionary in MongoDB's manner, a filter made with `reperio.field`, or a function of a document."""

TEXT = "$text"
"""Key of a condition on the text, next to those on fields: ``{"lang": "en", "$text": {"$contains": "password"}}``."""


class Narrowed(TypedDict, total=False):
    """A filter as `reperio.Collection.search` takes it."""

    where: Mapping[str, Any] | Filter
    ids: list[str]


def to_narrowed(collection: Collection, asked: DocumentFilter) -> Narrowed:
    """Return a filter as options of a search, which then gives exactly min(k, matching documents) hits.

    A dictionary or `reperio.Filter` goes to the collection as it is; in a dictionary, dates and other values that JSON
    does not know become what `values` stores for them. A condition on the text, ``$text``, and a function are the slow
    path: every document that the rest of the filter leaves (and the scope allows) is read, at each search, before
    anything is searched. So they are as exact as a dictionary, and cost some 10 µs per document.

    Raises:
        InvalidInput: it is none of these.
    """
    if asked is None:
        return {}
    if isinstance(asked, Filter):
        return {"where": asked}
    if isinstance(asked, Mapping):
        where = to_operand(asked)
        return {"ids": _with_text(collection, where)} if TEXT in where else {"where": where}
    if not callable(asked):
        raise InvalidInput(
            f"filter is a {type(asked).__name__}; pass a dict such as {{'lang': 'en'}}, a filter made with "
            "reperio.field, or a function of a Document"
        )
    return {"ids": matching_ids(collection, asked)}


def matching_ids(collection: Collection, accepts: Callable[[Document], bool]) -> list[str]:
    """Return the ids of all documents that a function accepts, in the order of adding."""
    return [chunk.id for chunk in collection if accepts(from_chunk(chunk))]


def _with_text(collection: Collection, where: dict[str, Any]) -> list[str]:
    """Return the ids of the documents that match, ``$text`` included: every operator of a string is there."""
    condition = parse({"text": where[TEXT]})
    rest = {name: value for name, value in where.items() if name != TEXT}
    chunks = collection.get(where=rest) if rest else collection
    return [chunk.id for chunk in chunks if matches(condition, {"text": chunk.text})]


_COMPARED = {
    Comparator.EQ: "$eq",
    Comparator.NE: "$ne",
    Comparator.GT: "$gt",
    Comparator.GTE: "$gte",
    Comparator.LT: "$lt",
    Comparator.LTE: "$lte",
    Comparator.CONTAIN: "$contains",
    Comparator.IN: "$in",
    Comparator.NIN: "$nin",
}
_COMBINED = {Operator.AND: "$and", Operator.OR: "$or", Operator.NOT: "$not"}
_DATED = ("date", "datetime", "time")
"""Kinds of value that LangChain's query parser gives as ``{"type": kind, kind: text}``."""


class ReperioTranslator(Visitor):
    """Turns a structured query into ``filter=``; for ``SelfQueryRetriever`` as ``structured_query_translator=``.

    Every comparator and operator of langchain-core is understood. Dates and times become their ISO 8601 text, which is
    how they are best stored. LIKE takes SQL's pattern; without ``%`` and ``_`` it asks for the text anywhere in the
    field, which is what a language model means by it. What the model makes up is data: an impossible filter is refused
    when it is searched with, by `reperio.errors.InvalidInput`.
    """

    allowed_comparators = tuple(Comparator)
    allowed_operators = tuple(Operator)

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Return several conditions combined: all, any, or none of them."""
        self._validate_func(operation.operator)
        return {_COMBINED[operation.operator]: [each.accept(self) for each in operation.arguments]}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """Return one condition."""
        self._validate_func(comparison.comparator)
        value = _plain(comparison.value)
        if comparison.comparator is Comparator.LIKE:
            return {comparison.attribute: {_likeness(value): value}}
        return {comparison.attribute: {_COMPARED[comparison.comparator]: value}}

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """Return the question, and the options of the search: ``filter`` where there is one, ``k`` where a limit is."""
        options: dict[str, Any] = {}
        if structured_query.filter is not None:
            options["filter"] = structured_query.filter.accept(self)
        if structured_query.limit is not None:
            options["k"] = structured_query.limit
        return structured_query.query, options


def _likeness(pattern: object) -> str:
    wild = isinstance(pattern, str) and ("%" in pattern or "_" in pattern)
    return "$like" if wild else "$text_match"


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping) and value.get("type") in _DATED:
        return value.get(value["type"], value)
    return value
