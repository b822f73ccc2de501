"""Metadata as loaders make it: what JSON cannot keep is stored as what stands for it."""

from __future__ import annotations

import datetime
import enum
import json
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from reperio.errors import InvalidChunk, InvalidInput

from langchain_reperio import ReperioVectorStore
from langchain_reperio.conversion.values import to_json


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


ZONE = datetime.timezone(datetime.timedelta(hours=2))
MADE: list[tuple[Any, Any]] = [
    (datetime.datetime(2024, 3, 1, 12, 30, tzinfo=ZONE), "2024-03-01T12:30:00+02:00"),
    (datetime.date(2024, 3, 1), "2024-03-01"),
    (datetime.time(12, 30), "12:30:00"),
    (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
    (("a", ("b", 1)), ["a", ["b", 1]]),
    ({"b", "a"}, ["a", "b"]),
    (frozenset({2, 1}), [1, 2]),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (Path("/data/a.pdf"), "/data/a.pdf"),
    (PureWindowsPath("c:/a.pdf"), "c:\\a.pdf"),
    (Decimal("1.10"), "1.10"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (float("nan"), None),
    (float("-inf"), None),
    (b"bytes", "Ynl0ZXM="),
    (2**70, str(2**70)),
    (np.float32(0.5), 0.5),
    (np.float64("nan"), None),
    (np.int64(7), 7),
    (np.bool_(True), True),
    (np.str_("text"), "text"),
    (np.datetime64("2024-03-01"), "2024-03-01"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(90, "s"), 90.0),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array(5), 5),
    (np.array(["2024-03-01"], dtype="datetime64[D]"), ["2024-03-01"]),
    ({1: "a", None: "b", 2.5: 2}, {"1": "a", "None": "b", "2.5": 2}),
    ({"deep": [{"when": datetime.date(2024, 3, 1)}]}, {"deep": [{"when": "2024-03-01"}]}),
]


@pytest.mark.parametrize(("value", "expected"), MADE, ids=lambda each: type(each).__name__)
async def test_what_json_cannot_keep_becomes_what_stands_for_it(
    store: ReperioVectorStore, value: Any, expected: Any
) -> None:
    """By every way in; and what came back is the same after it was stored again."""
    store.add_texts(["one"], [{"it": value}], ids=["a"])
    store.add_documents([Document(id="b", page_content="one", metadata={"it": value})])
    store.add_embeddings([("one", [1.0] * 64)], [{"it": value}], ids=["c"])
    await store.aadd_texts(["one"], [{"it": value}], ids=["d"])
    found = store.get_by_ids(["a", "b", "c", "d"])
    assert [document.metadata for document in found] == [{"it": expected}] * 4
    assert type(found[0].metadata["it"]) is type(expected)
    again = store.add_documents(found)
    assert store.get_by_ids(again) == found


def test_metadata_passed_in_is_not_changed(store: ReperioVectorStore) -> None:
    """The caller's dictionaries and lists are as they were."""
    inner = [datetime.date(2024, 3, 1)]
    metadata = {"a": {"b": inner}}
    store.add_texts(["one"], [metadata])
    assert metadata == {"a": {"b": [datetime.date(2024, 3, 1)]}}
    assert metadata["a"]["b"] is inner


def test_what_nothing_stands_for_is_refused_by_its_key(store: ReperioVectorStore) -> None:
    """An object of some class, a list that holds itself, two keys that become one: nothing is stored."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), len, np.longdouble(1), 1j, endless, type("T", (), {})()):
        with pytest.raises(InvalidChunk, match="it"):
            store.add_texts(["one"], [{"it": value}])
    with pytest.raises(InvalidInput, match="two keys that are '1'"):
        store.add_texts(["one"], [{"it": {1: "a", "1": "b"}}])
    assert store.collection.count() == 0


def test_filters_take_the_same_values(store: ReperioVectorStore) -> None:
    """A date in a filter is compared as it is stored; NaN, which equals nothing, is refused."""
    days = [datetime.date(2024, 3, day) for day in (1, 2, 3)]
    store.add_texts(["a", "b", "c"], [{"day": day, "id": UUID(int=day.day)} for day in days], ids=["1", "2", "3"])
    for asked, expected in (
        ({"day": days[1]}, ["2"]),
        ({"day": {"$gte": days[1]}}, ["2", "3"]),
        ({"day": {"$in": {days[0], days[2]}}}, ["1", "3"]),
        ({"$or": [{"id": UUID(int=1)}, {"day": {"$gt": days[1]}}]}, ["1", "3"]),
    ):
        assert sorted(str(each.id) for each in store.similarity_search("a", k=9, filter=asked)) == expected
    with pytest.raises(InvalidInput):
        store.similarity_search("a", filter={"day": float("nan")})


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    plain
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.binary(max_size=5)
    | st.sampled_from([*Colour, *Level, np.int8(3), np.float32(0.1)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.frozensets(st.integers() | st.dates() | st.text(max_size=3), max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_converting_twice_changes_nothing(value: Any) -> None:
    """What is stored is JSON, and is stored again as it is."""
    once = to_json(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once == to_json(once)
