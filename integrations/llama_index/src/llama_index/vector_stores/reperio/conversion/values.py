"""Values that JSON cannot keep: written as what it can, with a note of what they were, so that they come back whole.

A datetime becomes its ISO 8601 string, which filters compare in the order of time (within one time zone). The notes are
(path, kind) pairs, inner ones first. Rejected: tagging the value itself (``{"$date": …}``), as filters would then not
see a string; pickling, which executes.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

Note: TypeAlias = list[Any]
"""``[path, kind]``: where in the JSON value, as a list of keys and positions, and what was there."""

_LEAST, _MOST = -(2**63), 2**64 - 1  # what the core keeps of integers

# By exact type: a subclass (pandas' Timestamp) would come back as something else, and is left for the core to refuse.
_WRITTEN: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", timedelta.total_seconds),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    PosixPath: ("path", str),
    WindowsPath: ("path", str),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode()),
}

_READ: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda seconds: timedelta(seconds=seconds),
    "decimal": Decimal,
    "uuid": UUID,
    "path": Path,
    "bytes": base64.b64decode,
    "int": int,
    "nan": lambda _: float("nan"),
    "inf": lambda _: float("inf"),
    "-inf": lambda _: float("-inf"),
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def to_json(value: Any) -> tuple[Any, list[Note]]:
    """Return *value* as JSON values, none of them shared with it, and notes for `from_json`.

    Enumeration members become their values, NumPy's scalars Python's, its arrays lists, and stay so. What is of no
    known type stays as it is, for the core to refuse by name.
    """
    notes: list[Note] = []
    return _written(value, [], notes), notes


def from_json(value: Any, notes: list[Note]) -> Any:
    """Undo `to_json`; *value* is changed in place where it is a list or dict."""
    for path, kind in notes:
        value = _restored(value, path, _READ[kind])
    return value


def _written(value: Any, path: list[str | int], notes: list[Note]) -> Any:
    if value is None or type(value) in (str, bool):
        return value
    if isinstance(value, enum.Enum):
        return _written(value.value, path, notes)
    if isinstance(value, (np.generic, np.ndarray)):
        return _of_numpy(value, path, notes)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)):
        return _number(value, path, notes)
    if isinstance(value, Mapping):
        return _mapping(value, path, notes)
    if isinstance(value, (list, tuple)):
        return _several(value, "tuple" if isinstance(value, tuple) else None, path, notes)
    if isinstance(value, (set, frozenset)):
        # In a fixed order, so that an unchanged node is recognised as unchanged.
        return _several(sorted(value, key=repr), "set" if isinstance(value, set) else "frozenset", path, notes)
    if type(value) in _WRITTEN:
        kind, write = _WRITTEN[type(value)]
        notes.append([path, kind])
        return write(value)
    return value


def _of_numpy(value: np.generic | np.ndarray[Any, Any], path: list[str | int], notes: list[Note]) -> Any:
    if isinstance(value, np.ndarray):
        return _several(list(value), None, path, notes) if value.ndim else _written(value[()], path, notes)
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else float(value / np.timedelta64(1, "s"))
    plain = value.item()
    return value if isinstance(plain, np.generic) else _written(plain, path, notes)  # a longdouble stays what it is


def _number(value: float, path: list[str | int], notes: list[Note]) -> Any:
    if isinstance(value, int):
        if _LEAST <= value <= _MOST:
            return int(value)
        notes.append([path, "int"])
        return str(int(value))
    if isfinite(value):
        return float(value)
    notes.append([path, str(float(value))])  # nan, inf, -inf; stored as null, which no comparison matches
    return None


def _mapping(value: Mapping[Any, Any], path: list[str | int], notes: list[Note]) -> Any:
    if all(isinstance(key, str) for key in value):
        return {str.__str__(key): _written(item, [*path, key], notes) for key, item in value.items()}
    return _several([list(pair) for pair in value.items()], "dict", path, notes)


def _several(items: Any, kind: str | None, path: list[str | int], notes: list[Note]) -> list[Any]:
    written = [_written(item, [*path, place], notes) for place, item in enumerate(items)]
    if kind is not None:
        notes.append([path, kind])
    return written


def _restored(value: Any, path: list[str | int], read: Callable[[Any], Any]) -> Any:
    if not path:
        return read(value)
    value[path[0]] = _restored(value[path[0]], path[1:], read)
    return value
