"""Columns on a real store: continued, shared between commits and threads, bounded, and safe from keys."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
import pytest

from reperio.errors import CollectionDamaged
from reperio.filters import Condition, Operator, field, join_path, matches, parse
from reperio.filters.columns.columns import MOST_COLUMNS, Columns
from reperio.filters.columns.dictionary import REMEMBERED_NUMBERS
from reperio.layout import Generation
from reperio.store import NewChunk, Session, Store
from tests.filters.test_hostile_filters import INJECTIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    paths = Generation(tmp_path, "float32")
    Store.create(paths)
    opened = Store(paths, 1, read_only=False)
    yield opened
    opened.close()


def put(store: Store, metadata: Sequence[dict[str, Any]], replaced: Sequence[int] = ()) -> None:
    first = store.state.rows
    chunks = [NewChunk(f"id-{first + i}", "text", orjson.dumps(one).decode()) for i, one in enumerate(metadata)]
    store.put(chunks, np.zeros((len(chunks), 1), dtype=np.float32), list(replaced))


def selected(columns: Columns, where: dict[str, Any], session: Session, rows: int | None = None) -> list[int]:
    bits = columns.evaluate(parse(where), session, session.state.rows if rows is None else rows)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()


def test_bits_are_packed_little_endian_and_cannot_be_changed(store: Store) -> None:
    """Row r is bit r % 8 of byte r // 8, the spare bits are 0 also of a negation, and the shared array is read-only."""
    put(store, [{"a": i} for i in range(11)])
    columns = Columns()
    with store.session() as session:
        bits = columns.evaluate(parse({"a": {"$ne": 3}}), session, 11)
        assert bits.dtype == np.uint8
        assert bits.tolist() == [0b11110111, 0b00000111]
        assert columns.evaluate(parse({"a": {"$ne": 3}}), session, 9).tolist() == [0b11110111, 0b00000001]
        with pytest.raises(ValueError, match="read-only"):
            bits[0] = 0
        assert columns.evaluate(parse({}), session, 0).tolist() == []
        assert columns.evaluate(parse({}), session, 11).tolist() == [0xFF, 0b111]


def test_appended_rows_continue_what_is_known(store: Store) -> None:
    """After each append the answer is that of a fresh column, from any number of rows before."""
    rnd = random.Random(1)
    columns, trees = Columns(), [{"a": {"$gte": 5}}, {"$not": {"a": 3, "tags": "x"}}, {"tags": {"$all": ["x", "y"]}}]
    trees += [{"a": {"$like": "1%"}}, {"a": [1, "1", None]}, {"tags": {"$gt": "x"}}, {"b": {"$exists": False}}]
    for size in (1, 7, 8, 1, 300, 3, 0, 40):
        if size:
            values = [1, 5.0, "1", "12", None, True, [], {"x": 1}, 2**60, *range(100, 160)]
            put(store, [{"a": rnd.choice(values), "tags": rnd.sample("xyz", rnd.randrange(4))} for _ in range(size)])
        with store.session() as session:
            for where in trees:
                assert selected(columns, where, session) == selected(Columns(), where, session), where


def test_an_answer_is_given_again_without_a_session(store: Store) -> None:
    """`cached` has what `evaluate` gave for as many rows or fewer, under any equal filter, and nothing beyond."""
    put(store, [{"a": i % 2} for i in range(20)])
    columns, tree = Columns(), parse({"a": 1, "b": {"$exists": False}})
    with store.session() as session:
        seq = session.state.seq
        assert columns.cached(tree, seq, 20) is None
        bits = columns.evaluate(tree, session, 20)
    assert columns.cached(parse({"b": {"$exists": False}, "a": 1.0}), seq, 20) is bits
    assert columns.cached(tree, seq, 9).tolist() == [0b10101010, 0]
    assert columns.cached(tree, seq, 21) is None
    assert columns.cached(parse({"a": True, "b": {"$exists": False}}), seq, 20) is None


def test_a_row_deleted_later_is_still_there_for_an_older_session(store: Store) -> None:
    """A column first read after a delete does not take the row from a session that began before."""
    put(store, [{"a": "x"}, {"a": "y"}, {"a": "x"}, {"a": "x"}])
    columns = Columns()
    with store.session() as older:
        put(store, [{"a": "z"}], replaced=[0])
        store.delete([2])
        with store.session() as newer:
            assert selected(columns, {"a": "x"}, newer) == [3]
            assert selected(columns, {"a": {"$ne": "x"}}, newer)[-1] == 4
        assert columns.cached(parse({"a": "x"}), older.state.seq, 4) is None
        assert selected(columns, {"a": "x"}, older) == [0, 2, 3]
        assert selected(columns, {"a": {"$ne": "x"}}, older) == [1]
    with store.session() as newer:  # what the older session filled in is true for all
        assert selected(columns, {"a": "y"}, newer) == [1]
        assert 3 in selected(columns, {"a": "x"}, newer)


def test_an_older_session_sees_its_own_rows_only(store: Store) -> None:
    """A column that covers more rows answers for fewer."""
    put(store, [{"a": 1}] * 3)
    columns = Columns()
    with store.session() as older:
        put(store, [{"a": 1}] * 30)
        with store.session() as newer:
            assert len(selected(columns, {"a": 1}, newer)) == 33
        assert selected(columns, {"a": 1}, older) == [0, 1, 2]
        assert selected(columns, {"a": {"$ne": 1}}, older) == []
        with pytest.raises(AssertionError):
            selected(columns, {"a": 1}, older, rows=4)


def test_more_numbers_than_are_remembered(store: Store) -> None:
    """Numbers beyond the dictionary, which get a code each time, are found by every operator."""
    count = REMEMBERED_NUMBERS + 2000
    numbers: list[Any] = [i + 0.5 for i in range(count)]
    numbers += [numbers[-1], numbers[0], 7, 7.0, 2**60, 2.0**60, 2**60 + 1, "7", None]
    put(store, [{"a": number} for number in numbers])
    columns = Columns()
    wheres: list[Any] = [numbers[count - 1], 7, 2**60, {"$in": [0.5, count - 0.5, 2**60 + 1, "7"]}]
    wheres += [{"$nin": [numbers[count - 1], 7]}, {"$gt": 2**60}, {"$lte": 2**60 - 1}, {"$between": [7, 2.0**60]}]
    with store.session() as session:
        for wanted in wheres:
            tree = parse({"a": wanted})
            truth = [row for row, number in enumerate(numbers) if matches(tree, {"a": number})]
            assert selected(columns, {"a": wanted}, session) == truth, wanted


def test_a_short_tail_is_evaluated_for_its_own_values(store: Store) -> None:
    """Continuing a field of many distinct values by a few rows gives what a whole evaluation does."""
    rnd = random.Random(2)

    def some() -> dict[str, Any]:
        kinds = [
            rnd.random(),
            f"s{rnd.random()}",
            rnd.getrandbits(60) + 2**54,
            [rnd.randrange(9), f"t{rnd.randrange(99)}"],
        ]
        return {"a": rnd.choice([*kinds, "new", None, {"x": rnd.randrange(99)}])}

    rows = [some() for _ in range(3000)]
    put(store, rows)
    wheres: list[Any] = [{"$like": "s0.1%"}, {"$gte": 0.5}, {"$gt": "s0.5"}, {"$lt": 2**58}, {"$any": [1, 2]}]
    wheres += [{"$all": [1, "t7"]}, {"$contains": "1"}, {"$contains": "t7"}, {"$ilike": "T%"}, {"$is_empty": True}]
    wheres += ["new", {"$nin": ["new", 3]}, {"$between": ["s0.2", "t3"]}, {"$eq": {"x": 4}}, {"$exists": False}]
    columns = Columns()
    for _ in range(4):
        with store.session() as session:
            for where in wheres:
                truth = [row for row, one in enumerate(rows) if matches(parse({"a": where}), one)]
                assert selected(columns, {"a": where}, session) == truth, where
        fresh = [some() for _ in range(10)]
        put(store, fresh)
        rows += fresh


@pytest.mark.parametrize(
    "key", [*INJECTIONS, 'a"', "a'", "[0]", "#", "#-1", "a.b", "", "\n", "é", "\\u0061", "\x7f", "*"]
)
def test_a_key_is_data_for_sqlite(key: str, store: Store) -> None:
    """Whatever a key looks like, its column holds that key's values, at the top and inside an object."""
    decoy = {"a": "secret", "tenant": "secret", "b": {"a": "secret"}}
    put(store, [decoy, {key: "x"}, {"o": {key: "x"}}, {}, {"list": [{key: "x"}]}, {key: None}])
    columns = Columns()
    with store.session() as session:
        assert selected(columns, {join_path((key,)): "x"}, session) == [1]
        assert selected(columns, {join_path(("o", key)): "x"}, session) == [2]
        assert selected(columns, {join_path(("list", key)): {"$exists": True}}, session) == []
        assert selected(columns, {join_path((key,)): {"$exists": True}}, session) == [1, 5]
        assert session.state.live == 6


def test_a_key_does_not_end_at_a_nul(store: Store) -> None:
    r"""To SQLite, "tenant" and "tenant\0x" are one key: whoever may choose a key could pass for another's chunk."""
    put(store, [{"tenant\0x": "a"}, {"tenant": "a"}, {"tenant\0": "b", "tenant": "a"}, {"": "a"}, {"\0": "a"}])
    put(
        store,
        [{"o": {"tenant\0": "a"}}, {"o": {"tenant": "a"}, "text": "\0"}, {"tenant": "a\0b"}, {"tenant": "\\u0000"}],
    )
    columns = Columns()
    for where, rows in [
        ({"tenant": "a"}, [1, 2]),
        ({"tenant\0x": "a"}, [0]),
        ({"tenant\0": {"$exists": True}}, [2]),
        ({"": "a"}, [3]),
        ({"\0": "a"}, [4]),
        ({"o.tenant": "a"}, [6]),
        ({"o.tenant\0": "a"}, [5]),
        ({"tenant": "a\0b"}, [7]),
        ({"tenant": "\\u0000"}, [8]),
    ]:
        with store.session() as session:
            assert selected(columns, where, session) == rows, where


def test_the_oldest_columns_and_answers_give_way(store: Store) -> None:
    """Within its limits of bytes and of columns; what was dropped is read again, with the same answer."""
    put(store, [{f"f{i}": f"value {row}" for i in range(20)} for row in range(500)])
    columns = Columns(memory=200_000, results=10_000)
    with store.session() as session:
        for _ in range(2):
            for i in range(20):
                assert selected(columns, {f"f{i}": "value 7"}, session) == [7]
                assert 0 < columns.nbytes <= 200_000
        assert columns.cached(parse({"f19": "value 7"}), session.state.seq, 500) is not None
        assert columns.cached(parse({"f0": "value 7"}), session.state.seq, 500) is None
        tiny = Columns(memory=1, results=1)  # the column in use stays, whatever it takes; no answer does
        assert selected(tiny, {"f1": "value 9", "f2": "value 9"}, session) == [9]
        assert tiny.cached(parse({"f1": "value 9", "f2": "value 9"}), session.state.seq, 500) is None
        many = Columns()
        for i in range(MOST_COLUMNS + 50):
            assert selected(many, {f"nowhere{i}": {"$exists": True}}, session) == []
        assert many.nbytes < (MOST_COLUMNS + 1) * 500 * 8


def test_threads_share_columns_while_rows_come_and_go(store: Store) -> None:
    """Readers on sessions of different commits, of one Columns, beside a writer: each sees exactly its commit."""
    put(store, [{"a": row % 7, "tags": [row % 3]} for row in range(200)])
    columns, failures, done = Columns(), [], threading.Event()
    wheres = [{"a": 3}, {"a": {"$ne": 3}}, {"tags": 1, "a": {"$lt": 5}}, {"$or": [{"a": 6}, {"tags": {"$gt": 1}}]}]

    def read(seed: int) -> None:
        rnd = random.Random(seed)
        while not done.is_set():
            with store.session() as session:
                living = {chunk.row: chunk.to_chunk().metadata for block in session.scan_all() for chunk in block}
                for where in rnd.sample(wheres, 4):
                    found = [row for row in selected(columns, where, session) if row in living]
                    if found != [row for row, metadata in sorted(living.items()) if matches(parse(where), metadata)]:
                        failures.append(where)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for step in range(40):
        first = store.state.rows
        put(store, [{"a": (first + i) % 7, "tags": [i % 3]} for i in range(9)], replaced=[step * 5])
        store.delete([step * 5 + 1])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_damaged_metadata_is_told(store: Store, tmp_path: Path) -> None:
    """Metadata that is no JSON is damage with a cure, and leaves the columns usable."""
    put(store, [{"a": 1}, {"a": 2}])
    other = apsw.Connection(str(Generation(tmp_path, "float32").database))
    other.execute("UPDATE chunks SET metadata = '{\"a\": ' WHERE row = 1")
    columns = Columns()
    with pytest.raises(CollectionDamaged, match="restore from a backup"), store.session() as session:
        selected(columns, {"a": 1}, session)
    other.execute("UPDATE chunks SET metadata = '{\"a\": 2}' WHERE row = 1")
    other.close()
    with store.session() as session:
        assert selected(columns, {"a": 2}, session) == [1]


def test_every_operator_on_every_kind_of_value(store: Store) -> None:
    """All operators on all kinds of stored values select what the plain evaluation does."""
    values: list[Any] = [None, True, False, 0, 1, 1.0, -0.0, 2**53 + 1, 2**64 - 1, -(2**63), 1e300, "", "a", "A", "ab%"]
    values += [[], ["a"], ["A", 1], [1, True], [[1]], [None], {}, {"x": 1}, [{"x": 1}], ["ab", "b"], "\U0001f600", "\0"]
    rows: list[dict[str, Any]] = [{"f": value} for value in values] + [{}]
    put(store, rows)
    columns, one = Columns(), field("f")
    trees = [
        Condition(("f",), operator, value)
        for operator in (Operator.EQ, Operator.NE, Operator.CONTAINS)
        for value in values
    ]
    trees += [
        Condition(("f",), operator, values[:n])
        for operator in (Operator.IN, Operator.NIN, Operator.ANY)
        for n in range(9)
    ]
    trees += [one.all_of(some) for some in ([], [1], [1.0, "A"], ["a", "zz"], [True, 1], [None], [[1]])]
    for wanted in (0, 1.5, 2**53, 2**53 + 1, 2**64, 2**1024 - 1, -(2**1024) + 1, -(2**63), "", "A", "a", "\uffff"):
        trees += [one > wanted, one >= wanted, one < wanted, one <= wanted, one.between(wanted, wanted)]
    trees += [one.like(p, ignore_case=i) for p in ("%", "_", "a%", "", "%b\\%") for i in (True, False)]
    trees += [one.text_match(t, ignore_case=i) for t in ("", "a", "B", "%") for i in (True, False)]
    trees += [test for flag in (True, False) for test in (one.exists(flag), one.is_empty(flag))]
    with store.session() as session:
        for tree in trees:
            bits = columns.evaluate(tree, session, len(rows))
            found = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
            assert found == [row for row, metadata in enumerate(rows) if matches(tree, metadata)], tree


class Scans:
    """Counts the rows that are read for columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        for name in ("metadata", "metadata_at"):
            monkeypatch.setattr(Session, name, self._counted(getattr(Session, name)))

    def _counted(self, read: Any) -> Any:
        def counted(*arguments: Any) -> Iterator[Any]:
            for record in read(*arguments):
                self.rows += 1
                yield record

        return counted


def test_the_new_fields_of_a_filter_are_read_in_one_scan(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a filter has 2 fields or 255, nested or not, absent or not, each row is read once, and never again."""
    put(store, [{"a": row, "o": {"b": row % 3}} for row in range(400)])
    scans, columns = Scans(monkeypatch), Columns()
    absent = [{f"nowhere{i}": 1} for i in range(80)] + [{f"o.nowhere{i}": 1} for i in range(80)]
    with store.session() as session:
        assert selected(columns, {"$or": [*absent, {"a": 7}, {"o.b": 2, "a": {"$lt": 6}}]}, session) == [2, 5, 7]
        assert scans.rows == 400
        assert selected(columns, {"$or": [*absent, {"a": 8}]}, session) == [8]
        assert scans.rows == 400
        assert columns.nbytes < 162 * 3000 + 400 * 200  # a field that no row has takes nothing per row
    put(store, [{"nowhere7": 1, "o": {"nowhere8": 1}}, {}])
    with store.session() as session:
        assert selected(columns, {"$or": absent}, session) == [400]
        assert scans.rows == 402


def test_fields_that_nobody_has_displace_none_that_are_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters with ever new names cost a scan each, and take no memory from the fields that chunks have."""
    put(store, [{"a": row, "b": row} for row in range(100)])
    scans, columns = Scans(monkeypatch), Columns()
    with store.session() as session:
        assert selected(columns, {"a": 7, "b": 7}, session) == [7]
        for turn in range(4):
            wanted = {"$or": [{f"nowhere{turn}-{i}": 1} for i in range(200)]}
            assert selected(columns, wanted, session) == []
            assert scans.rows == (turn + 2) * 100
        assert selected(columns, {"a": 8, "b": 8}, session) == [8]
        assert scans.rows == 500


def test_fields_beyond_the_memory_are_read_in_several_scans(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one scan no more is kept than the columns may take; every scan brings at least one field."""
    put(store, [{f"f{i}": row % (i + 2) for i in range(20)} for row in range(500)])
    scans, columns = Scans(monkeypatch), Columns(memory=30_000)
    wanted = {f"f{i}": 1 for i in range(20)}
    with store.session() as session:
        assert selected(columns, wanted, session) == [
            row for row in range(500) if all(row % n == 1 for n in range(2, 22))
        ]
        assert scans.rows <= 500 * 10
        assert columns.nbytes <= 30_000


@pytest.mark.parametrize("filters", [5, pytest.param(20, marks=pytest.mark.campaign)])
def test_fields_read_together_are_those_read_alone(filters: int, store: Store) -> None:
    """For rows with any values, deleted ones and older sessions, one scan finds what a scan per field does."""
    rnd = random.Random(3)
    values: list[Any] = [
        1,
        1.0,
        "x",
        "\0",
        None,
        True,
        [],
        ["x", 1],
        {"b": 1},
        {"b\0": "x", "c": {"d": 2}},
        2**62,
        1e300,
    ]
    names = ["a", "b", "b\0", "a.b", "", "é", "\0"]
    paths = [join_path((name,)) for name in names] + ["a.b", "a.c.d", "b.b", "b.c", join_path(("a", "b\0"))]
    rows: list[dict[str, Any]] = []
    for turn in range(4):
        fresh = [{name: rnd.choice(values) for name in rnd.sample(names, rnd.randrange(5))} for _ in range(60)]
        put(store, fresh)
        rows += fresh
        older = store.session().begin()
        store.delete([turn * 60 + 3, turn * 60 + 4])
        columns = Columns()
        with older, store.session() as newer:
            for session in (newer, older):
                for _ in range(filters):
                    each = [{rnd.choice(paths): {"$in": rnd.sample(values, 3)}} for _ in range(5)]
                    where = {"$or": [{"$not": each[0]}, {"$and": each[1:3]}, *each[3:]]}
                    living = {chunk.row for block in session.scan_all() for chunk in block}
                    truth = [row for row in sorted(living) if matches(parse(where), rows[row])]
                    assert [row for row in selected(columns, where, session) if row in living] == truth


def test_metadata_that_is_no_object_is_told_when_read_together(store: Store, tmp_path: Path) -> None:
    """Damage met by a scan for several fields is damage with a cure; what is no object has no field."""
    put(store, [{"a": 1}, {"a": 2}])
    other = apsw.Connection(str(Generation(tmp_path, "float32").database))
    for text, error in (('{"a": ', CollectionDamaged), (None, CollectionDamaged), ("[1]", None)):
        other.execute("PRAGMA ignore_check_constraints = 1")
        try:
            other.execute("UPDATE chunks SET metadata = ? WHERE row = 1", (text,))
        except apsw.ConstraintError:
            continue
        if error is None:
            with store.session() as session:
                assert selected(Columns(), {"a": 2, "b": 2}, session) == []
        else:
            with pytest.raises(error, match="restore from a backup"), store.session() as session:
                selected(Columns(), {"a": 1, "b": 1}, session)
    other.close()
