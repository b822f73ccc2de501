"""Filters written in Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reperio.filters.operands import Operator, plain_string
from reperio.filters.parsing import parse_path
from reperio.filters.tree import MAX_KEY, MAX_STEPS, Condition


def field(name: str) -> Field:
    r"""Name a field; comparing it makes a filter, which &, | and ~ combine.

    ``(field("year") >= 2023) & field("lang").in_(["en", "de"])``

    Args:
        name: as in a dict filter: ``author.name`` leads into an object, ``v1\.0`` is one key.
    """
    return Field(parse_path(plain_string(name, "field: the name", MAX_KEY * MAX_STEPS)))


class Field:
    """A field of the metadata. Comparing it gives a `Condition`; docs/filters.md says what each means."""

    __slots__ = ("_path",)
    __hash__ = None  # type: ignore[assignment]  # == gives a condition, so that a set of fields would be nonsense

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]  # that is what it is for
        return Condition(self._path, Operator.EQ, value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]  # likewise
        return Condition(self._path, Operator.NE, value)

    def __gt__(self, value: float | str) -> Condition:
        return Condition(self._path, Operator.GT, value)

    def __ge__(self, value: float | str) -> Condition:
        return Condition(self._path, Operator.GTE, value)

    def __lt__(self, value: float | str) -> Condition:
        return Condition(self._path, Operator.LT, value)

    def __le__(self, value: float | str) -> Condition:
        return Condition(self._path, Operator.LTE, value)

    def between(self, low: float | str, high: float | str) -> Condition:
        """Match from *low* to *high*, both included."""
        return Condition(self._path, Operator.BETWEEN, (low, high))

    def in_(self, values: Iterable[Any]) -> Condition:
        """Match what equals one of *values*, or, of a list, has an element that does."""
        return Condition(self._path, Operator.IN, _listed(values))

    def not_in(self, values: Iterable[Any]) -> Condition:
        """Match what `in_` does not, a missing field included."""
        return Condition(self._path, Operator.NIN, _listed(values))

    def any_of(self, values: Iterable[Any]) -> Condition:
        """Match a list with at least one of *values*."""
        return Condition(self._path, Operator.ANY, _listed(values))

    def all_of(self, values: Iterable[Any]) -> Condition:
        """Match a list with every one of *values*."""
        return Condition(self._path, Operator.ALL, _listed(values))

    def contains(self, value: Any) -> Condition:
        """Match a list with the element *value*, or a string with *value* inside."""
        return Condition(self._path, Operator.CONTAINS, value)

    def like(self, pattern: str, *, ignore_case: bool = False) -> Condition:
        r"""Match SQL's LIKE: ``%`` any characters, ``_`` one, ``\`` makes the next one literal."""
        return Condition(self._path, Operator.ILIKE if ignore_case else Operator.LIKE, pattern)

    def text_match(self, text: str, *, ignore_case: bool = False) -> Condition:
        """Match a string with *text* inside."""
        asked = Operator.TEXT_MATCH_INSENSITIVE if ignore_case else Operator.TEXT_MATCH
        return Condition(self._path, asked, text)

    def exists(self, present: bool = True) -> Condition:
        """Match where the field is there, null included; with False, where it is not."""
        return Condition(self._path, Operator.EXISTS, present)

    def is_empty(self, empty: bool = True) -> Condition:
        """Match where the field is missing, null, or an empty string, list or object; with False, the others."""
        return Condition(self._path, Operator.IS_EMPTY, empty)


def _listed(values: Any) -> Any:
    """Leave a string as it is, for the condition to refuse: as an iterable it would be its characters."""
    return values if isinstance(values, (str, list, tuple, set, frozenset)) else list(values)
