"""JSON that comes back as it was: what would be changed on the way is refused, and the part that is to blame named."""

from __future__ import annotations

from math import isfinite
from reprlib import Repr
from typing import Any

import numpy as np
import orjson

_PLAIN = {str, int, bool, type(None)}  # of exactly these types orjson refuses what it cannot keep

_NUMPY_SCALARS = "?bBhHiIlLqQefd"  # those whose `item` is Python's own, and equal

_SHORT = Repr()  # of what is deep, or long, a message shows the beginning
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


class NotKept(Exception):
    """A value that JSON cannot keep as it is. Internal: the message continues the name of the value."""


def encode_object(value: dict[Any, Any]) -> str:
    """Return a metadata object as JSON text; quick for the common case of few plain values.

    Raises:
        NotKept: some part of it would not come back equal.
    """
    try:
        encoded = orjson.dumps(value, default=_of_numpy)
    except (TypeError, RecursionError) as error:
        raise _complaint(value, str(error)) from None
    # `_plain` in place: its calls, and a set of all types first, took half the time of encoding eight values.
    for part in value.values():
        kind = type(part)
        if kind in _PLAIN or (kind is float and isfinite(part)):
            continue
        if kind is not list or not _PLAIN.issuperset(map(type, part)):
            return _compared(value, encoded)
    return encoded.decode()


def encode(value: Any) -> str:
    """Return any JSON value as text.

    Raises:
        NotKept: some part of it would not come back equal.
    """
    try:
        encoded = orjson.dumps(value, default=_of_numpy)
    except (TypeError, RecursionError) as error:
        raise _complaint(value, str(error)) from None
    return encoded.decode() if _plain(value) else _compared(value, encoded)


def _of_numpy(value: Any) -> Any:
    """Return the number that a numpy scalar is, exactly: filters take them, and columns of data frames hold them."""
    if isinstance(value, np.generic) and value.dtype.char in _NUMPY_SCALARS:
        return value.item()
    raise TypeError(f"type is not JSON serializable: {type(value).__name__}")


def _compared(value: Any, encoded: bytes) -> str:
    # What does not come back equal (a tuple, a datetime, NaN) would be changed silently.
    try:
        if orjson.loads(encoded) == value:
            return encoded.decode()
    except RecursionError as error:
        raise _complaint(value, str(error)) from None
    raise _complaint(value, "a value that JSON would change")


def _plain(value: Any) -> bool:
    """Say whether a value surely comes back from JSON as it is; False when only trying tells."""
    kind = type(value)
    if kind is list:
        return _PLAIN.issuperset(map(type, value))
    return kind in _PLAIN or (kind is float and isfinite(value))


def _complaint(value: Any, reason: str) -> NotKept:
    path, part = _offender(value)
    return NotKept(
        f"{path} is {_SHORT.repr(part)} ({type(part).__name__}), which JSON cannot keep as it is ({reason}); store "
        "strings, finite numbers up to 64 bits, booleans, None, lists and dicts with string keys"
    )


def _offender(value: Any, path: str = "", depth: int = 0) -> tuple[str, Any]:
    """Find the innermost part that is to blame."""
    if depth < 50:
        children: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            strange = next((key for key in value if not isinstance(key, str)), None)
            if strange is not None:
                return f"{path} key", strange
            children = [(f"[{key!r:.60}]", item) for key, item in value.items()]
        elif isinstance(value, list):
            children = [(f"[{i}]", item) for i, item in enumerate(value)]
        for step, item in children:
            try:
                intact = bool(orjson.loads(orjson.dumps(item, default=_of_numpy)) == item)
            except (TypeError, ValueError, RecursionError):  # an array compares with nothing at once
                intact = False
            if not intact:
                return _offender(item, path + step, depth + 1)
    return path, value
