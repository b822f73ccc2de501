"""Chunks by filter: pages, counts, ids and deletions, and what is not there when it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, CollectionDamaged, CollectionReadOnly, InvalidInput, field


@pytest.fixture
def numbers(tmp_path: Path) -> Any:
    """Return a collection of 2,500 chunks: more than one statement reads at once."""
    with reperio.open(tmp_path / "kb", dimension=4, auto_optimize=False) as kb:
        vectors = np.random.default_rng(0).standard_normal((2500, 4), dtype=np.float32)
        kb.add([Chunk(f"c{n}", f"text {n}", {"n": n, "even": n % 2 == 0}) for n in range(2500)], vectors=vectors)
        yield kb


def test_pages_make_up_the_whole(numbers: Collection) -> None:
    """Pages of any size, one after the other, are what matches, in the order of adding."""
    numbers.delete(ids=["c4", "c2000"])
    tree = field("even") == True  # noqa: E712  # `field` has its own ==
    expected = [n for n in range(2500) if n % 2 == 0 and n not in (4, 2000)]
    for limit in (1, 300, 1000, 1249, 5000):
        pages: list[int] = []
        for offset in range(0, min(len(expected), 10 * limit), limit):
            pages += [chunk.metadata["n"] for chunk in numbers.get(where=tree, limit=limit, offset=offset)]
        assert pages == expected[: 10 * limit]
    assert [chunk.metadata["n"] for chunk in numbers.get(where=tree)] == expected
    assert numbers.get(where=tree, offset=len(expected)) == []
    assert numbers.ids(where=tree) == [f"c{n}" for n in expected]
    assert numbers.count(where=tree) == len(expected)
    assert len(numbers.get()) == numbers.count() == len(numbers.ids()) == 2498
    assert [chunk.id for chunk in numbers.get(limit=2, offset=3)] == ["c3", "c5"]


def test_a_replaced_chunk_moves_to_the_end(numbers: Collection) -> None:
    """Its new row is the youngest: the order is that of adding."""
    numbers.add([Chunk("c0", "new", {"n": 0, "even": True})], vectors=np.ones((1, 4)))
    assert numbers.ids(where={"n": {"$lt": 3}}) == ["c1", "c2", "c0"]


def test_deleting_all_but_one(numbers: Collection) -> None:
    """One chunk is left, found by every search; then none, and the collection takes new ones."""
    assert numbers.delete(where=field("n") != 1234) == 2499
    for where in (None, {"n": 1234}, {"n": {"$ne": 5}}):
        assert [hit.chunk.id for hit in numbers.search(vector=np.ones(4), k=10, where=where)] == ["c1234"]
        assert [hit.chunk.id for hit in numbers.search("text", vector=np.ones(4), mode="hybrid", where=where)] == [
            "c1234"
        ]
    assert numbers.delete(where={"n": 5}) == 0
    assert numbers.delete(where=field("n").exists()) == 1
    assert numbers.count() == numbers.count(where=field("n").exists(False)) == 0
    assert numbers.search(vector=np.ones(4), where={"n": 1}) == numbers.search("text", mode="lexical") == []
    assert numbers.search_many(vectors=np.ones((2, 4)), where={"n": {"$ne": 1}}) == [[], []]
    numbers.compact()
    numbers.add([Chunk("new", "text", {"n": 7})], vectors=np.ones((1, 4)))
    assert numbers.ids(where={"n": 7}) == ["new"]
    assert numbers.check().ok


def test_what_cannot_be_asked(numbers: Collection, tmp_path: Path) -> None:
    """Pages need whole numbers, ids exclude pages, a reader deletes nothing, and a filter is one."""
    for arguments, message in (
        ({"limit": 0}, "limit is 0; it must be an integer of at least 1"),
        ({"limit": True}, "limit is True; it must be an integer of at least 1"),
        ({"offset": -1}, "offset is -1; it must be an integer of at least 0"),
        ({"ids": "c1", "offset": 1}, "limit= and offset= are for get without ids; leave them out"),
        ({"where": "n = 1"}, "where: a filter is a dict such as {'lang': 'en'}, not a str"),
    ):
        with pytest.raises(InvalidInput) as refused:
            numbers.get(**arguments)
        assert str(refused.value) == message
    with pytest.raises(InvalidInput, match=r"^delete takes ids=, where=, or both$"):
        numbers.delete()
    with (
        reperio.open(tmp_path / "kb", read_only=True) as reader,
        pytest.raises(CollectionReadOnly, match="opened with read_only=True"),
    ):
        reader.delete(where={"n": 1})
    assert numbers.count() == 2500


def test_vectors_that_are_no_array_are_refused(numbers: Collection) -> None:
    """What cannot be counted is refused, and not answered by nothing; no questions have no answers."""
    for vectors in (
        (vector for vector in np.ones((3, 4))),
        np.float64(3),
        np.array(3.0),
        np.ones(4),
        [[1.0], [1.0, 2.0]],
    ):
        with pytest.raises(reperio.InvalidVectors):
            numbers.search_many(vectors=vectors)
    assert numbers.search_many(vectors=np.ones((0, 4))) == numbers.search_many([], mode="lexical") == []


def test_a_live_row_without_a_chunk_is_damage(numbers: Collection, tmp_path: Path) -> None:
    """A page that would come back short says so instead."""
    numbers.close()
    database = apsw.Connection(str(tmp_path / "kb" / "gen-000001" / "chunks.db"))
    database.execute("DELETE FROM chunks WHERE row = 7")
    database.close()
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        for read in (kb.get, kb.ids):
            with pytest.raises(CollectionDamaged, match=r"1 of 2500 live rows hold no chunk; run check\(\)"):
                read()
        with pytest.raises(CollectionDamaged, match="7 is live but holds no chunk"):
            kb.search(vector=np.ones(4), k=2500)
        assert not kb.check().ok
