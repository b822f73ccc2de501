"""Filters through the facade: their forms, what is remembered of them, and many threads at once."""

from __future__ import annotations

import gc
import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput, field
from reperio.filters import Condition

DIMENSION = 8


@pytest.fixture
def kb(tmp_path: Path) -> Any:
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as made:
        yield made


def put(kb: Collection, metadata: list[dict[str, Any]]) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(metadata), DIMENSION), dtype=np.float32)
    kb.add([Chunk(f"c{n}", "", one) for n, one in enumerate(metadata)], vectors=vectors)


def test_a_filter_is_known_again_by_its_meaning(kb: Collection) -> None:
    """Asked after one that looks alike to Python or by its bytes, a filter still gives its own answer."""
    values: list[Any] = [True, 1, "1", None, 2**64 - 1, -1, [True], [1], False, 0, "", {}, [], 5e-324, {"a": 1}]
    put(kb, [{"a": value} for value in values])
    asked: list[tuple[Any, list[int]]] = [
        (True, [0, 6]),
        (1, [1, 7]),
        (1.0, [1, 7]),
        (np.bool_(True), [0, 6]),
        (np.int8(1), [1, 7]),
        (np.int64(-1), [5]),
        (np.uint64(2**64 - 1), [4]),
        (np.int64(1), [1, 7]),
        (np.float64(5e-324), [13]),
        (np.array([1]), [1, 7]),
        (False, [8]),
        (0, [9]),
        (-0.0, [9]),
        (None, [3]),
        ("1", [2]),
        ([True], [0, 6]),
        ([1], [1, 7]),
        ((1,), [1, 7]),
        ({1}, [1, 7]),
        ({"$eq": [1]}, [7]),
        ({"$eq": [True]}, [6]),
        ({"$eq": {"a": 1.0}}, [14]),
        ({"$eq": {"a": True}}, []),
        ({"$exists": True}, list(range(15))),
        ({"$exists": False}, []),
    ]
    rng = random.Random(0)
    for _ in range(3):
        rng.shuffle(asked)
        for value, rows in asked:
            ids = [f"c{row}" for row in rows]
            assert kb.ids(where={"a": value}) == ids, value
            assert {hit.chunk.id for hit in kb.search(vector=np.ones(DIMENSION), k=15, where={"a": value})} == set(ids)


def test_a_dictionary_changed_between_searches_is_another_filter(kb: Collection) -> None:
    """The filter is what the dictionary says when it is passed, not what it said before."""
    put(kb, [{"a": n} for n in range(5)])
    where: dict[str, Any] = {"a": {"$in": [1]}}
    assert kb.ids(where=where) == ["c1"]
    where["a"]["$in"].append(3)
    assert kb.ids(where=where) == ["c1", "c3"]
    tree = field("a").in_(found := [1])
    found.append(3)
    assert kb.ids(where=tree) == ["c1"]


def test_more_filters_than_are_remembered(kb: Collection) -> None:
    """Hundreds of filters, in turn and again, each give their own answer."""
    put(kb, [{"a": n} for n in range(400)])
    for _ in range(2):
        for n in range(400):
            assert [hit.chunk.id for hit in kb.search(vector=np.ones(DIMENSION), where={"a": n})] == [f"c{n}"]


def test_large_filters_are_forgotten(kb: Collection) -> None:
    """What is remembered of filters has a limit of bytes: of 60 with a million characters each, some 20 remain."""
    put(kb, [{"a": "x"}])
    query = np.ones(DIMENSION, dtype=np.float32)
    for number in range(60):
        where = {"a": {"$in": [f"{number} {part}".ljust(64_000) for part in range(15)]}}
        assert kb.search(vector=query, where=where, k=1 + number) == []
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is Condition and each.size.characters > 900_000]
    assert 0 < len(alive) < 25


def test_no_filter_and_an_empty_one_are_the_same(kb: Collection) -> None:
    """Except for deleting, ``{}`` is no filter."""
    put(kb, [{"a": 1}, {}])
    for where in (None, {}, {"$and": [{}]}):
        assert kb.count(where=where) == len(kb.ids(where=where)) == len(kb.get(where=where)) == 2
        assert len(kb.search(vector=np.ones(DIMENSION), where=where)) == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a": {"$gte": None}}, "where: $gte of 'a' is None; only numbers and strings have an order"),
        ({"a": {"$eqq": 1}}, "where: unknown operator '$eqq'; did you mean '$eq'? the operators are "),
        ({"$gt": 1}, "where: $gt belongs inside a field, e.g. {'year': {'$gt': …}}"),
        ({"a": float("nan")}, "where: $eq of 'a' is nan; JSON holds finite numbers only, so that nothing could match"),
        ([("a", 1)], "where: a filter is a dict such as {'lang': 'en'}, not a list"),
    ],
)
def test_a_wrong_filter_is_refused_everywhere(where: Any, message: str, kb: Collection) -> None:
    """Every method that takes a filter refuses it in the same words, whatever is stored, and nothing happens."""
    for _ in range(2):
        for ask in (
            lambda: kb.search(vector=np.ones(DIMENSION), where=where),
            lambda: kb.search_many(vectors=np.ones((1, DIMENSION)), where=where),
            lambda: kb.count(where=where),
            lambda: kb.ids(where=where),
            lambda: kb.get(where=where),
            lambda: kb.delete(where=where),
        ):
            with pytest.raises(InvalidInput) as refused:
                ask()
            assert str(refused.value).startswith(message)
        put(kb, [{"a": 1}])
    assert kb.count() == 1


TENANTS, STEADY = "abcd", 40
WAYS: list[dict[str, Any]] = [
    {},
    {},
    {"recall": 1.0},
    {"mode": "hybrid"},
    {"diversity": 0.5},
    {"distinct": True, "k": 1},
]


def versioned(name: str, tenant: str, version: int, kind: str) -> Chunk:
    return Chunk(name, f"word {tenant} {version}", {"tenant": tenant, "version": version, "kind": kind})


def steady(tenant: str, number: int, version: int) -> Chunk:
    """Return one of the chunks that are always there, so that it is known how many match at least."""
    return versioned(f"{tenant}{number}", tenant, version, "steady")


class Traffic:
    """One that adds, replaces, deletes by filter, compacts and indexes, and many that ask by filter."""

    def __init__(self, kb: Collection) -> None:
        self.kb = kb
        self.finished = threading.Event()
        self._vectors = np.random.default_rng(0)
        self._add([steady(tenant, number, 0) for tenant in TENANTS for number in range(STEADY)])

    def write(self, versions: int) -> None:
        rng = random.Random(1)
        for version in range(1, versions):
            names = rng.sample(range(60), 12)
            self._add([versioned(f"x{n}", rng.choice(TENANTS), version, "moving") for n in names])
            if version % 3 == 0:
                self.kb.delete(where=(field("kind") == "moving") & (field("tenant") == rng.choice(TENANTS)))
            if version % 5 == 0:
                self._add([steady(tenant, n, version) for tenant in TENANTS for n in rng.sample(range(STEADY), 3)])
            if version % 25 == 0:
                self.kb.compact()
            if version == 40:
                self.kb.optimize(index="IVF4,SQ8")

    def read(self, handle: Collection, tenants: str, seed: int) -> int:
        """Ask until the writer has finished; return how many times."""
        rng, query = random.Random(seed), np.random.default_rng(seed)
        for done in itertools.count():
            if self.finished.is_set():
                return done
            tenant = rng.choice(tenants)
            self._search(handle, tenant, query.standard_normal(DIMENSION, dtype=np.float32), rng.choice(WAYS))
            self._select(handle, tenant)
        raise AssertionError("unreachable")

    def _search(self, handle: Collection, tenant: str, vector: Any, options: dict[str, Any]) -> None:
        where: Any = {"tenant": tenant, "kind": {"$exists": True}}
        k = options.get("k", 25)
        text = "word" if "mode" in options else None
        hits = handle.search(text, vector=vector, where=where, **{"k": k, **options})
        (many,) = handle.search_many(vectors=vector[None], k=STEADY, where=where)
        lexical = handle.search("word", mode="lexical", k=30, where=where)
        assert (len(hits), len(many), len(lexical)) == (k, STEADY, 30)
        for hit in itertools.chain(hits, many, lexical):
            assert hit.chunk.metadata["tenant"] == tenant
            assert hit.chunk.text == f"word {tenant} {hit.chunk.metadata['version']}"

    def _select(self, handle: Collection, tenant: str) -> None:
        where = {"tenant": tenant, "kind": "steady"}
        assert handle.count(where={"tenant": tenant}) >= STEADY
        assert handle.count(where=where) == STEADY
        assert sorted(handle.ids(where=where)) == sorted(f"{tenant}{number}" for number in range(STEADY))
        assert [chunk.metadata["tenant"] for chunk in handle.get(where=where)] == [tenant] * STEADY

    def _add(self, chunks: list[Chunk]) -> None:
        vectors = self._vectors.standard_normal((len(chunks), DIMENSION), dtype=np.float32)
        self.kb.add(chunks, vectors=vectors)


def test_threads_search_by_filter_while_others_write(tmp_path: Path) -> None:
    """Every hit matches by its own metadata, and none is missing that was there all the time, in every mode."""
    with ExitStack() as stack:
        kb = stack.enter_context(reperio.open(tmp_path / "kb", dimension=DIMENSION))
        reader = stack.enter_context(reperio.open(tmp_path / "kb", read_only=True))
        scoped = stack.enter_context(reperio.open(tmp_path / "kb", read_only=True, scope={"tenant": "b"}))
        traffic = Traffic(kb)
        readers = [(kb, TENANTS), (kb, TENANTS), (reader, TENANTS), (scoped, "b")]
        with ThreadPoolExecutor(len(readers) + 1) as pool:
            reading = [pool.submit(traffic.read, *one, seed) for seed, one in enumerate(readers)]
            try:
                pool.submit(traffic.write, 60).result()
            finally:
                traffic.finished.set()
            assert min(future.result() for future in reading) > 3
        assert kb.check().ok
