"""The ledger: records that come back as they were put, in their space, at their time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionClosed, CollectionReadOnly, InvalidInput, Record, Records
from reperio.collection.handle.clock import Clock
from reperio.filters import parse
from tests.conftest import TrigramEmbedder

VALUES = [None, 0, 1.5, True, "", "text", "\0", [], [1, [2.0, None]], {}, {"a": {"b": [1, "x"]}}, -(2**63), 1e300]


@pytest.fixture
def ledger(kb: Collection) -> Records:
    return kb.records("docs")


def plain(records: list[Record]) -> list[tuple[str, Any, str | None]]:
    return [(record.key, record.value, record.group) for record in records]


def test_a_record_comes_back_as_it_was_put(ledger: Records) -> None:
    """Value, group and time, by key and in lists; every JSON value keeps its type."""
    keys = [f"key {number}" for number in range(len(VALUES))]
    groups = [None, "g", ""] * 5
    put = ledger.put(keys, values=VALUES, groups=groups[: len(keys)])
    for record, key, value, group in zip(ledger.get(keys), keys, VALUES, groups, strict=False):
        assert record == Record(key, value, group, put)
        assert type(record.value) is type(value)
    assert ledger.get(["absent", keys[3], keys[3]]) == [None, *ledger.get([keys[3]]) * 2]
    assert ledger.get([]) == []
    assert [record.key for record in ledger.list()] == sorted(keys)


def test_a_put_replaces_all_of_an_older_record(ledger: Records) -> None:
    """Also by nothing: a value or group that is not given again is gone; of a key given twice the last counts."""
    first = ledger.put(["a", "b"], values=[1, 2], groups=["x", "y"])
    second = ledger.put(["b", "b"], values=[3, None])
    assert ledger.list() == [Record("a", 1, "x", first), Record("b", None, None, second)]
    assert second > first


def test_lists_are_narrowed_by_time_group_and_number(ledger: Records) -> None:
    """Times are exclusive at both ends; None among the groups stands for records without; order is by key."""
    t0 = ledger.time()
    first = ledger.put(["d", "b", "é"], groups=["x", "y", None])
    t1 = ledger.time()
    second = ledger.put(["a", "c", "Z"], groups=["x", None, "y"])
    assert t0 < first < t1 < second < ledger.time()

    def keys(**narrowed: Any) -> str:
        return "".join(record.key for record in ledger.list(**narrowed))

    assert keys() == "Zabcdé"
    assert keys(before=t1) == keys(before=second) == keys(before=math.nextafter(first, math.inf)) == "bdé"
    assert keys(before=first) == keys(before=t0) == keys(after=second) == ""
    assert keys(after=t1) == keys(after=first) == "Zac"
    assert keys(after=t0, before=t1) == "bdé"
    assert keys(after=t1, before=t1) == ""
    assert keys(groups=["x"]) == "ad"
    assert keys(groups=["x", None]) == "acdé"
    assert keys(groups=[None], before=t1) == "é"
    assert keys(groups=["nobody"]) == keys(groups=[]) == ""
    assert keys(limit=2) == "Za"
    assert keys(limit=2, after=t0, before=t1) == "bd"
    assert keys(before=math.inf, after=-math.inf) == "Zabcdé"


def test_deleting_counts_what_there_was(ledger: Records) -> None:
    """An absent key is no error, one given twice counts once."""
    ledger.put(["a", "b", "c"])
    assert ledger.delete(["b", "nobody", "b"]) == 1
    assert ledger.delete(["b"]) == ledger.delete([]) == 0
    assert "".join(record.key for record in ledger.list()) == "ac"


def test_spaces_know_nothing_of_each_other(kb: Collection) -> None:
    """The same key in two spaces is two records."""
    names = ["a", "b", "A", "a ", "и", "'; DROP TABLE records; --", "x" * 1024]
    for number, name in enumerate(names):
        kb.records(name).put(["key"], values=[number])
    assert [kb.records(name).get(["key"])[0].value for name in names] == list(range(len(names)))
    kb.records("a").delete(["key"])
    assert kb.records("a").list() == kb.records("never used").list() == []
    assert len(kb.records("A").list()) == 1


def test_a_hundred_thousand_keys_at_once(ledger: Records) -> None:
    """More than a statement can bind; each call is one commit."""
    keys = [f"key-{number:06d}" for number in range(100_000)]
    ledger.put(keys, values=range(len(keys)), groups=["even", "odd"] * 50_000)
    assert [record.value for record in ledger.get(keys[::-1])] == list(range(100_000))[::-1]
    assert len(ledger.list(groups=[*keys, "odd"])) == 50_000
    assert ledger.delete(keys[1:]) == 99_999
    assert plain(ledger.list()) == [("key-000000", 0, "even")]


def test_records_move_with_the_collection(kb: Collection, path: Path, tmp_path: Path) -> None:
    """Compaction, another model, a backup and reopening keep them, their times and the clock."""
    kb.add([Chunk(str(i), f"text number {i}") for i in range(20)])
    ledger, other = kb.records("docs"), kb.records("other")
    ledger.put(["a", "b"], values=[{"x": 1}, None], groups=["g", None])
    other.put(["a"], values=["other"])
    ahead = Clock(lambda: 4e9)
    kb._handle.clock = ahead
    last = other.put(["later"])
    kept = ledger.list(), other.list()
    kb.delete(ids=["3"])
    kb.compact()
    assert (ledger.list(), other.list()) == kept
    assert ledger.put(["c"]) > last >= 4e9
    ledger.delete(["c"])
    kb.backup(tmp_path / "copy")
    kb.reembed(TrigramEmbedder(48, name="narrow", salt="n"))
    assert (ledger.list(), other.list()) == kept
    assert kb.check().ok
    kb.close()
    for place, read_only in ((path, False), (tmp_path / "copy", True)):
        with reperio.open(place, read_only=read_only) as again:
            assert (again.records("docs").list(), again.records("other").list()) == kept
            assert again.records("docs").time() > 4e9
            assert again.check().ok


def test_a_put_leaves_nothing_to_load_again(kb: Collection, path: Path) -> None:
    """Records change no commit number, so that a reader keeps its view; it sees the records all the same."""
    kb.add([Chunk(str(i), f"text number {i}") for i in range(50)])
    kb.optimize(index="SQ8")
    with reperio.open(path, read_only=True, embedder=TrigramEmbedder()) as reader:
        reader.search("text number 3", k=1)
        view, state = reader._handle.generation.latest, kb._handle.generation.store.state
        for number in range(3):
            kb.records("docs").put(["a"], values=[number])
            assert reader.records("docs").get(["a"])[0].value == number
            assert reader.search("text number 3", k=1)[0].chunk.id == "3"
        assert reader._handle.generation.latest is view
        assert kb._handle.generation.store.state == state


def test_a_reader_may_read(kb: Collection, path: Path) -> None:
    """A read-only handle lists, gets and tells the time; it follows a compaction; it changes nothing."""
    kb.records("docs").put(["a"], values=[1])
    with reperio.open(path, read_only=True) as reader:
        ledger = reader.records("docs")
        kb.compact()
        kb.records("docs").put(["b"], values=[2])
        assert plain(ledger.list()) == [("a", 1, None), ("b", 2, None)]
        assert ledger.time() > ledger.list()[1].time
        for change in (lambda: ledger.put(["c"]), lambda: ledger.put([]), lambda: ledger.delete(["a"])):
            with pytest.raises(CollectionReadOnly, match="opened with read_only=True"):
                change()
        assert len(ledger.list()) == 2
    for use in (ledger.list, ledger.time, lambda: ledger.get(["a"]), lambda: reader.records("docs")):
        with pytest.raises(CollectionClosed, match="was closed"):
            use()


# ── scopes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

EQUAL = [
    {"tenant": "a", "year": {"$gte": 2020}},
    {"year": {"$gte": 2020.0}, "tenant": {"$eq": "a"}},
    {"$and": [{"year": {"$gte": 2020}}, {"tenant": "a"}, {"tenant": "a"}]},
]
DIFFERENT: list[Any] = [
    None,
    {"tenant": "a"},
    {"tenant": "b"},
    {"tenant": True},
    {"tenant": 1},
    {"tenant": "1"},
    {"tenant": None},
    {"tenant": {"$ne": "a"}},
    {"$not": {"tenant": "a"}},
    {"tenant": {"$in": ["a", "b"]}},
    {"tenant": {"$eq": ["a", "b"]}},
    {"tenant": {"$eq": {"a": "b"}}},
    {"tenant.a": "b"},
    {"tenant\\.a": "b"},
    {"tenant": 'a"),(b'},
    {"tenant": {"$between": [1, 2]}},
    {"tenant": {"$exists": True}},
    {"$or": [{"tenant": "a"}, {"tenant": "b"}]},
    {"$and": [{"tenant": {"$ne": "a"}}, {"tenant": {"$ne": "b"}}]},
]


def test_a_scope_has_its_own_spaces(path: Path) -> None:
    """Nothing of one scope, or of the whole, is seen in another; equal filters are one scope, however written."""
    reperio.open(path, dimension=4).close()
    for number, scope in enumerate([*DIFFERENT, EQUAL[0]]):
        with reperio.open(path, scope=scope) as kb:
            ledger = kb.records("docs")
            assert ledger.list() == ledger.get(["a"])[1:] == []
            assert ledger.delete(["a"]) == 0
            ledger.put(["a"], values=[number])
    for number, scope in enumerate(DIFFERENT):
        with reperio.open(path, scope=scope) as kb:
            assert plain(kb.records("docs").list()) == [("a", number, None)]
    for scope in EQUAL:
        with reperio.open(path, scope=parse(scope), read_only=True) as kb:
            assert plain(kb.records("docs").list()) == [("a", len(DIFFERENT), None)]


def test_the_order_of_a_set_makes_no_other_scope(path: Path) -> None:
    """$in compares with a set: its values' order and repetition say nothing."""
    with reperio.open(path, dimension=4, scope={"t": {"$in": ["a", 1, None]}}) as kb:
        kb.records("docs").put(["a"])
    with reperio.open(path, scope={"t": {"$in": [None, 1.0, "a", 1]}}) as kb:
        assert len(kb.records("docs").list()) == 1


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "system",
    [lambda: itertools.repeat(1000.0), lambda: iter(range(10**6, 0, -1000)), lambda: itertools.cycle([5.0, 9.0, 1.0])],
    ids=["stopped", "backwards", "jumping"],
)
def test_time_goes_forward_whatever_the_clock_does(kb: Collection, system: Callable[[], Any]) -> None:
    """What was put before a time taken is before it, what is put afterwards is after it; reopened, too."""
    ticks = iter(system())
    ledger = kb.records("docs")
    kb._handle.clock = Clock(lambda: float(next(ticks)))
    told: list[tuple[float, int]] = []
    puts: list[float] = []
    for number in range(30):
        told.append((ledger.time(), number))
        puts.append(ledger.put([f"{number:02d}"]))
        if number == 15:
            kb._handle.clock = Clock(lambda: float(next(ticks)))  # another process, which has told nothing yet
    assert puts == sorted(set(puts))
    for moment, number in told[16:]:
        assert [record.key for record in ledger.list(before=moment)] == [f"{n:02d}" for n in range(number)]
        assert [record.key for record in ledger.list(after=moment)] == [f"{n:02d}" for n in range(number, 30)]
    assert [moment for moment, _ in told] == sorted(moment for moment, _ in told)


def test_time_is_the_system_clock_otherwise(ledger: Records) -> None:
    """Seconds since the epoch, of today."""
    import time

    start = time.time()
    times = ledger.time(), ledger.put(["a"]), ledger.time()
    assert start <= times[0] < times[1] < times[2] <= time.time()


# ── what cannot be stored ────────────────────────────────────────────────────────────────────────────────────────────

BAD: dict[str, tuple[Callable[[Records], object], str]] = {
    "one string": (lambda r: r.put("abc"), "keys is 'abc' .str.; pass a list"),
    "no list": (lambda r: r.get(7), "keys is 7 .int.; pass a list"),
    "empty key": (lambda r: r.put(["a", ""]), "a key is empty; it must be a string of 1 to 1,024"),
    "long key": (lambda r: r.delete(["x" * 1025]), "a key has 1,025 characters .* at most 1,024"),
    "no string": (lambda r: r.get([b"a"]), "a key is b'a' .bytes.; it must be a string"),
    "surrogate": (lambda r: r.put(["a\ud800"]), "lone surrogate"),
    "NUL": (lambda r: r.put(["a\0b"]), "holds a NUL"),
    "NUL in a group": (lambda r: r.put(["a"], groups=["a\0b"]), "a group is .*NUL"),
    "long group": (lambda r: r.list(groups=["x" * 1025]), "a group has 1,025 characters"),
    "number as group": (lambda r: r.put(["a"], groups=[1]), "a group is 1 .int."),
    "string as groups": (lambda r: r.list(groups="abc"), "groups is 'abc' .str.; pass a list"),
    "fewer values": (lambda r: r.put(["a", "b"], values=[1]), "2 keys, 1 values; pass exactly one per key"),
    "more groups": (lambda r: r.put(["a"], groups=["x", "y"]), "1 keys, 2 groups"),
    "tuple": (lambda r: r.put(["a"], values=[(1, 2)]), r"key 'a' is \(1, 2\) .tuple., which JSON cannot keep"),
    "NaN": (lambda r: r.put(["a"], values=[{"x": [math.nan]}]), r"'a'\['x'\]\[0\] is nan .float."),
    "integer key": (lambda r: r.put(["a"], values=[{1: 2}]), "'a' key is 1 .int."),
    "large integer": (lambda r: r.put(["a"], values=[2**64]), "numbers up to 64 bits"),
    "array": (lambda r: r.put(["a"], values=[np.ones(2)]), "ndarray"),
    "surrogate in a value": (lambda r: r.put(["a"], values=["\ud800"]), "which JSON cannot keep"),
    "no limit": (lambda r: r.list(limit=0), "limit is 0; it must be an integer of at least 1"),
    "true limit": (lambda r: r.list(limit=True), "limit is True"),
    "NaN before": (lambda r: r.list(before=math.nan), "before is nan .float.; it must be a number"),
    "date after": (lambda r: r.list(after="2024"), "after is '2024' .str.; it must be a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_kept_is_refused(case: str, ledger: Records) -> None:
    """By name, with the cure, and nothing of the call is stored."""
    ledger.put(["kept"], values=[1])
    use, message = BAD[case]
    with pytest.raises(InvalidInput, match=message):
        use(ledger)
    assert plain(ledger.list()) == [("kept", 1, None)]


@pytest.mark.parametrize(("space", "message"), [("", "the space is empty"), (None, "NoneType"), ("x" * 1025, "1,025")])
def test_a_space_has_a_name(space: Any, message: str, kb: Collection) -> None:
    """As a key has."""
    with pytest.raises(InvalidInput, match=message):
        kb.records(space)
