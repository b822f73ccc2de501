"""What the columns of a table hold: text, numbers or booleans, by all of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z")  # up to 18 digits, which 64 bits hold
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.([0-9]+)([eE][+-]?[0-9]+)?\Z")
_DIGITS = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z")
_MOST_DIGITS = 15  # that a float keeps
_VERSIONS = re.compile(r"version|(?<![a-z])(?:v|ver|release|revision|rev|build)s?(?![a-z])")
"""Names of columns whose 3.10 is not 3.1."""

TYPES = ("text", "number", "boolean")
"""What a column may be said to hold."""


class Column:
    """What the values of a column have in common, value by value.

    A number stays one unless how it is written says more than its value: leading zeros, more digits than a number
    keeps, and versions, whose 3.10 comes after 3.9. Those are known by the column's name, and by decimals of different
    lengths of which one ends in zero: a price has as many in each row.

    Args:
        name: of the column.
    """

    def __init__(self, name: str) -> None:
        self._versions = _VERSIONS.search(name.lower()) is not None
        self._filled = False
        self._booleans = self._numbers = True
        self._reason = ""
        self._lengths: set[int] = set()  # of decimals
        self._padded = ""  # a decimal that ends in zero

    def add(self, value: str) -> None:
        """Look at a value; an empty one says nothing."""
        if not value or not (self._booleans or self._numbers):
            return
        self._filled = True
        self._booleans = self._booleans and value in _BOOLEANS
        if not self._numbers or _INTEGER.match(value):
            return
        decimal = _DECIMAL.match(value)
        if decimal is None and not _DIGITS.match(value):
            self._numbers = False
        elif decimal is None and value.lstrip("-").startswith("0"):
            self._reason = "leading zeros"
        elif decimal is None or sum(map(str.isdigit, value)) > _MOST_DIGITS or not math.isfinite(float(value)):
            self._reason = self._reason or "more digits than a number keeps"
        elif decimal[2] is None:
            self._lengths.add(len(decimal[1]))
            if decimal[1].endswith("0"):
                self._padded = value

    def found(self) -> tuple[str, str]:
        """Return one of `TYPES`, and of numbers that stay text the reason."""
        if not self._filled:
            return "text", ""
        if self._booleans:
            return "boolean", ""
        if not self._numbers:
            return "text", ""
        reason = self._reason
        if not reason and ((self._versions and self._lengths) or (self._padded and len(self._lengths) > 1)):
            reason = f"{self._padded} may be a version" if self._padded else "versions"
        return ("text", reason) if reason else ("number", "")


def reading_of(kind: str) -> Callable[[str], Any] | None:
    """Return what turns a field of a kind into its value, and raises `ValueError` where it is none; None for text."""
    return {"number": _to_number, "boolean": _to_boolean}.get(kind)


def _to_number(value: str) -> int | float:
    if _INTEGER.match(value):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _to_boolean(value: str) -> bool:
    if value not in _BOOLEANS:
        raise ValueError(value)
    return _BOOLEANS[value]


def told(kinds: Mapping[str, tuple[str, str]]) -> str:
    """Say which columns are no text, and which look like numbers and are; empty where there are none."""
    parts: list[str] = []
    for kind in ("number", "boolean"):
        names = [repr(name) for name, (found, _) in kinds.items() if found == kind]
        if names:
            parts.append(f"{'' if parts else 'has columns '}of {kind}s: {', '.join(names)}")
    kept = [f"{name!r} ({reason})" for name, (_, reason) in kinds.items() if reason]
    if kept:
        parts.append(f"keeps as text: {', '.join(kept)}; to change that, pass types= (--column-types)")
    return "; ".join(parts)
