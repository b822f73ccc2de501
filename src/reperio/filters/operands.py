"""Check, bound and freeze the operands of a filter."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from reperio.errors import InvalidInput
from reperio.filters.patterns import wild

MAX_VALUES = 10_000  # values in all lists of one filter together
MAX_PATTERN = 1000  # characters of a pattern, or of a text to be found inside another
MAX_STRING = 65_536  # characters of one string
MAX_CHARACTERS = 1_000_000  # characters of all strings of one filter together
# Characters, in all patterns of one filter, of parts between two % that have a _ between others: each is compared with
# each character of a text, while other parts are found in time that does not depend on their length.
MAX_WILD = 1000
MAX_NESTING = 8  # levels of lists and objects inside one value
_MAX_BITS = 1024  # the largest float is below 2**1024: a longer integer is no number that was ever stored
_HASHED_APART = 2**60  # smaller integers are their own hashes, and of smaller floats only some hundred share one
_NUMPY_TYPES = "?bBhHiIlLqQefdU"  # those whose `tolist` gives Python's own


class Operator(str, enum.Enum):
    """The operators of conditions; docs/filters.md has the table. A member equals its string."""

    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"
    BETWEEN = "$between"
    IN = "$in"
    NIN = "$nin"
    ANY = "$any"
    ALL = "$all"
    CONTAINS = "$contains"
    LIKE = "$like"
    ILIKE = "$ilike"
    TEXT_MATCH = "$text_match"
    TEXT_MATCH_INSENSITIVE = "$text_match_insensitive"
    EXISTS = "$exists"
    IS_EMPTY = "$is_empty"


# A JSON value as something hashable: two keys are equal exactly when the values are.
Key: TypeAlias = "int | float | str | tuple[Any, ...] | None"


class LargeNumber(NamedTuple):
    """The key of a number from 2**60 on: a text, whose hash nobody can foresee.

    Python's hash of an integer is its remainder by 2**61 - 1: 10,000 multiples of that would be compared each with
    each by a set, for seconds.
    """

    digits: str


class Operand(NamedTuple):
    """A checked operand."""

    value: Any  # plain and immutable: lists as tuples, objects as mapping proxies
    key: Any  # what makes two conditions the same; a set of keys where the order does not matter
    values: int  # how many of `MAX_VALUES` it takes
    characters: int  # how many of `MAX_CHARACTERS` it takes
    wild: int = 0  # how many of `MAX_WILD` it takes


_FALSE, _TRUE = ("bool", False), ("bool", True)


def to_key(value: Any) -> Key:
    """Return the key of a JSON value: ``true`` is not 1, 1 is 1.0, the order of an object's keys does not matter."""
    kind = type(value)
    if kind is str or value is None:
        return value  # type: ignore[no-any-return]  # one of those just named
    if kind is int or kind is float:
        return value if -_HASHED_APART < value < _HASHED_APART else _large_key(value)
    if isinstance(value, bool):  # Python holds True == 1 for true
        return _TRUE if value else _FALSE
    if isinstance(value, (list, tuple)):
        return ("list", *map(to_key, value))
    if isinstance(value, Mapping):
        return ("object", frozenset((key, to_key(item)) for key, item in value.items()))
    if isinstance(value, (str, int, float)):
        return value if isinstance(value, str) else to_key(int(value) if isinstance(value, int) else float(value))
    raise InvalidInput(f"metadata holds a {kind.__name__}, which JSON cannot keep")


def number_of(key: Key) -> int | float | None:
    """Return the number that a key stands for; None where it stands for none."""
    if isinstance(key, LargeNumber):
        return int(key.digits, 16)
    return key if type(key) is int or type(key) is float else None


def _large_key(number: float) -> Key:
    return LargeNumber(hex(int(number))) if isinstance(number, int) or isfinite(number) else number


def to_operand(operator: Operator, value: Any, what: str) -> Operand:
    """Check what a user's condition compares with; *what* names it in messages, e.g. ``where 'year' $gte``."""
    return _CHECKS[operator](value, what)


def is_several(value: Any) -> bool:
    """Say whether this is a list of values, for an operator that takes one."""
    return isinstance(value, (list, tuple, set, frozenset)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def plain_string(value: Any, what: str, longest: int = MAX_STRING) -> str:
    """Return an exact ``str``; refuse what is none, what is too long, and what is no Unicode."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is a {type(value).__name__}; it must be a string")
    text = str.__str__(value)  # of a subclass, the characters, whatever it says of itself
    if len(text) > longest:
        raise InvalidInput(f"{what} has {len(text):,} characters; at most {longest:,} are allowed")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(f"{what} holds a lone surrogate, which no stored text can hold")
    return text


def _plain(value: Any, what: str, depth: int = 0) -> Any:
    """Return *value* as immutable plain Python, of exact types."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return plain_string(value, what)
    if isinstance(value, (int, float)):
        return _number(value, what)
    if depth == MAX_NESTING:
        raise InvalidInput(f"{what} is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.char in _NUMPY_TYPES:
        return _plain(value.tolist(), what, depth + 1)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, what, depth + 1) for item in _bounded(value, what))
    if isinstance(value, Mapping):
        keys = _bounded(value, what)
        return MappingProxyType(
            {plain_string(key, f"a key of {what}"): _plain(value[key], what, depth + 1) for key in keys}
        )
    raise InvalidInput(
        f"{what} is a {type(value).__name__}; metadata holds strings, numbers, booleans, None, lists and dicts (a date "
        "is best stored and compared as an ISO 8601 string, or as seconds)"
    )


def _number(value: float, what: str) -> int | float:
    if isinstance(value, int):
        whole = int.__int__(value)
        if whole.bit_length() > _MAX_BITS:
            raise InvalidInput(f"{what} is an integer of {whole.bit_length():,} bits; at most {_MAX_BITS} are allowed")
        return whole
    real = float.__float__(value)
    if not isfinite(real):
        raise InvalidInput(f"{what} is {real}; JSON holds finite numbers only, so that nothing could match")
    return real


def _bounded(values: Iterable[Any], what: str) -> tuple[Any, ...]:
    found = tuple(islice(iter(values), MAX_VALUES + 1))
    if len(found) > MAX_VALUES:
        raise InvalidInput(
            f"{what} has more than {MAX_VALUES:,} values; split the filter, or store a field that groups"
        )
    return found


def _weigh(value: Any) -> tuple[int, int]:
    """Return how many values and characters a plain value has."""
    if isinstance(value, str):
        return 1, len(value)
    if isinstance(value, tuple):
        parts = [_weigh(item) for item in value]
    elif isinstance(value, Mapping):
        parts = [_weigh(item) for pair in value.items() for item in pair]
    else:
        return 1, 0
    return 1 + sum(count for count, _ in parts), sum(characters for _, characters in parts)


def _any_value(value: Any, what: str) -> Operand:
    plain = _plain(value, what)
    return Operand(plain, to_key(plain), *_weigh(plain))


def _some_values(value: Any, what: str) -> Operand:
    if not is_several(value):
        raise InvalidInput(f"{what} is {_short(value)}; it must be a list of values")
    plain = tuple(_plain(item, what) for item in _bounded(value, what))
    values, characters = _weigh(plain)
    return Operand(plain, frozenset(map(to_key, plain)), values - 1, characters)


def _orderable(value: Any, what: str) -> Operand:
    plain = _plain(value, what)
    if isinstance(plain, bool) or not isinstance(plain, (int, float, str)):
        raise InvalidInput(f"{what} is {_short(value)}; only numbers and strings have an order")
    return Operand(plain, plain, *_weigh(plain))


def _bounds(value: Any, what: str) -> Operand:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InvalidInput(f"{what} is {_short(value)}; it must be a list of two: the least and the greatest value")
    low, high = (_orderable(bound, what) for bound in value)
    if isinstance(low.value, str) != isinstance(high.value, str):
        raise InvalidInput(f"{what} is {_short(value)}; both bounds must be numbers, or both strings")
    both = (low.value, high.value)
    return Operand(both, both, 2, low.characters + high.characters)


def _text(value: Any, what: str) -> Operand:
    plain = plain_string(value, what, MAX_PATTERN)
    return Operand(plain, plain, 1, len(plain))


def _pattern(value: Any, what: str) -> Operand:
    operand = _text(value, what)
    if (len(operand.value) - len(operand.value.rstrip("\\"))) % 2:
        raise InvalidInput(f"{what} ends in a backslash that escapes nothing; write two for one")
    return operand._replace(wild=wild(operand.value))


def _flag(value: Any, what: str) -> Operand:
    if not isinstance(value, bool):
        raise InvalidInput(f"{what} is {_short(value)}; it must be True or False")
    return Operand(value, value, 1, 0)


def _short(value: Any) -> str:
    if isinstance(value, (str, int, float, bool)) or value is None:
        return f"{value!r:.60}" if not isinstance(value, str) else repr(str.__str__(value)[:60])
    return f"a {type(value).__name__}"


_CHECKS: dict[Operator, Callable[[Any, str], Operand]] = {
    **dict.fromkeys((Operator.EQ, Operator.NE, Operator.CONTAINS), _any_value),
    **dict.fromkeys((Operator.GT, Operator.GTE, Operator.LT, Operator.LTE), _orderable),
    **dict.fromkeys((Operator.IN, Operator.NIN, Operator.ANY, Operator.ALL), _some_values),
    **dict.fromkeys((Operator.LIKE, Operator.ILIKE), _pattern),
    **dict.fromkeys((Operator.TEXT_MATCH, Operator.TEXT_MATCH_INSENSITIVE), _text),
    **dict.fromkeys((Operator.EXISTS, Operator.IS_EMPTY), _flag),
    Operator.BETWEEN: _bounds,
}
