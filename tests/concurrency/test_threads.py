from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Collection
from reperio.collection.generation.opened import OpenGeneration

from .versions import DIMENSION, History, chunk, parsed, vector

NUMBERS = range(300)


class Traffic:
    """One writer, one that keeps the index, and many that search, over one collection."""

    def __init__(self, kb: Collection) -> None:
        self.kb = kb
        self.history = History()
        self.finished = threading.Event()
        self.versions = itertools.count(1)

    def write(self, seed: int, operations: int) -> None:
        """Add, replace and delete chunks at random."""
        rng = random.Random(seed)
        for _ in range(operations):
            chosen = rng.sample(NUMBERS, rng.randint(1, 30))
            if rng.random() < 0.3:
                self.history.begin(dict.fromkeys(chosen))
                self.kb.delete(ids=[f"c{number}" for number in chosen])
            else:
                self.add(chosen)
            self.history.acknowledge()

    def add(self, numbers: list[int]) -> None:
        """Add one version of each number in one batch."""
        version = next(self.versions)
        self.history.begin(dict.fromkeys(numbers, version))
        vectors = np.stack([vector(number, version) for number in numbers])
        self.kb.add([chunk(number, version) for number in numbers], vectors=vectors)
        self.history.acknowledge()

    def keep(self) -> None:
        """Build indexes and compact, over and over."""
        for index in itertools.cycle(("IVF1,PQ8x4fs", "compact", "HNSW8,SQ8", None, "compact", "IVF4,SQ8")):
            if self.finished.is_set():
                return
            if index == "compact":
                self.kb.compact()
            elif self.kb.count() > 20:
                self.kb.optimize(index=index)

    def read(self, kb: Collection, seed: int) -> int:
        """Search in every way until the writer has finished; return how many times."""
        rng = random.Random(seed)
        ways = [self._search, self._search_many, self._get, self._count, self._iterate]
        for done in itertools.count():
            if self.finished.is_set():
                return done
            ways[rng.choices(range(5), (8, 3, 3, 1, 1))[0]](kb, rng)
        raise AssertionError("unreachable")

    def _search(self, kb: Collection, rng: random.Random) -> None:
        first = self.history.acknowledged()
        number = rng.choice(NUMBERS)
        (version,) = self.history.versions(number, first, first)
        query = vector(number, version or 0)
        k = rng.randint(1, 12)
        hits = kb.search(vector=query, k=k, recall=rng.choice((0.9, 0.95, 1.0)))
        last = self.history.begun()
        self.history.check(hits, query, k, first, last)
        if version is not None and self.history.versions(number, first, last) == {version}:
            assert parsed(hits[0].chunk) == (number, version), "acknowledged before the search began, and not found"

    def _search_many(self, kb: Collection, rng: random.Random) -> None:
        first = self.history.acknowledged()
        queries = np.stack([vector(rng.choice(NUMBERS), 0) for _ in range(4)])
        answers = kb.search_many(vectors=queries, k=5)
        last = self.history.begun()
        for hits, query in zip(answers, queries, strict=True):
            self.history.check(hits, query, 5, first, last)

    def _get(self, kb: Collection, rng: random.Random) -> None:
        first = self.history.acknowledged()
        chosen = rng.sample(NUMBERS, 10)
        found = dict(map(parsed, kb.get([f"c{number}" for number in chosen])))
        last = self.history.begun()
        for number in chosen:
            assert found.get(number) in self.history.versions(number, first, last)

    def _count(self, kb: Collection, _rng: random.Random) -> None:
        first = self.history.acknowledged()
        counted = kb.count()
        assert counted in self.history.counts(first, self.history.begun())

    def _iterate(self, kb: Collection, _rng: random.Random) -> None:
        first = self.history.acknowledged()
        seen = [parsed(found) for found in kb]
        last = self.history.begun()
        for number, version in seen:
            assert version in self.history.versions(number, first, last)
        for number in self.history.live(first, set(NUMBERS) - {number for number, _ in seen}):
            assert None in self.history.versions(number, first, last), f"{number} was stored all the time"


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    """Open a collection with a few hundred chunks."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION) as kb:
        made = Traffic(kb)
        made.add(list(NUMBERS))
        yield made


def _together(traffic: Traffic, writer: Callable[[], None], readers: list[Collection], *, keep: bool) -> list[int]:
    with ThreadPoolExecutor(len(readers) + 2) as pool:
        reading = [pool.submit(traffic.read, kb, seed) for seed, kb in enumerate(readers)]
        keeping = pool.submit(traffic.keep) if keep else None
        try:
            writer()
        finally:
            traffic.finished.set()
        if keeping is not None:
            keeping.result()
        return [future.result() for future in reading]


@pytest.mark.parametrize(
    ("seed", "operations"), [(0, 80), *(pytest.param(seed, 250, marks=pytest.mark.campaign) for seed in range(2))]
)
def test_threads_search_one_handle_while_others_write_and_index(seed: int, operations: int, traffic: Traffic) -> None:
    """Four threads search while one writes and one optimizes and compacts; each sees a state that was committed."""
    done = _together(traffic, lambda: traffic.write(seed, operations), [traffic.kb] * 4, keep=True)
    assert min(done) > 10
    assert traffic.kb.check().ok


@pytest.mark.parametrize("operations", [80, pytest.param(250, marks=pytest.mark.campaign)])
def test_threads_search_a_reader_while_the_writer_works(operations: int, traffic: Traffic, tmp_path: Path) -> None:
    """Threads that share a read-only handle see each acknowledged change at their next search."""
    with ExitStack() as stack:
        readers = [stack.enter_context(reperio.open(tmp_path / "kb", read_only=True)) for _ in range(2)]
        done = _together(traffic, lambda: traffic.write(7, operations), [*readers, *readers], keep=True)
    assert min(done) > 10


def test_many_threads_write_through_one_handle(tmp_path: Path) -> None:
    """Threads that write at the same time neither lose nor mix up chunks."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb:

        def write(part: int) -> None:
            for version in range(12):
                numbers = range(part * 40, part * 40 + 40)
                kb.add(
                    [chunk(number, version) for number in numbers],
                    vectors=np.stack([vector(number, version) for number in numbers]),
                    batch_size=15,
                )
                kb.delete(ids=f"c{part * 40 + version}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        expected = {(part * 40 + n, 11) for part in range(4) for n in range(40) if n != 11}
        assert {parsed(found) for found in kb} == expected
        for number, version in expected:
            assert parsed(kb.search(vector=vector(number, version), k=1)[0].chunk) == (number, version)
        assert kb.check().ok


def test_an_iteration_survives_a_compaction(traffic: Traffic) -> None:
    """An iteration that was begun before a compaction goes on after it, and misses nothing."""
    traffic.add(list(range(300, 2500)))
    going = iter(traffic.kb)
    first = [parsed(next(going)) for _ in range(10)]
    traffic.kb.delete(ids=["c0", "c2400"])
    traffic.kb.compact()
    rest = [parsed(found) for found in going]
    assert {number for number, _ in first + rest} >= set(range(1, 2500)) - {2400}


def test_each_session_gets_the_vectors_of_its_own_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread maps those of an older commit at that moment; they are fewer."""
    with reperio.open(path, dimension=DIMENSION, auto_optimize=False) as kb:
        generation = kb._handle.generation
        sessions = []
        for version in (0, 1):
            kb.add([chunk(n, version) for n in range(10)], vectors=np.stack([vector(n, version) for n in range(10)]))
            sessions.append(generation.store.session().begin())
        older, newer = sessions
        generation.latest = generation._mapped = None
        waiting = [older]

        def assign(this: OpenGeneration, name: str, value: object) -> None:
            object.__setattr__(this, name, value)
            if name == "_mapped" and waiting:
                assert len(this.matrix_of(waiting.pop())) == 10
                object.__setattr__(this, name, this.store.map(10))  # as the other thread has left it

        monkeypatch.setattr(OpenGeneration, "__setattr__", assign)
        assert len(generation.matrix_of(newer)) == 20
        assert not waiting
        for session in sessions:
            session.__exit__(None, None, None)
