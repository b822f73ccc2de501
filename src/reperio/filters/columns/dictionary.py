"""The distinct values of one metadata field, numbered, and which of them satisfy a condition.

A predicate is evaluated once per distinct value: numbers and the order of numbers vectorised, equality of strings by
look-up, patterns one by one. The answer is a table by code, which `columns` spreads over the rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.filters import Condition, Operator
from reperio.filters.matching import CASELESS, NEGATIONS, ORDER, equal_keys, folded_test, is_empty, order_test
from reperio.filters.operands import Key, number_of, to_key
from reperio.filters.patterns import fold

Bools: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.int32]

NONE = 0  # the code of a row without the field
# Distinct values beyond which a number is entered again each time: a dictionary of floats is ten times their size.
REMEMBERED_NUMBERS = 65_536
_EXACT = 2**53  # up to here every integer is a float64 of its own
_ENTRY = 120  # bytes of a dictionary entry with its code, its place in a list, and their spare room
_EQUALITIES = (Operator.EQ, Operator.IN, *NEGATIONS)
_TEXT_OPERATORS = (Operator.LIKE, Operator.ILIKE, Operator.TEXT_MATCH, Operator.TEXT_MATCH_INSENSITIVE)


class Growing:
    """A one-dimensional array that grows at its end; a view taken before stays what it was."""

    __slots__ = ("_array", "_length", "_pending", "append", "append_all")

    def __init__(self, dtype: type[np.int32 | np.float64]) -> None:
        self._array: npt.NDArray[Any] = np.empty(16, dtype=dtype)
        self._length = 0
        self._pending: list[float] = []  # writing one value into an array costs ten times what a list asks
        self.append = self._pending.append
        self.append_all = self._pending.extend

    def __len__(self) -> int:
        return self._length + len(self._pending)

    @property
    def view(self) -> npt.NDArray[Any]:
        """The values so far."""
        self.settle()
        return self._array[: self._length]

    @property
    def nbytes(self) -> int:
        """Bytes taken, spare room included."""
        return self._array.nbytes

    def settle(self) -> None:
        """Move what `append` left pending into the array."""
        if self._pending:
            self.extend(())

    def extend(self, values: Sequence[float] | npt.NDArray[Any]) -> None:
        """Append *values*."""
        if self._pending:
            values = [*self._pending, *values]
            self._pending.clear()
        length = self._length + len(values)
        if length > len(self._array):
            grown = np.empty(length + length // 8, dtype=self._array.dtype)
            grown[: self._length] = self._array[: self._length]
            self._array = grown
        self._array[self._length : length] = values
        self._length = length


class Dictionary:
    """Values with their codes, from 1 in the order of arrival. Not for two threads at once.

    Args:
        elements: of the lists' elements, which need no elements of their own, and of which none is entered twice.
    """

    def __init__(self, *, elements: bool = False) -> None:
        self.nbytes = 0
        self._codes: dict[Key, int] = {}
        self._count = 1  # code 0 is that of no value
        self._strings: list[str] = []
        self._folded: list[str] = []  # of the first strings, where a condition that ignores case has asked for them
        self._string_codes = Growing(np.int32)
        self._floats = Growing(np.float64)
        self._float_codes = Growing(np.int32)
        self._repeats = False  # a number may have several codes
        self._large: list[int] = []  # integers that float64 would round
        self._large_codes = Growing(np.int32)
        self._empty_codes = Growing(np.int32)
        # A list's elements: the list's own code, and the element's code in another dictionary. Sorted by the former.
        self._owners = Growing(np.int32)
        self._element_codes = Growing(np.int32)
        self._elements = None if elements else Dictionary(elements=True)
        self._list_codes = Growing(np.int32)

    def __len__(self) -> int:
        """Return the number of codes, that of no value included."""
        return self._count

    def encode(self, values: Iterable[Any]) -> list[int]:
        """Return the code of each JSON value; a new one gets the next."""
        codes = [self._encode(value) for value in values]
        self._settle()
        return codes

    def _settle(self) -> None:
        """Move what is pending into the arrays: as Python objects it takes five times the room."""
        for array in (self._string_codes, self._floats, self._float_codes, self._owners, self._element_codes):
            array.settle()
        if self._elements is not None:
            self._elements._settle()

    def _encode(self, value: Any) -> int:
        key = to_key(value)
        known = self._codes.get(key)
        if known is not None:
            return known
        code, self._count = self._count, self._count + 1
        number = type(value) is float or (type(value) is int and -_EXACT <= value <= _EXACT)
        if number and self._elements is not None and len(self._codes) >= REMEMBERED_NUMBERS:
            self._repeats = True
        else:
            self._codes[key] = code
            self.nbytes += _ENTRY + _size_of(key)
        if number:
            self._floats.append(value)
            self._float_codes.append(code)
            self.nbytes += 12
        else:
            self._enter(value, code)
        return code

    def _enter(self, value: Any, code: int) -> None:
        if isinstance(value, str):
            self._strings.append(value)
            self._string_codes.append(code)
        elif type(value) is int:
            self._large.append(value)
            self._large_codes.append(code)
        if is_empty(value):
            self._empty_codes.append(code)
        if isinstance(value, list) and self._elements is not None:
            self._list_codes.append(code)
            before = self._elements.nbytes
            found = [self._elements._encode(element) for element in value]
            self._element_codes.append_all(found)
            self._owners.append_all([code] * len(found))
            self.nbytes += 70 + 8 * len(found) + self._elements.nbytes - before

    def table(self, condition: Condition, among: Codes | None = None) -> Bools:
        """Say of each code whether its value, or a row without the field, satisfies *condition*.

        Args:
            condition: the whole of it, a negation included.
            among: the codes that matter, in order; what is said of others is undefined. None for all.
        """
        asked = condition.operator
        table = np.zeros(self._count, dtype=np.bool_)
        if asked is Operator.EXISTS:
            table[1:] = True
            return table if condition.value else ~table
        if asked is Operator.IS_EMPTY:
            table[NONE] = True
            table[self._empty_codes.view] = True
            return table if condition.value else ~table
        if asked in (Operator.ANY, Operator.ALL, Operator.CONTAINS):
            self._mark_containing(condition, table, among)
        else:
            self._mark_values(condition, table, among)
            self._mark_lists(condition, table, among)
        return ~table if asked in NEGATIONS else table

    def _mark_values(self, condition: Condition, table: Bools, among: Codes | None) -> None:
        """Mark what satisfies the condition itself, not by an element; what equals it, for a negation."""
        asked = condition.operator
        if asked in _EQUALITIES:
            self._mark_equal(equal_keys(condition), table, among)
        elif asked in _TEXT_OPERATORS:
            self._mark_texts(condition, table, among)
        elif isinstance(condition.value[0] if asked is Operator.BETWEEN else condition.value, str):
            self._mark_each(self._strings, self._string_codes.view, order_test(condition), table, among)
        else:
            self._mark_floats(lambda floats: _in_order(condition, floats), table, among)
            self._mark_each(self._large, self._large_codes.view, order_test(condition), table, among)

    def _mark_equal(self, wanted: frozenset[Any], table: Bools, among: Codes | None) -> None:
        table[[code for code in map(self._codes.get, wanted) if code is not None]] = True
        if self._repeats:
            exact = [number for number in map(number_of, wanted) if number is not None]
            numbers = [_nearest(number) for number in exact if _nearest(number) == number]
            self._mark_floats(lambda floats: np.isin(floats, numbers), table, among)

    def _mark_floats(self, test: Callable[[npt.NDArray[np.float64]], Bools], table: Bools, among: Codes | None) -> None:
        codes, floats = self._float_codes.view, self._floats.view
        if among is not None:
            places = _find(codes, among)
            codes, floats = codes[places], floats[places]
        _mark(table, codes, test(floats))

    def _mark_each(
        self, values: list[Any], codes: Codes, test: Callable[[Any], bool], table: Bools, among: Codes | None
    ) -> None:
        if among is not None:
            places = _find(codes, among)
            codes, values = codes[places], [values[place] for place in places.tolist()]
        _mark(table, codes, list(map(test, values)))

    def _mark_texts(self, condition: Condition, table: Bools, among: Codes | None) -> None:
        strings = self._folded_strings() if condition.operator in CASELESS else self._strings
        self._mark_each(strings, self._string_codes.view, folded_test(condition), table, among)

    def _folded_strings(self) -> list[str]:
        """Return the strings folded: once, and not for each condition, of which a filter may have 255."""
        for text in self._strings[len(self._folded) :]:
            folded = fold(text)
            self._folded.append(text if folded == text else folded)
            self.nbytes += 8 if folded == text else 8 + sys.getsizeof(folded)
        return self._folded

    def _mark_lists(self, condition: Condition, table: Bools, among: Codes | None) -> None:
        if self._elements is None or not len(self._owners):
            return
        owners, elements = self._pairs(among)
        hits = np.zeros(len(self._elements), dtype=np.bool_)
        self._elements._mark_values(condition, hits, None if among is None else np.unique(elements))
        table[owners[hits[elements]]] = True

    def _mark_containing(self, condition: Condition, table: Bools, among: Codes | None) -> None:
        if condition.operator is Operator.CONTAINS and isinstance(condition.value, str):
            self._mark_texts(condition, table, among)
        assert self._elements is not None
        wanted = equal_keys(condition)
        owners, elements = self._pairs(among)
        hits = np.zeros(len(self._elements), dtype=np.bool_)
        self._elements._mark_equal(wanted, hits, None)
        found = hits[elements]
        if condition.operator is not Operator.ALL:
            table[owners[found]] = True
            return
        # Every wanted value is one element code, so that a list has them all when it has that many different ones.
        pairs = np.unique(owners[found].astype(np.int64) << 32 | elements[found])
        counts = np.bincount(pairs >> 32, minlength=self._count)
        lists = self._list_codes.view
        table[lists] = counts[lists] == len(wanted)

    def _pairs(self, among: Codes | None) -> tuple[Codes, Codes]:
        """Return (code of the list, code of the element) for all lists' elements, or those of lists in *among*."""
        owners, elements = self._owners.view, self._element_codes.view
        if among is None:
            return owners, elements
        starts, ends = np.searchsorted(owners, among, "left"), np.searchsorted(owners, among, "right")
        parts = [
            np.arange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end
        ]
        places = np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)
        return owners[places], elements[places]


def _size_of(key: Any) -> int:
    """Return about how many bytes a key takes, its parts included."""
    parts = sum(map(_size_of, key)) if isinstance(key, (tuple, frozenset)) else 0
    return sys.getsizeof(key) + parts


def _find(codes: Codes, among: Codes) -> npt.NDArray[np.intp]:
    """Return the places in *codes*, which are sorted, that hold one of *among*."""
    places = np.searchsorted(codes, among)
    inside = places < len(codes)
    places = places[inside]
    found: npt.NDArray[np.intp] = places[codes[places] == among[inside]]
    return found


def _mark(table: Bools, codes: Codes, hits: Bools | list[bool]) -> None:
    if len(codes) == len(table) - 1:  # one kind of value only, so the codes are 1, 2, 3, …
        table[1:] |= np.asarray(hits, dtype=np.bool_)
    else:
        table[codes[np.asarray(hits, dtype=np.bool_)]] = True


def _nearest(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return np.inf if number > 0 else -np.inf


def _in_order(condition: Condition, floats: npt.NDArray[np.float64]) -> Bools:
    if condition.operator is not Operator.BETWEEN:
        return _compare(condition.operator, floats, condition.value)
    low, high = condition.value
    return _compare(Operator.GTE, floats, low) & _compare(Operator.LTE, floats, high)


def _compare(asked: Operator, floats: npt.NDArray[np.float64], wanted: float) -> Bools:
    """Compare exactly, whatever integer is wanted: no float lies between it and the nearest one."""
    near = _nearest(wanted)
    if asked is Operator.GT and near > wanted:
        asked = Operator.GTE
    elif asked is Operator.GTE and near < wanted:
        asked = Operator.GT
    elif asked is Operator.LT and near < wanted:
        asked = Operator.LTE
    elif asked is Operator.LTE and near > wanted:
        asked = Operator.LT
    hits: Bools = ORDER[asked](floats, near)
    return hits
