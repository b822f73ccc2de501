"""Read objects of the standard library and NumPy in a pickle from their arguments, without making them.

Every function here takes an `Instance`, and raises ValueError, TypeError, IndexError, KeyError, AttributeError or
OverflowError when it does not hold what its class would have taken.
"""

from __future__ import annotations

import datetime
import re
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from reperio.importers.pickles import Instance, Name, to_keys


class StandIn(NamedTuple):
    """The conversion of a class of values to plain data."""

    was: str  # the class, in words
    became: str  # what stands for it, in words; empty where that is as good as the value itself
    read: Callable[[Instance], Any]  # an instance to plain data


def _date(value: Instance) -> datetime.date:
    high, low, month, day = _bytes(value, 4)
    return datetime.date(high << 8 | low, month, day)


def _datetime(value: Instance) -> datetime.datetime:
    high, low, month, day, *time = _bytes(value, 10)
    date = datetime.date(high << 8 | low, month & 127, day)
    return datetime.datetime.combine(date, _clock(time, value, fold=month >> 7))


def _time(value: Instance) -> datetime.time:
    hour, *rest = _bytes(value, 6)
    return _clock([hour & 127, *rest], value, fold=hour >> 7)


def _clock(time: list[int], value: Instance, *, fold: int) -> datetime.time:
    hour, minute, second, *micro = time
    zone = _zone(value.arguments[1]) if len(value.arguments) > 1 else None
    return datetime.time(hour, minute, second, int.from_bytes(bytes(micro), "big"), zone, fold=fold)


def _zone(value: Any) -> datetime.tzinfo | None:
    if value is None:
        return None
    name = value.made_by.name
    if name == "timezone":
        return datetime.timezone(_timedelta(value.arguments[0]))
    if name.startswith("ZoneInfo"):
        try:
            return zoneinfo.ZoneInfo(_plain_text(value.arguments[0]))
        except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
            raise ValueError("unknown zone") from error
    raise ValueError("no zone")


def _timedelta(value: Any) -> datetime.timedelta:
    days, seconds, micro = value.arguments
    if any(type(part) is not int or part.bit_length() > 64 for part in (days, seconds, micro)):
        raise ValueError("no duration")
    return datetime.timedelta(days, seconds, micro)


def _uuid(value: Instance) -> str:
    return str(uuid.UUID(int=value.state["int"]))  # refuses what has more than 128 bits before it is written


def _path(value: Instance) -> str:
    kind = PureWindowsPath if "Windows" in value.made_by.name else PurePosixPath
    parts = [_plain_text(part) for part in value.arguments]
    if sum(map(len, parts)) > _LONGEST_PATH:  # each may be the same long one
        raise ValueError("no path")
    return str(kind(*parts))


def _number(value: Instance) -> Any:
    """Read a NumPy scalar: a dtype and its bytes."""
    dtype, content = value.arguments
    code, order = dtype.arguments[0], dtype.state[1]
    if not re.fullmatch(r"[iu][1248]|f[248]|b1|U\d{1,6}", code) or order not in "<>|=" or type(content) is not bytes:
        raise ValueError("no scalar")
    [found] = np.frombuffer(content, np.dtype(order + code))
    return found.item()


def _bytes(value: Instance, length: int) -> bytes:
    content = value.arguments[0]
    if type(content) is not bytes or len(content) != length:
        raise ValueError("no moment")
    return content


def _plain_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("no text")
    return value


_LONGEST_PATH = 65_536
_ISO = "ISO 8601 string"
STANDS_FOR: dict[Name, StandIn] = {
    Name("datetime", "datetime"): StandIn("datetime", _ISO, lambda value: _datetime(value).isoformat()),
    Name("datetime", "date"): StandIn("date", _ISO, lambda value: _date(value).isoformat()),
    Name("datetime", "time"): StandIn("time", _ISO, lambda value: _time(value).isoformat()),
    Name("datetime", "timedelta"): StandIn("timedelta", "seconds", lambda value: _timedelta(value).total_seconds()),
    Name("uuid", "UUID"): StandIn("UUID", "string", _uuid),
    Name("decimal", "Decimal"): StandIn("Decimal", "string", lambda value: _plain_text(value.arguments[0])),
    Name("collections", "OrderedDict"): StandIn("OrderedDict", "", lambda value: _ordered(value.items)),
    Name("builtins", "set"): StandIn("set", "", lambda value: _distinct(*value.arguments)),
    Name("builtins", "frozenset"): StandIn("frozenset", "", lambda value: _distinct(*value.arguments)),
    Name("builtins", "bytearray"): StandIn("bytearray", "", lambda value: _byte_string(*value.arguments)),
    **{
        Name(module, kind): StandIn("path", "string", _path)
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
    **{
        Name(module, "scalar"): StandIn("NumPy scalar", "Python's own", _number)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    },
}
_PARTS = (Name("datetime", "timezone"), Name("zoneinfo", "ZoneInfo._unpickle"), Name("numpy", "dtype"))
PLAIN_NAMES = frozenset(STANDS_FOR) | frozenset(_PARTS)
"""The names of values that are expected in metadata: those that something stands for, and their parts."""


def _ordered(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return dict(zip(to_keys([key for key, _ in items]), (value for _, value in items), strict=True))


def _distinct(items: Any = ()) -> set[Any]:
    return set(to_keys(items)) if type(items) is list else _refuse()


def _byte_string(content: Any = b"") -> bytes:
    return content if type(content) is bytes else _refuse()


def _refuse() -> Any:
    raise ValueError("no elements")
