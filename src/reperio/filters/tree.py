"""The filter tree: immutable, hashable, and within its limits however it was made.

Two filters that say the same in another order are equal, so that what is remembered of one serves the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reperio.arguments import did_you_mean
from reperio.errors import InvalidInput
from reperio.filters.operands import MAX_CHARACTERS, MAX_VALUES, MAX_WILD, Operator, plain_string, to_operand

MAX_DEPTH = 8  # levels of a tree; a single condition has one
MAX_NODES = 256  # conditions, ands, ors and nots of a tree together
MAX_STEPS = 16  # keys in one path
MAX_KEY = 1000  # characters of one key in a path
ALIASES = {"$neq": Operator.NE}
LOGICAL = ("$and", "$or", "$not")


class Size(NamedTuple):
    """The share of the limits that a tree takes up."""

    depth: int
    nodes: int
    values: int
    characters: int
    wild: int

    @property
    def bytes(self) -> int:
        """About how many bytes the tree takes: what remembers trees has a limit of bytes."""
        return 1000 * self.nodes + 100 * self.values + 4 * self.characters


class Filter:
    """A condition, or several combined: ``a & b``, ``a | b``, ``~a``."""

    __slots__ = ()
    size: Size

    def __and__(self, other: Filter) -> Filter:
        return all_of([self, other])

    def __or__(self, other: Filter) -> Filter:
        return any_of([self, other])

    def __invert__(self) -> Filter:
        return self.child if isinstance(self, Not) else Not(self)

    def __bool__(self) -> bool:
        # `a and b` would silently be b, and `1 < field("x") < 5` its second half.
        raise InvalidInput("a filter is neither true nor false; combine filters with &, | and ~")


@dataclass(frozen=True, slots=True)
class Condition(Filter):
    """A condition on one field.

    Args:
        path: the field's key; more than one for a field of a nested object.
        operator: an `Operator` or its string.
        value: what it compares with. Kept as it is except for its type: lists become tuples.

    Raises:
        InvalidInput: unknown operator, a value that it cannot use, or beyond a limit.
    """

    path: tuple[str, ...]
    operator: Operator
    value: Any = field(compare=False)
    key: Any = field(init=False, repr=False)  # stands for the value: Python holds True, 1 and 1.0 for equal
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        operator = to_operator(self.operator)
        path = _checked_path(self.path)
        operand = to_operand(operator, self.value, f"where: {operator.value} of {'.'.join(path)!r:.80}")
        size = Size(1, 1, operand.values, operand.characters + sum(map(len, path)), operand.wild)
        _set(self, path=path, operator=operator, value=operand.value, key=operand.key, size=_within_limits(size))


@dataclass(frozen=True, slots=True)
class And(Filter):
    """All of *children*; of none, it matches everything. `all_of` makes the simplest equal filter."""

    children: tuple[Filter, ...] = field(compare=False)
    key: frozenset[Filter] = field(init=False, repr=False)
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        children = _checked_children(self.children)
        _set(self, children=children, key=frozenset(children), size=_size_above(children))


@dataclass(frozen=True, slots=True)
class Or(Filter):
    """At least one of *children*, of which there is one. `any_of` makes the simplest equal filter."""

    children: tuple[Filter, ...] = field(compare=False)
    key: frozenset[Filter] = field(init=False, repr=False)
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        children = _checked_children(self.children)
        if not children:
            raise InvalidInput("where: an or of nothing; it could mean everything or nothing, so say which")
        _set(self, children=children, key=frozenset(children), size=_size_above(children))


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """A filter that matches whatever *child* does not match, a missing field included."""

    child: Filter
    size: Size = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set(self, size=_size_above(_checked_children((self.child,))))


def all_of(filters: Iterable[Filter]) -> Filter:
    """Return the filter that all of *filters* make together; of none, the one that matches everything."""
    found = _flattened(filters, And)
    return found[0] if len(found) == 1 else And(found)


def any_of(filters: Iterable[Filter]) -> Filter:
    """Return the filter that matches what at least one of *filters* does; none is refused."""
    found = _flattened(filters, Or)
    return found[0] if len(found) == 1 else Or(found)


def none_of(filters: Iterable[Filter]) -> Filter:
    """Return the filter that matches what none of *filters* does; none is refused."""
    return ~any_of(filters)


def to_operator(name: Any) -> Operator:
    """Return the operator of that name.

    Raises:
        InvalidInput: there is none; the nearest is named.
    """
    if isinstance(name, Operator):
        return name
    if isinstance(name, str):
        text = str.__str__(name)
        if text in ALIASES:
            return ALIASES[text]
        if text in OPERATORS:
            return OPERATORS[text]
    known = ", ".join(OPERATORS)
    raise InvalidInput(f"where: unknown operator {_shown(name)}; {_nearest(name)}the operators are {known}")


OPERATORS = {operator.value: operator for operator in Operator}


def _nearest(name: Any) -> str:
    text = str.__str__(name)[:MAX_KEY] if isinstance(name, str) else ""
    if text in LOGICAL:
        return "it combines filters, and stands next to the fields instead of inside one; "
    return did_you_mean(f"${text.lstrip('$').lower()}", [*OPERATORS, *LOGICAL])


def _shown(name: Any) -> str:
    return repr(str.__str__(name)[:60]) if isinstance(name, str) else f"of type {type(name).__name__}"


def _checked_path(path: Any) -> tuple[str, ...]:
    if not isinstance(path, (tuple, list)) or not 1 <= len(path) <= MAX_STEPS:
        raise InvalidInput(f"where: a path is a tuple of 1 to {MAX_STEPS} keys")
    return tuple(plain_string(step, "where: a key", MAX_KEY) for step in path)


def _checked_children(children: Any) -> tuple[Filter, ...]:
    found = tuple(children)
    for child in found:
        if type(child) not in (Condition, And, Or, Not):  # a subclass could answer differently each time
            raise InvalidInput(f"where: {type(child).__name__} is no filter; make it with reperio.field or parse")
    return found


def _flattened(filters: Iterable[Filter], kind: type[And | Or]) -> tuple[Filter, ...]:
    children = _checked_children(filters)
    return tuple(
        dict.fromkeys(
            inner for child in children for inner in (child.children if isinstance(child, kind) else (child,))
        )
    )


def _size_above(children: tuple[Filter, ...]) -> Size:
    sizes = [child.size for child in children]
    depth, nodes, *others = zip(*sizes, strict=True) if sizes else ((0,), (), (), (), ())
    return _within_limits(Size(1 + max(depth), 1 + sum(nodes), *map(sum, others)))


def _within_limits(size: Size) -> Size:
    for name, found, most in zip(
        ("levels", "conditions and combinations", "values", "characters", "characters around a _ between two %"),
        size,
        (MAX_DEPTH, MAX_NODES, MAX_VALUES, MAX_CHARACTERS, MAX_WILD),
        strict=True,
    ):
        if found > most:
            raise InvalidInput(f"where: the filter has {found:,} {name}; at most {most:,} are allowed")
    return size


def _set(node: Filter, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(node, name, value)


EVERYTHING = And(())  # no filter at all
