"""A handle with a scope: nothing outside is seen, counted, replaced or deleted, by whatever method."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import CallableReranker, Chunk, Collection, CollectionDamaged, InvalidInput, field
from reperio.collection.handle.scope import Scope
from reperio.filters.columns.columns import Columns
from tests.conftest import TrigramEmbedder, named

TENANT_A = {"tenant": "a"}
OUTSIDE: list[dict[str, Any]] = [
    {"tenant": "b"},
    {},
    {"tenant": None},
    {"tenant": "A"},
    {"tenant": {"x": "a"}},
    {"tenant": ["b"]},
    {"other": "a"},
    {"tenant\0": "a"},
]


@pytest.fixture
def shared(path: Path, embedder: TrigramEmbedder) -> Path:
    """Make a collection of 20 chunks inside the scope and 40 outside, and return where it is."""
    with reperio.open(path, embedder=embedder) as kb:
        chunks: list[Chunk] = []
        for n in range(20):
            chunks.append(Chunk(f"in-{n}", f"river bank {n}", {"tenant": "a", "n": n}))
            chunks += [Chunk(f"out-{n}-{i}", f"river bank {n}", {**OUTSIDE[(n + i) % 8], "n": n}) for i in range(2)]
        kb.add(chunks)
    return path


@pytest.fixture(params=["writer", "reader"])
def scoped(request: pytest.FixtureRequest, shared: Path, embedder: TrigramEmbedder) -> Iterator[Collection]:
    """Open it with a scope."""
    read_only = request.param == "reader"
    with reperio.open(shared, embedder=embedder, scope=TENANT_A, read_only=read_only) as kb:
        yield kb


@pytest.fixture
def writer(shared: Path, embedder: TrigramEmbedder) -> Iterator[Collection]:
    with reperio.open(shared, embedder=embedder, scope=TENANT_A) as kb:
        yield kb


def everything(path: Path) -> dict[str, Chunk]:
    with reperio.open(path, read_only=True) as kb:
        return {chunk.id: chunk for chunk in kb}


INSIDE = [f"in-{n}" for n in range(20)]

READ: dict[str, Callable[[Collection], list[str]]] = {
    "iteration": lambda kb: [chunk.id for chunk in kb],
    "get": lambda kb: [chunk.id for chunk in kb.get()],
    "get by ids": lambda kb: [chunk.id for chunk in kb.get([*INSIDE, "out-0-0", "out-3-1"])],
    "get by one id": lambda kb: [*INSIDE, *([] if kb.get("out-1-0") is None else ["out-1-0"])],
    "get by filter": lambda kb: [chunk.id for chunk in kb.get(where={"n": {"$gte": 0}})],
    "pages": lambda kb: [chunk.id for offset in range(0, 70, 10) for chunk in kb.get(limit=10, offset=offset)],
    "ids": lambda kb: kb.ids(),
    "ids by filter": lambda kb: kb.ids(where=field("n").exists()),
    "another tenant": lambda kb: INSIDE + kb.ids(where={"tenant": "b"}),
    "either tenant": lambda kb: kb.ids(where={"$or": [{"tenant": "b"}, {"tenant": "a"}, {"n": 3}]}),
    "not this tenant": lambda kb: INSIDE + kb.ids(where=field("tenant") != "a"),
    "no filter": lambda kb: kb.ids(where={}),
    "everything": lambda kb: kb.ids(where=reperio.filters.EVERYTHING),
}
SEARCHES: list[dict[str, Any]] = [
    {},
    {"recall": 1.0},
    {"where": {"n": {"$gte": 0}}},
    {"where": field("tenant") == "a"},
    {"mode": "lexical"},
    {"mode": "hybrid"},
    {"mode": "hybrid", "fusion": "rrf", "where": field("n") >= 0},
    {"diversity": 0.4},
    {"distinct": True},
    {"candidates": 80},
    {"min_score": -1.0},
    {"reranker": CallableReranker(lambda _query, texts: [float(len(text)) for text in texts])},
]


@pytest.mark.parametrize("way", READ)
def test_reading_sees_the_inside_alone(way: str, scoped: Collection) -> None:
    """All of it, and nothing else."""
    assert READ[way](scoped) == INSIDE


@pytest.mark.parametrize("options", SEARCHES, ids=named)
def test_searching_sees_the_inside_alone(options: dict[str, Any], scoped: Collection) -> None:
    """Every mode and option finds what is inside, all twenty of them."""
    for text in ("river bank 7", "bank"):
        assert {hit.chunk.id for hit in scoped.search(text, k=80, **options)} == set(INSIDE)
        assert {hit.chunk.id for hit in scoped.search_many([text, "river"], k=80, **options)[1]} == set(INSIDE)
        assert len(scoped.search(text, k=3, **options)) == 3
    assert scoped.search("river", k=80, **{**options, "where": field("tenant") == "b"}) == []


def test_a_reranker_is_shown_the_inside_alone(scoped: Collection) -> None:
    """What would be left out afterwards must not leave the process before."""
    seen: set[str] = set()

    def look(_query: str, texts: Any) -> list[float]:
        seen.update(texts)
        return [0.0] * len(texts)

    for mode in ("dense", "lexical", "hybrid"):
        scoped.search("river bank", mode=mode, k=40, candidates=200, reranker=CallableReranker(look))
    assert seen == {f"river bank {n}" for n in range(20)}


def test_counting_counts_the_inside_alone(scoped: Collection) -> None:
    """Also in `info`, which says nothing of the rest."""
    assert scoped.count() == scoped.count(where={}) == scoped.count(where=field("n").exists()) == 20
    assert scoped.count(where={"tenant": "b"}) == scoped.count(where={"tenant": {"$ne": "a"}}) == 0
    assert scoped.info().count == 20


def test_deleting_leaves_the_outside_alone(writer: Collection, shared: Path) -> None:
    """By id, by filter, and by filters that name the outside or match all of it."""
    before = everything(shared)
    assert writer.delete(ids=["out-0-0", "out-5-1", "nobody"]) == 0
    assert writer.delete(ids="out-1-0") == 0
    assert writer.delete(where={"tenant": "b"}) == writer.delete(where=field("tenant") != "a") == 0
    assert everything(shared) == before
    assert writer.delete(ids=["out-0-0", "in-3", "in-4"]) == 2
    assert writer.delete(where={"n": {"$lt": 10}}) == 8
    assert writer.delete(where={"$or": [{"tenant": "b"}, {"n": {"$gte": 0}}]}) == 10
    assert everything(shared) == {key: chunk for key, chunk in before.items() if key not in INSIDE}
    assert writer.count() == 0
    assert writer.search("river bank") == writer.search("river bank", mode="hybrid") == list(writer) == []
    with pytest.raises(InvalidInput, match=r"^where matches everything; to delete all chunks pass ids="):
        writer.delete(where={})


@pytest.mark.parametrize("metadata", OUTSIDE, ids=named)
def test_nothing_is_stored_outside(metadata: dict[str, Any], writer: Collection, shared: Path) -> None:
    """A new chunk, or an update that would move one out, is refused, with its whole batch."""
    before = everything(shared)
    for chunk_id in ("new", "in-3"):
        with pytest.raises(InvalidInput) as refused:
            writer.add([Chunk("fine", "text", TENANT_A), Chunk(chunk_id, "text", metadata)])
        assert str(refused.value) == (
            f"chunk {chunk_id!r} lies outside the scope of this handle, {{'tenant': {{'$eq': 'a'}}}}; give it metadata "
            "that matches, or open the collection with another scope"
        )
    assert everything(shared) == before


def test_nothing_outside_is_replaced(writer: Collection, shared: Path) -> None:
    """An id that is taken outside is refused, also when the new chunk would be equal; what is inside is replaced."""
    before = everything(shared)
    for chunk in (Chunk("out-2-1", "mine now", TENANT_A), Chunk("out-2-1", "river bank 2", {"tenant": "a", "n": 2})):
        with pytest.raises(InvalidInput) as refused:
            writer.add([chunk])
        assert str(refused.value) == (
            "the id 'out-2-1' is taken by a chunk outside the scope of this handle; ids are unique in the whole "
            "collection: prefix them, say with the tenant's name"
        )
    assert everything(shared) == before
    result = writer.add([Chunk("in-2", "new text", {"tenant": ["a", "a"]}), Chunk("new", "text", TENANT_A)])
    assert (result.added, result.updated) == (1, 1)
    assert writer.ids()[-2:] == ["in-2", "new"]
    assert len(everything(shared)) == len(before) + 1


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("optimize()", lambda kb, _path: kb.optimize()),
        ("tune()", lambda kb, _path: kb.tune()),
        ("compact()", lambda kb, _path: kb.compact()),
        ("reembed()", lambda kb, _path: kb.reembed(TrigramEmbedder(32))),
        ("check()", lambda kb, _path: kb.check()),
        ("backup()", lambda kb, path: kb.backup(path / "copy")),
        ("sample_queries()", lambda kb, _path: kb.sample_queries(10)),
        ("pull()", lambda kb, _path: kb.pull()),
    ],
)
def test_what_concerns_the_whole_is_refused(
    name: str, call: Callable[[Collection, Path], Any], scoped: Collection, tmp_path: Path
) -> None:
    """And leaves everything as it was."""
    with pytest.raises(InvalidInput) as refused:
        call(scoped, tmp_path)
    message = f"{name} concerns the whole collection, and this handle has a scope; open one without"
    assert str(refused.value) == message
    assert not (tmp_path / "copy").exists()
    assert scoped.ids() == INSIDE


def test_duplicates_are_those_of_the_scope(scoped: Collection) -> None:
    """Each text is stored once within and twice outside, with the same vector."""
    assert scoped.duplicates(by="text") == []
    assert scoped.duplicates(threshold=0.9999) == []
    pairs = list(scoped.duplicate_pairs(threshold=-1))
    assert len(pairs) == 20 * 19 // 2
    assert {chunk_id for pair in pairs for chunk_id in (pair.first, pair.second)} == {*INSIDE}


def test_no_public_method_was_forgotten() -> None:
    """A method that is new has to be tried here."""
    public = {name for name, _ in inspect.getmembers(Collection) if not name.startswith("_")}
    twins = {name for name in public if name.startswith("a") and name[1:] in public}
    for name in twins:  # each calls the method itself
        assert inspect.unwrap(getattr(Collection, name)) is inspect.unwrap(getattr(Collection, name[1:]))
    tried = {"search", "search_many", "get", "ids", "count", "info", "add", "delete", "records", "vectors"}
    tried |= {"duplicates", "duplicate_pairs"}
    refused = {"optimize", "tune", "compact", "reembed", "check", "backup", "sample_queries", "pull"}
    assert public - twins == tried | refused | {
        "close",
        "embed",
        "embedder",
        "fingerprint",
        "read_only",
        "scope",
        "turn",
    }  # these tell nothing of any chunk


def test_two_scopes_beside_one_another(shared: Path, embedder: TrigramEmbedder) -> None:
    """A writer of one tenant and readers of another and of all see each their own, also after a compaction."""
    with (
        reperio.open(shared, read_only=True, scope={"tenant": "b"}) as other,
        reperio.open(shared, read_only=True, scope=field("tenant").is_empty()) as empty,
        reperio.open(shared, read_only=True) as whole,
    ):
        with reperio.open(shared, embedder=embedder, scope=TENANT_A) as writer:
            before = other.ids(), empty.ids()
            assert not set(before[0]) & set(before[1])
            writer.delete(where={"n": {"$lt": 15}})
            writer.add([Chunk(f"more-{n}", "river", {"tenant": "a"}) for n in range(7)])
            assert (other.ids(), empty.ids()) == before
            assert writer.count() == 12
            assert whole.count() == 52
        with reperio.open(shared, embedder=embedder) as kb:
            kb.compact()
            kb.optimize(index="IVF1,PQ8x4fs")
            kb.delete(ids=[before[0][0]])
        assert other.ids() == before[0][1:]
        for handle in (other, empty):
            vector = embedder.embed_queries(["river"])[0]
            found = {hit.chunk.id for hit in handle.search(vector=vector, k=60, where=field("n").exists())}
            assert found == set(handle.ids())


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_fetched_is_checked_again(
    read_only: bool, shared: Path, embedder: TrigramEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the columns ever wrong, a handle with a scope would raise rather than hand out, or delete, a stranger."""
    before = everything(shared)
    evaluate = Columns.evaluate

    def everywhere(columns: Columns, *arguments: Any) -> Any:
        return np.full_like(evaluate(columns, *arguments), 0xFF)

    monkeypatch.setattr(Columns, "evaluate", everywhere)
    monkeypatch.setattr(Columns, "cached", lambda *_: None)
    asks: list[Callable[[Collection], Any]] = [
        lambda kb: kb.search("river bank", k=60),
        lambda kb: kb.search("river bank", k=60),  # from the masks of the view
        lambda kb: kb.search_many(["river"], k=60, where={"n": 3}),
        lambda kb: kb.search("river bank", k=60, mode="lexical"),
        lambda kb: kb.search("river bank", k=60, mode="hybrid"),
        lambda kb: kb.search("river bank", k=60, reranker=CallableReranker(lambda _query, texts: [0.0] * len(texts))),
        lambda kb: kb.get(),
        lambda kb: kb.get(where={"n": 3}),
        lambda kb: kb.ids(),
        lambda kb: kb.ids(where={"n": 3}),
        lambda kb: kb.get("out-3-0"),
        lambda kb: kb.vectors("out-3-0"),
        list,
    ]
    with reperio.open(shared, embedder=embedder, scope=TENANT_A, read_only=read_only) as kb:
        if not read_only:
            asks += [lambda kb: kb.delete(where={"n": 3}), lambda kb: kb.delete(ids="out-3-0")]
        for ask in asks:
            with pytest.raises(
                CollectionDamaged, match=r"a chunk outside the scope of this handle was found; run check"
            ):
                ask(kb)
    assert everything(shared) == before


def test_a_scope_is_a_filter_like_any(shared: Path) -> None:
    """Wrong ones are refused at open; an empty one is none; each may be a dictionary or a filter."""
    with pytest.raises(InvalidInput, match=r"where: unknown operator '\$eqq'; did you mean '\$eq'"):
        reperio.open(shared, scope={"tenant": {"$eqq": "a"}}, read_only=True)
    for scope, count in (({}, 60), (None, 60), (field("tenant") == "a", 20), (~(field("tenant") == "a"), 40)):
        with reperio.open(shared, scope=scope, read_only=True) as kb:
            assert kb.count() == len(kb.ids()) == count


def test_the_name_of_a_scope_keeps_its_numbers() -> None:
    """Records are kept under a scope's name: that of a large number is written as it always was."""
    assert Scope({"n": 2**62}).name == '(("n"),"$eq",4611686018427387904)'
    assert Scope({"n": 2.0**62}).name == Scope({"n": 2**62}).name
    assert Scope({"n": [2**62, 1]}).name == '(("n"),"$in",{1,4611686018427387904})'
