"""Searching among given ids: exactly those, in every mode, beside filter and scope."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import CallableReranker, Chunk, Collection, InvalidInput, field
from tests.conftest import TrigramEmbedder, named

SEARCHES: list[dict[str, Any]] = [
    {},
    {"recall": 1.0},
    {"mode": "lexical"},
    {"mode": "hybrid"},
    {"mode": "hybrid", "fusion": "rrf"},
    {"diversity": 0.3},
    {"distinct": True},
    {"candidates": 400},
    {"min_score": -10.0},
    {"reranker": CallableReranker(lambda _query, texts: [float(len(text)) for text in texts])},
]


INDEXES = [None, "SQ8", "IVF4,PQ8x4fs"]


def fill(kb: Collection, index: str | None) -> None:
    """Store 400 chunks in 500 rows, with or without an index, and with a tail behind it."""
    chunks = [Chunk(f"id {n}", f"river bank {n} {n * 7919 % 101}", {"even": n % 2 == 0}) for n in range(450)]
    kb.add(chunks[:380])
    if index is not None:
        kb.optimize(index=index)
    kb.add(chunks[380:])
    kb.add([Chunk(f"id {n}", f"river bank {n} anew", {"even": n % 2 == 0}) for n in range(0, 50, 2)])
    kb.delete(ids=[f"id {n}" for n in range(400, 450)])


@pytest.fixture(scope="module", params=INDEXES)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Open what many tests search, and none changes: as a reader."""
    path = tmp_path_factory.mktemp("filled") / "kb"
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        fill(kb, request.param)
    with reperio.open(path, embedder=TrigramEmbedder(), read_only=True) as reader:
        yield reader


@pytest.mark.parametrize("options", SEARCHES, ids=named)
@pytest.mark.parametrize("number", [1, 7, 60, 5000])
def test_exactly_the_ids_that_exist_and_match_are_found(
    number: int, options: dict[str, Any], filled: Collection
) -> None:
    """min(k, those) hits, of one search as of many; absent ids are no error; the order is that of a search for all."""
    wanted = [f"id {n}" for n in random.Random(number).choices(range(600), k=number)]
    existing = {f"id {int(one[3:])}" for one in wanted if int(one[3:]) < 400}
    everything = [hit.chunk.id for hit in filled.search("river bank", k=1000, recall=1.0)]
    for where, inside in (
        (None, existing),
        (field("even") == True, {one for one in existing if int(one[3:]) % 2 == 0}),  # noqa: E712  # this is how a filter is written
    ):
        hits = filled.search("river bank", k=400, ids=iter(wanted), where=where, **options)
        assert {hit.chunk.id for hit in hits} == inside
        assert len(hits) == len(inside)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        assert len(filled.search("river bank", k=3, ids=wanted, where=where, **{**options, "candidates": None})) == min(
            3, len(inside)
        )
        many = filled.search_many(["bank", "river bank"], k=400, ids=wanted, where=where, **options)
        assert [hit.chunk.id for hit in many[1]] == [hit.chunk.id for hit in hits]
        if options in ({}, {"recall": 1.0}):
            assert [hit.chunk.id for hit in hits] == [one for one in everything if one in inside]


@pytest.mark.parametrize("options", SEARCHES, ids=named)
def test_no_ids_find_nothing(options: dict[str, Any], filled: Collection) -> None:
    """An empty list is not the same as none at all; one string is one id."""
    assert filled.search("river bank", ids=[], **options) == []
    assert filled.search("river bank", ids=["nobody"], **options) == []
    assert filled.search_many(["river bank"] * 2, ids=(), **options) == [[], []]
    assert [hit.chunk.id for hit in filled.search("river bank", ids="id 7", **options)] == ["id 7"]
    assert len(filled.search("river bank", ids=None, k=5, **{**options, "candidates": None})) == 5


def test_ids_are_any_strings(path: Path) -> None:
    """A NUL, quotes and other scripts are found, among few and among thousands."""
    strange = ["\0", "a\0b", "'; --", '"', "ключ", "%", "\\", "a\\u0000b", "x" * 3000]
    with reperio.open(path, dimension=4) as kb:
        names = strange + [f"plain {n}" for n in range(3000)]
        kb.add([Chunk(name) for name in names], vectors=np.random.default_rng(0).standard_normal((len(names), 4)))
        for wanted in (strange, names, [strange[1]]):
            hits = kb.search(vector=np.ones(4), k=4000, ids=wanted)
            assert {hit.chunk.id for hit in hits} == set(wanted)


@pytest.mark.parametrize("index", INDEXES)
def test_ids_see_each_commit(index: str | None, kb: Collection, path: Path) -> None:
    """What another handle deletes or replaces is gone or new at the next search."""
    fill(kb, index)
    with reperio.open(path, read_only=True, embedder=TrigramEmbedder()) as reader:
        wanted = ["id 1", "id 2", "new"]
        assert {hit.chunk.id for hit in reader.search("river", ids=wanted)} == {"id 1", "id 2"}
        kb.delete(ids=["id 1"])
        kb.add([Chunk("id 2", "changed"), Chunk("new", "a river")])
        hits = reader.search("river", ids=wanted)
        assert {hit.chunk.id: hit.chunk.text for hit in hits} == {"id 2": "changed", "new": "a river"}
        kb.compact()
        assert [hit.chunk for hit in reader.search("river", ids=wanted)] == [hit.chunk for hit in hits]


def test_a_scope_is_not_left_by_naming_ids(filled: Collection) -> None:
    """Ids outside are not found, in any mode."""
    with reperio.open(filled.info().path, read_only=True, embedder=TrigramEmbedder(), scope={"even": True}) as kb:
        for mode in ("dense", "lexical", "hybrid"):
            hits = kb.search("river bank", ids=["id 1", "id 2", "id 3", "id 4"], mode=mode)
            assert {hit.chunk.id for hit in hits} == {"id 2", "id 4"}


@pytest.mark.parametrize(
    ("ids", "message"), [(7, "ids is a int; pass a chunk id or a list"), (["a", 1], "ids holds 1; chunk ids are")]
)
def test_ids_are_strings(ids: Any, message: str, kb: Collection) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidInput, match=message):
        kb.search("river", ids=ids)
