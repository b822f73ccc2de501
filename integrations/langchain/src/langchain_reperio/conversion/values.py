"""Values that JSON cannot keep, as what stands for them. One way: what comes back is what was written.

The same becomes of them when `reperio.importers.langchain_faiss` imports a folder, so that a document that is imported
and one that is added are equal. Converting what was converted changes nothing.

=====================================================  ==================================
value                                                  stored as
=====================================================  ==================================
datetime, date, time (pandas' and NumPy's too)         ISO 8601 string
timedelta                                              seconds
UUID, Decimal, path                                    string
tuple; set, frozenset                                  list; sorted list
an Enum's member                                       its value
NumPy scalar, array                                    Python's number or string, list
bytes                                                  base64 string
NaN, NaT, an infinite number                           null
an integer of more than 64 bits                        string
a key that is a number, boolean or None                string
=====================================================  ==================================

What is of no such type is left for the core to refuse, by its key.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import PurePath
from typing import Any
from uuid import UUID

import numpy as np
from reperio.errors import InvalidInput

_LEAST, _MOST = -(2**63), 2**64 - 1  # what the core keeps of integers
_DEEPEST = 100  # what is nested deeper, or holds itself, is left for the core to refuse


def _moment(value: datetime) -> str | None:
    return value.isoformat() if value == value else None  # pandas' NaT is a datetime


# The first that fits counts: a datetime is a date, too.
_WRITTEN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (datetime, _moment),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, timedelta.total_seconds),
    (UUID, str),
    (Decimal, str),
    (PurePath, str),
    (bytes, lambda value: base64.b64encode(value).decode()),
    (bytearray, lambda value: base64.b64encode(value).decode()),
)


def to_json(value: Any) -> Any:
    """Return *value* as JSON values; none of its lists and objects is shared with what is returned."""
    return _written(value, 0)


def to_operand(value: Any) -> Any:
    """Return a filter, or a part of one, with values as `to_json` stores them.

    NaN stays, for the core to refuse: null would match what has none.
    """
    if isinstance(value, Mapping):
        return {key: to_operand(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_operand(item) for item in value]
    written = to_json(value)
    return value if written is None else written


def _written(value: Any, depth: int) -> Any:
    if value is None or type(value) in (str, bool) or depth > _DEEPEST:
        return value
    if isinstance(value, enum.Enum):
        return _written(value.value, depth + 1)
    if isinstance(value, (np.generic, np.ndarray)):
        return _of_numpy(value, depth)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if _LEAST <= value <= _MOST else str(int(value))
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return _object(value, depth)
    if isinstance(value, (list, tuple)):
        return _several(value, depth)
    if isinstance(value, (set, frozenset)):
        # By their text: what a set holds need not be comparable, and each time gives the same order.
        return sorted(_several(value, depth), key=repr)
    return next((write(value) for kind, write in _WRITTEN if isinstance(value, kind)), value)


def _of_numpy(value: np.generic | np.ndarray[Any, Any], depth: int) -> Any:
    if isinstance(value, np.ndarray):
        return _several(list(value), depth) if value.ndim else _written(value[()], depth + 1)
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else float(value / np.timedelta64(1, "s"))
    plain = value.item()
    return value if isinstance(plain, np.generic) else _written(plain, depth + 1)  # a longdouble stays what it is


def _object(value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, item in value.items():
        name = _key(key)
        if name in found:
            raise InvalidInput(f"metadata has two keys that are {name!r:.80} as a string; rename one of them")
        found[name] = _written(item, depth + 1)
    return found


def _key(key: Any) -> Any:
    if type(key) is str:
        return key
    plain = _written(key, 0)
    return str(plain) if plain is None or isinstance(plain, (bool, int, float)) else plain


def _several(items: Iterable[Any], depth: int) -> list[Any]:
    return [_written(item, depth + 1) for item in items]
