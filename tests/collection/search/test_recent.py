"""Chunks kept in memory: the right ones, within their bytes, and never longer than they are right."""

from __future__ import annotations

import random
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionClosed
from reperio.store.reading.recent import RECENT_BYTES, RecentChunks
from tests.conftest import TrigramEmbedder

Record = tuple[str, str, bytes]


def record(row: int, *, length: int = 40) -> Record:
    """Return what is stored in a row; every row has its own."""
    return f"c{row}", f"{row} ".ljust(length, "·"), f'{{"row":{row}}}'.encode()


def offer_twice(recent: RecentChunks, rows: list[int], *, length: int = 40) -> None:
    for _ in range(2):
        recent.offer(rows, [record(row, length=length) for row in rows])


def sizes(recent: RecentChunks) -> list[int]:
    """Return the bytes of every payload; looking them up would move them."""
    return [payload[3] for part in (recent._young, recent._old, recent._leaving) for payload in part.values()]


def recent_of(kb: Collection) -> RecentChunks:
    return kb._handle.generation.store._pool.recent


def test_a_row_is_kept_when_it_comes_by_again() -> None:
    """What is found once leaves no trace but its number; what is found twice is there from then on."""
    recent = RecentChunks()
    recent.offer([3, 5], [record(3), record(5)])
    assert recent.get([3, 5]) == [None, None]
    assert recent.bytes == 0
    recent.offer([5, 9], [record(5), record(9)])
    found = recent.get([9, 5, 3])
    assert [payload and payload[:3] for payload in found] == [None, record(5), None]


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_and_each_row_has_its_own_payload(seed: int) -> None:
    """Whatever comes by, of whatever size, no more is kept than the limit, and never under another row's number."""
    rng, limit = random.Random(seed), 200_000
    recent = RecentChunks(limit)
    found = 0
    for _ in range(4000):
        rows = rng.sample(range(2000), rng.randint(1, 12))
        for row, payload in zip(rows, recent.get(rows), strict=True):
            if payload is not None:
                found += 1
                assert payload[:3] == record(row, length=row % 700)
        recent.offer(rows, [record(row, length=row % 700) for row in rows])
        assert sum(sizes(recent)) == recent.bytes <= limit
    assert found > 1000


def test_a_chunk_larger_than_the_limit_is_not_kept() -> None:
    """One enormous text is let go at once, and does not stop others from being kept afterwards."""
    recent = RecentChunks(10_000)
    offer_twice(recent, [1], length=20_000)
    assert (len(recent), recent.bytes) == (0, 0)
    offer_twice(recent, [2])
    assert recent.get([1, 2])[0] is None
    assert recent.get([2])[0] is not None


@pytest.mark.parametrize("letter", ["a", "é", "ж", "語", "😀"])
def test_bytes_are_what_python_takes(letter: str) -> None:
    """The count agrees with what the interpreter has allocated, for texts of one, two and four bytes a character."""
    recent = RecentChunks()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for first in range(0, 4000, 10):
            rows = [int(str(row)) for row in range(first, first + 10)]  # fresh objects, as a statement's would be
            recent.offer(rows, [(f"c{row}", letter * 500, f'{{"row":{row}}}'.encode()) for row in rows])
            recent.offer(rows, [(f"c{row}", letter * 500 + str(row), f'{{"row":{row}}}'.encode()) for row in rows])
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(recent) == 4000
    assert 0.8 < taken / recent.bytes < 1.15


def test_what_is_found_again_outlives_what_only_comes_by() -> None:
    """Rows that every search finds stay, while ten times as many as there is room for go past."""
    recent = RecentChunks(100_000)
    popular, passing = list(range(20)), range(1000, 4000, 5)
    offer_twice(recent, popular)
    for row in passing:
        offer_twice(recent, list(range(row, row + 5)))
        assert None not in recent.get(popular)
    assert 50_000 < recent.bytes <= 100_000
    assert recent.get(list(passing)).count(None) > 500


def test_what_is_on_its_way_out_is_still_found() -> None:
    """Of three rounds the first is leaving: what is left of it is found, and so it stays."""
    recent = RecentChunks(100_000)
    for row in range(300):
        offer_twice(recent, [row])
    leaving = list(recent._leaving)
    assert len(leaving) > 5
    assert None not in recent.get(leaving[:5])
    assert not recent._leaving.keys() & set(leaving[:5])


def test_threads_share_it() -> None:
    """Eight threads find and offer at once: nothing is mixed up, and the count is right afterwards."""
    recent = RecentChunks(150_000)
    start = threading.Barrier(8)

    def work(seed: int) -> int:
        rng, found = random.Random(seed), 0
        start.wait()
        for _ in range(3000):
            rows = rng.sample(range(600), 10)
            for row, payload in zip(rows, recent.get(rows), strict=True):
                if payload is not None:
                    found += 1
                    assert payload[:3] == record(row, length=row)
            recent.offer(rows, [record(row, length=row) for row in rows])
        return found

    with ThreadPoolExecutor(8) as pool:
        assert min(pool.map(work, range(8))) > 1000
    assert sum(sizes(recent)) == recent.bytes <= 150_000


def search(kb: Collection, question: str) -> list[tuple[str, str, object]]:
    """Search until what is found is in memory, and once more."""
    answers = [[(hit.chunk.id, hit.chunk.text, hit.chunk.metadata) for hit in kb.search(question)] for _ in range(4)]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len(recent_of(kb)) > 0
    return answers[0]


@pytest.fixture
def filled(kb: Collection) -> Collection:
    kb.add([Chunk(str(i), f"text number {i}", {"i": i, "tags": ["a", {"b": i}]}) for i in range(30)])
    return kb


def test_a_hit_belongs_to_who_asked(filled: Collection) -> None:
    """Whatever is done to a hit, the next search gives back what is stored."""
    before = search(filled, "text number 7")
    for hit in filled.search("text number 7"):
        hit.chunk.text = "mine"
        hit.chunk.metadata["tags"].append("mine")
        hit.chunk.metadata["tags"][1]["b"] = "mine"
    assert search(filled, "text number 7") == before


def test_search_and_search_many_agree(filled: Collection) -> None:
    """Both give back the same chunks, whichever has kept them."""
    expected = filled.search_many(["text number 7", "text number 21"])
    assert [filled.search(question) for question in ("text number 7", "text number 21")] == expected
    assert filled.search_many(["text number 7", "text number 21"]) == expected
    assert len(recent_of(filled)) > 0
    assert filled.search_many(["text number 7", "text number 21"]) == expected


@pytest.mark.parametrize("read_only", [False, True])
def test_what_has_changed_is_never_answered_from_memory(filled: Collection, path: Path, *, read_only: bool) -> None:
    """A text, its metadata alone, a deletion: the next search knows, in the writer's handle and in a reader's."""
    with reperio.open(path, read_only=True, embedder=TrigramEmbedder()) as reader:
        kb = reader if read_only else filled
        assert search(kb, "text number 7")[0] == ("7", "text number 7", {"i": 7, "tags": ["a", {"b": 7}]})
        filled.add([Chunk("7", "text number 7", {"i": "seven"})])
        assert search(kb, "text number 7")[0] == ("7", "text number 7", {"i": "seven"})
        filled.add([Chunk("7", "text number 7 changed")])
        assert search(kb, "text number 7 changed")[0] == ("7", "text number 7 changed", {})
        filled.delete(ids="7")
        assert "7" not in [chunk_id for chunk_id, _, _ in search(kb, "text number 7")]


def test_a_commit_cut_short_is_not_overlooked(filled: Collection) -> None:
    """After Ctrl-C between a commit and its return, the writer's own searches see what every reader sees."""
    search(filled, "text number 7")

    def interrupt(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_name != "transaction" or not frame.f_code.co_filename.endswith("store/writing/commits.py"):
            return None
        names = frame.f_locals
        if event == "line" and names.get("committing") and not names["connection"].in_transaction:
            raise KeyboardInterrupt  # at the first line after COMMIT
        return interrupt

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            filled.delete(ids="7")
    finally:
        sys.settrace(before)
    assert "7" not in [hit.chunk.id for hit in filled.search("text number 7")]


@pytest.mark.parametrize("rewrite", ["compact", "reembed"])
def test_a_new_generation_begins_with_nothing(rewrite: str, filled: Collection, path: Path) -> None:
    """compact() and reembed() number rows anew: nothing is taken over, in the writer's handle and in a reader's."""
    fresh = TrigramEmbedder(32, salt="x")
    with reperio.open(path, read_only=True, embedder=None if rewrite == "reembed" else TrigramEmbedder()) as reader:
        filled.delete(ids=[str(i) for i in range(0, 30, 2)])
        search(filled, "text number 7")
        asked = filled.embedder.embed_queries(["text number 7"])[0]  # type: ignore[union-attr]  # it has one
        for _ in range(3):
            reader.search(vector=asked)
        before = [recent_of(kb) for kb in (filled, reader)]
        assert min(map(len, before)) > 0
        filled.compact() if rewrite == "compact" else filled.reembed(fresh)
        asked = filled.embedder.embed_queries(["text number 7"])[0]
        for kb in (filled, reader):
            for _ in range(3):
                hits = kb.search(vector=np.asarray(asked))
                assert (hits[0].chunk.id, hits[0].chunk.text) == ("7", "text number 7")
                assert sorted(int(hit.chunk.id) % 2 for hit in hits) == [1] * 10
        assert [len(recent) for recent in before] == [0, 0]
        assert all(recent_of(kb) not in before for kb in (filled, reader))


def test_closing_forgets(filled: Collection) -> None:
    """A closed handle holds no chunks and answers nothing."""
    search(filled, "text number 7")
    recent = recent_of(filled)
    filled.close()
    assert (len(recent), recent.bytes) == (0, 0)
    offer_twice(recent, [1, 2])
    assert len(recent) == 0
    with pytest.raises(CollectionClosed):
        filled.search("text number 7")


def test_the_default_holds_what_its_text_says() -> None:
    """64 MiB, which are some 50,000 chunks of a thousand bytes: text, and 200 bytes of metadata."""
    recent = RecentChunks()
    for first in range(0, 120_000, 1000):
        rows = list(range(first, first + 1000))
        for _ in range(2):
            recent.offer(rows, [(f"r{row:06d}", "x" * 800, b"y" * 200) for row in rows])
    assert recent.bytes <= RECENT_BYTES == 64 * 2**20
    assert 45_000 < len(recent) < 55_000
