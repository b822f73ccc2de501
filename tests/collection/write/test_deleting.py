"""Ids and filters together, vectors by id, and how deep hybrid search looks for words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput, field
from tests.conftest import TrigramEmbedder

EVEN = field("even") == True  # noqa: E712  # a filter is made


@pytest.fixture
def filled(kb: Collection) -> Collection:
    kb.add([Chunk(f"c{n}", f"river number {n}", {"even": n % 2 == 0, "n": n}) for n in range(40)])
    return kb


def test_get_is_the_intersection_of_ids_and_filter(filled: Collection) -> None:
    """In the order of the ids; of one id, the chunk or None."""
    assert [chunk.id for chunk in filled.get(["c5", "c4", "nobody", "c2"], where=EVEN)] == ["c4", "c2"]
    assert filled.get("c5", where=EVEN) is None
    assert filled.get("c4", where=EVEN) == filled.get("c4")
    assert filled.get([], where=EVEN) == []
    assert len(filled.get(["c1", "c2"], where={})) == 2
    with pytest.raises(InvalidInput, match="limit= and offset= are for get without ids"):
        filled.get(["c1"], limit=3)


def test_delete_is_the_intersection_of_ids_and_filter(filled: Collection) -> None:
    """In one commit; no ids delete nothing, whatever the filter; an empty filter restricts nothing."""
    before = filled._handle.generation.store.state.seq
    assert filled.delete(ids=[f"c{n}" for n in range(10)], where={"even": True, "n": {"$lt": 8}}) == 4
    assert filled._handle.generation.store.state.seq == before + 1
    assert [one for one in filled.ids() if int(one[1:]) < 10] == ["c1", "c3", "c5", "c7", "c8", "c9"]
    assert (
        filled.delete(ids=[], where=EVEN)
        == filled.delete(ids=[], where={})
        == filled.delete(ids=["c1"], where=EVEN)
        == 0
    )
    assert filled.delete(ids=["c1", "c3"], where={}) == 2
    assert filled.count() == 34
    with pytest.raises(InvalidInput, match="delete takes ids=, where=, or both"):
        filled.delete()
    with pytest.raises(InvalidInput, match="where matches everything"):
        filled.delete(where={})


def test_a_scope_holds_for_ids_and_filter(filled: Collection, path: Path) -> None:
    """What lies outside is neither got, nor deleted, nor has it a vector."""
    filled.close()
    with reperio.open(path, embedder=TrigramEmbedder(), scope=EVEN) as kb:
        assert [chunk.id for chunk in kb.get(["c1", "c2", "c4"], where={"n": {"$gt": 2}})] == ["c4"]
        assert kb.delete(ids=["c1", "c2", "c4"], where={"n": {"$gt": 2}}) == 1
        assert kb.vectors(["c2"]).shape == (1, 64)
        with pytest.raises(InvalidInput, match="there is no chunk 'c1'"):
            kb.vectors(["c2", "c1"])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_vectors_come_back_in_the_order_of_the_ids(metric: str, dtype: Any, path: Path) -> None:
    """As they are compared: of length 1 under cosine, rounded where they are kept as float16; safe to change."""
    given = np.random.default_rng(3).standard_normal((50, 6)).astype(np.float32)
    with reperio.open(path, dimension=6, metric=metric, dtype=dtype) as kb:
        kb.add([Chunk(str(n)) for n in range(50)], vectors=given)
        kb.add([Chunk("3")], vectors=given[:1])
        kb.delete(ids=["7"])
        expected = given / np.linalg.norm(given, axis=1, keepdims=True) if metric == "cosine" else given
        found = kb.vectors(["9", "0", "9", "3"])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[[9, 0, 9, 0]], atol=1e-6 if dtype == "float32" else 2e-3)
        assert kb.vectors([]).shape == (0, 6)
        assert kb.vectors("1").shape == (1, 6)
        found[:] = 0
        assert kb.vectors(["9"]).any()
        with reperio.open(path, read_only=True) as reader:
            np.testing.assert_array_equal(reader.vectors(["9"]), kb.vectors(["9"]))
        for missing in ("7", "nobody"):
            with pytest.raises(InvalidInput, match=f"there is no chunk '{missing}'"):
                kb.vectors(["1", missing])
        with pytest.raises(InvalidInput, match="chunk ids are strings"):
            kb.vectors([1])


def test_hybrid_search_looks_as_deep_for_words_as_it_is_told(filled: Collection) -> None:
    """Only the best so many of the lexical list have a lexical score; None is as deep as the dense list."""
    for number in (1, 3, 17):
        for hits in (
            filled.search("river number 7", k=40, mode="hybrid", lexical_candidates=number),
            filled.search_many(["river number 7"], k=40, mode="hybrid", lexical_candidates=number)[0],
        ):
            scored = {hit.chunk.id for hit in hits if "lexical" in (hit.scores or {})}
            best = filled.search("river number 7", k=number, mode="lexical")
            assert scored == {hit.chunk.id for hit in best}
            assert len(hits) == 40
    assert filled.search("river 7", mode="hybrid", lexical_candidates=10_000) == filled.search("river 7", mode="hybrid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lexical_candidates": 5}, 'lexical_candidates is for mode="hybrid", and mode is .dense.; leave it out'),
        ({"mode": "lexical", "lexical_candidates": 5}, "mode is .lexical."),
        ({"mode": "hybrid", "lexical_candidates": 0}, "lexical_candidates is 0; it must be an integer of at least 1"),
        ({"mode": "hybrid", "lexical_candidates": 10_001}, "it is at most 10,000"),
    ],
)
def test_a_depth_that_cannot_be_is_refused(options: dict[str, Any], message: str, filled: Collection) -> None:
    """By name, with what it may be."""
    with pytest.raises(InvalidInput, match=message):
        filled.search("river", **options)
