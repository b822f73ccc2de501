"""Filters that are too much, pretend to be something else, or carry another language."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from reperio.errors import InvalidInput
from reperio.filters import (
    And,
    Condition,
    Filter,
    Not,
    Operator,
    field,
    join_path,
    matches,
    parse,
)
from reperio.filters.operands import number_of, to_key
from tests.naive_filters import expected


def deep(levels: int, make: Callable[[Any], Any], core: Any) -> Any:
    for _ in range(levels):
        core = make(core)
    return core


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (deep(100_000, lambda inner: {"$not": inner}, {"a": 1}), "nested more than 8"),
        (deep(100_000, lambda inner: {"$or": [inner, {"b": 1}]}, {"a": 1}), "nested more than 8"),
        ({"a": deep(100_000, lambda inner: {"$not": inner}, 1)}, "nested more than 8"),
        ({"a": {"$eq": deep(100_000, lambda inner: [inner], 1)}}, "nested more than 8"),
        ({"a": {"$eq": deep(100_000, lambda inner: {"x": inner}, 1)}}, "nested more than 8"),
        ({f"f{i}": 1 for i in range(300)}, "more than 256"),
        ({"$or": [{"a": i} for i in range(300)]}, "at most 256"),
        ({"$or": [{f"f{i}{j}": 1 for j in range(20)} for i in range(20)]}, "at most 256"),
        ({"a": list(range(10_001))}, "more than 10,000 values"),
        ({"a": list(range(6000)), "b": list(range(6000))}, "at most 10,000"),
        ({"a": {"$eq": [[0] * 5000, [0] * 5001]}}, "at most 10,000"),
        ({"a": "x" * 65_537}, "at most 65,536"),
        ({"a": ["x" * 60_000] * 20}, "at most 1,000,000"),
        ({"a": {"$like": "%a" * 501}}, "at most 1,000"),
        ({"a": 1 << 1025}, "integer of 1,026 bits"),
        ({"x" * 1001: 1}, "at most 1,000"),
        ({".".join("x" * 17): 1}, "1 to 16 keys"),
    ],
)
def test_limits(where: Any, message: str) -> None:
    """Depth, nodes, values and lengths are bounded, whichever way they are exceeded."""
    with pytest.raises(InvalidInput, match=message):
        parse(where)


def test_limits_hold_for_trees_built_in_python() -> None:
    """`&`, `|`, `~` and the classes know the same limits; a long chain of one operator stays flat."""
    chain: Filter = field("a") == 0
    for number in range(1, 255):
        chain |= field("a") == number
    assert chain.size.depth == 2
    with pytest.raises(InvalidInput, match="at most 256"):
        _ = chain | (field("a") == -1)
    with pytest.raises(InvalidInput, match="at most 8"):
        deep(8, Not, field("a") == 1)
    assert deep(7, Not, field("a") == 1).size.depth == 8
    for forged in ({"a": 1}, object(), None):
        with pytest.raises(InvalidInput, match="is no filter"):
            And((forged,))


def test_a_list_inside_itself_is_refused() -> None:
    """A cycle ends at the limit of nesting."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidInput, match="nested more than 8"):
        parse({"a": {"$eq": circle}})


class Liar(str):
    """A string that equals everything and hides what it is."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "en"

    def startswith(self, *_: Any) -> bool:
        return False


class Bomb:
    """An object that must not be asked anything."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __repr__(self) -> str:
        raise AssertionError("shown")


class Endless(dict[str, Any]):
    """A dict that never ends."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            number += 1
            yield f"k{number}"

    def __getitem__(self, key: str) -> Any:
        return 1


class Always(Condition):
    """A condition that would pass for one and be another."""


def test_what_pretends_to_be_something_else() -> None:
    """Subclasses count by their contents; objects are refused unasked; endless mappings end at the limit."""
    tree = parse({Liar("lang"): Liar("secret")})
    assert tree == Condition(("lang",), Operator.EQ, "secret")
    assert type(tree.value) is str
    with pytest.raises(InvalidInput, match="belongs inside a field"):
        parse({Liar("$gt"): 1})
    for where in ({"a": Bomb()}, {"a": [Bomb()]}, {"a": {"$gt": Bomb()}}, {"a": {"$exists": Bomb()}}, {"$or": Bomb()}):
        with pytest.raises(InvalidInput):
            parse(where)
    for endless in (Endless(a=1), {"a": Endless(a=1)}, {"a": {"$eq": Endless(a=1)}}):
        with pytest.raises(InvalidInput):
            parse(endless)
    always = Always(("a",), Operator.EQ, 1)
    for hidden in (lambda: parse({"$and": [always]}), lambda: always & (field("a") == 1), lambda: parse(always)):
        with pytest.raises(InvalidInput):
            hidden()


INJECTIONS = [
    "' OR 1=1 --",
    "'); DROP TABLE chunks; --",
    '") OR json_extract(metadata, "$',
    "$.tenant",
    '$."a"',
    "a') = 'x' OR ('1'='1",
    "\0",
    "%",
    "{$ne: null}",
    '{"$gt": ""}',
    "__proto__",
    "a[*]",
    "a'||(SELECT 1)||'",
    "🐍" * 100,
    "\u202e",
    "\\",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_injections_are_data(text: str) -> None:
    """As a key or as a value, such a string stands for itself and for nothing else."""
    as_key = {join_path((text,)): "x"}
    assert matches(parse(as_key), {text: "x"})
    assert not matches(parse(as_key), {"tenant": "x", "a": "x"})
    assert matches(parse({"a": text}), {"a": text})
    assert not matches(parse({"a": text}), {"a": "x", "tenant": "x"})


@pytest.mark.parametrize("value", [{"$ne": None}, {"$gt": ""}, {"$where": "1"}, {"$exists": False}])
def test_an_operator_smuggled_in_as_a_value(value: Mapping[str, Any]) -> None:
    """What JSON from a request puts in a value's place is no value where one is asked for by name."""
    tree = parse({"password": {"$eq": value}})
    assert not matches(tree, {"password": "secret"})
    assert not matches(tree, {})
    assert matches(tree, {"password": dict(value)})


def test_many_wildcards_do_not_explode() -> None:
    """A pattern of 500 wildcards on a long text that almost fits is answered; trying all ways would take years."""
    tree = parse({"a": {"$like": "%a" * 499 + "b"}})
    assert not matches(tree, {"a": "a" * 50_000})
    assert matches(tree, {"a": "a" * 50_000 + "b"})


def test_like_is_the_naive_one() -> None:
    """Random short patterns on random short texts, against trying everything."""
    rnd = random.Random(4)
    for _ in range(3000):
        pattern = "".join(rnd.choices("ab%_", k=rnd.randrange(7)))
        text = "".join(rnd.choices("abA", k=rnd.randrange(7)))
        for operator in (Operator.LIKE, Operator.ILIKE):
            tree = Condition(("a",), operator, pattern)
            assert matches(tree, {"a": text}) == expected(tree, {"a": text}), (operator, pattern, text)


LARGE = [
    2**61 - 1,
    2**60,
    -(2**60),
    2**64 - 1,
    2.0**60,
    -(2.0**61),
    1e300,
    2**1023,
    2.0**1023,
    2**60 - 1,
    2.0**60 - 128,
]


def test_numbers_that_python_hashes_alike_have_keys_that_it_does_not() -> None:
    """Multiples of 2**61 - 1, which all hash to 0, cost a set or a dictionary no more than others, also in lists."""
    alike: list[Any] = [(2**61 - 1) * factor for factor in range(1, 2000)]
    assert len(set(map(hash, alike))) == 1
    for values in (alike, [[value] for value in alike], [{"a": value} for value in alike]):
        assert len({hash(to_key(value)) for value in values}) > 1990
    tree = parse({"a": {"$in": alike}})
    assert matches(tree, {"a": alike[7]})
    assert not matches(tree, {"a": alike[7] + 1})


def test_large_numbers_are_equal_as_before() -> None:
    """Keys of large numbers are equal exactly when the numbers are, integers and floats alike."""
    for one in LARGE:
        assert number_of(to_key(one)) == one
        for other in LARGE:
            assert (to_key(one) == to_key(other)) == (one == other), (one, other)
            assert matches(Condition(("a",), Operator.EQ, one), {"a": other}) == (one == other)
