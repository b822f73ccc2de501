"""Metadata of any Python program as JSON: what is not JSON becomes what stands for it, and each change is counted."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reperio.errors import InvalidInput
from reperio.importers.pickles import Instance, Name
from reperio.importers.stand_ins import STANDS_FOR

MAX_DEPTH = 64
"""Levels of lists and objects inside metadata."""
DROPPED = "left out"

_SCALARS = (int, float, bytes, bytearray)
_VALUE = 64  # characters that a value is counted for, in addition to its own
_LONGEST_NAME = 80  # characters of a field, in the report
_MOST_BITS = 4096  # Python refuses to write longer integers as text


@dataclass(frozen=True, slots=True)
class Changed:
    """A kind of value that could not be carried over as it was.

    Attributes:
        field: of the metadata, outermost; or "(id)", "(text)", "(document)".
        was: what it was, e.g. "datetime".
        became: what it is now, e.g. "ISO 8601 string"; "left out" where nothing stands for it.
        count: how often.
    """

    field: str
    was: str
    became: str
    count: int


class Conversion:
    """Converts the metadata of many documents, and counts what it changes."""

    def __init__(self, budget: int, where: str) -> None:
        # Characters that all of it may come to, for a pickle can name one long value a million times.
        self._left = budget
        self._where = where
        self._changes: Counter[tuple[str, str, str]] = Counter()

    @property
    def changed(self) -> tuple[Changed, ...]:
        """Changes so far, by field."""
        return tuple(Changed(*what, count) for what, count in sorted(self._changes.items()))

    def note(self, field: str, was: str, became: str) -> None:
        """Count a change."""
        self._changes[field[:_LONGEST_NAME], was, became] += 1

    def to_metadata(self, metadata: dict[Any, Any]) -> dict[str, Any]:
        """Return a JSON object; an error where the budget is used up."""
        return self._object(metadata, None, 0)

    def to_text(self, text: str, field: str) -> str:
        """Return a string that is Unicode."""
        self._spend(len(text))
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self.note(field, "a lone surrogate", "U+FFFD")
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _value(self, value: Any, field: str, depth: int) -> Any:
        # Counted before it is looked at, so that nesting costs as much as length.
        self._spend(_VALUE)
        if depth > MAX_DEPTH:
            raise _Unkept(f"nested more than {MAX_DEPTH} levels deep")
        if type(value) is Instance:
            value = self._stood_for(value, field)
        kind = type(value)
        if kind is str:
            return self.to_text(value, field)
        if kind is bool or value is None:
            return value
        if kind in _SCALARS:
            return self._scalar(value, field)
        if kind is dict:
            return self._object(value, field, depth)
        if kind in (list, tuple, set, frozenset):
            return self._list(value, field, depth)
        raise _Unkept("a class" if kind is Name else kind.__name__)

    def _object(self, value: dict[Any, Any], field: str | None, depth: int) -> dict[str, Any]:
        """Convert an object; without a field of its own, each key is one."""
        found: dict[str, Any] = {}
        for key, item in value.items():
            own = field if field is not None else f"{key!s:.{_LONGEST_NAME}}" if type(key) is str else "(key)"
            try:
                name = self._key(key, own)
                if name in found:
                    raise _Unkept(f"a second key that is {name!r:.40} as a string")
                found[name] = self._value(item, own, depth + 1)
            except _Unkept as error:
                self.note(own, str(error), DROPPED)
        return found

    def _list(self, value: Iterable[Any], field: str, depth: int) -> list[Any]:
        kind = type(value).__name__
        items = [self._value(item, field, depth + 1) for item in value]
        if kind == "list":
            return items
        self.note(field, kind, "list" if kind == "tuple" else "sorted list")
        # By their text, as what a set holds need not be comparable: each import gives the same order.
        return items if kind == "tuple" else sorted(items, key=repr)

    def _key(self, key: Any, field: str) -> str:
        if type(key) is str:
            return self.to_text(key, field)
        if type(key) in (int, float, bool) or key is None:
            self.note(field, f"a key of type {type(key).__name__}", "string")
            return _written(key)
        raise _Unkept(f"a key of type {type(key).__name__}")

    def _scalar(self, value: Any, field: str) -> Any:
        if type(value) is int:
            if -(1 << 63) <= value < 1 << 64:
                return value
            self.note(field, "an integer of more than 64 bits", "string")
            return _written(value)
        if type(value) is float:
            if math.isfinite(value):
                return value
            self.note(field, "NaN" if math.isnan(value) else "an infinite number", "null")
            return None
        self._spend(len(value))
        self.note(field, type(value).__name__, "base64 string")
        return base64.b64encode(value).decode()

    def _stood_for(self, value: Instance, field: str) -> Any:
        known = STANDS_FOR.get(value.made_by)
        if known is None:
            raise _Unkept(f"{value.made_by!s:.100}")
        try:
            found = known.read(value)
        except (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError):
            raise _Unkept(f"a {known.was} that makes no sense") from None
        if known.became:
            self.note(field, known.was, known.became)
        return found

    def _spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise InvalidInput(
                f"{self._where} holds the same long values so often that they come to many times its size; it was not "
                "imported"
            )


class _Unkept(Exception):
    """A value that nothing in JSON stands for; the message says what it is."""


def _written(number: Any) -> str:
    if isinstance(number, int) and number.bit_length() > _MOST_BITS:
        raise _Unkept(f"an integer of more than {_MOST_BITS} bits")
    return str(number)
