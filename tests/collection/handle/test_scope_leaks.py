"""What a handle with a scope can find out about what lies outside: by what it is told, and by what has to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from tests.conftest import TrigramEmbedder

IN = {"tenant": "a"}
LONG = "zanzibar " * 50_000


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Record what every connection opened from now on is asked, without the values bound to it, and long answers."""
    told: list[str] = []

    def trace(_: apsw.Cursor, sql: str, __: Any) -> bool:
        told.append(sql)
        return True

    def measure(_: apsw.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        size = sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if size > 1000:
            told.append(f"a row of {size}")
        return row

    def hook(connection: apsw.Connection) -> None:
        connection.exec_trace, connection.row_trace = trace, measure

    apsw.connection_hooks.append(hook)
    yield told
    apsw.connection_hooks.remove(hook)


@pytest.fixture
def shared(path: Path, embedder: TrigramEmbedder) -> Path:
    """Make a collection of two tenants; one chunk of tenant b is long, one is short."""
    with reperio.open(path, embedder=embedder, auto_optimize=False) as kb:
        kb.add([Chunk(f"a{n}", f"alpha {n}", {"tenant": "a", "n": n}) for n in range(3)])
        kb.add([Chunk("long", LONG, {"tenant": "b"}), Chunk("short", "zanzibar", {"tenant": "b"})])
    return path


VECTOR = np.ones(64, dtype=np.float32)
ASKS: dict[str, Callable[[Collection, str], Any]] = {
    "get": lambda kb, name: kb.get(name),
    "get several": lambda kb, name: kb.get(["a1", name]),
    "get with a filter": lambda kb, name: kb.get(name, where={"n": {"$exists": False}}),
    "delete": lambda kb, name: kb.delete(ids=name),
    "delete with a filter": lambda kb, name: kb.delete(ids=[name], where={"tenant": "b"}),
    "search": lambda kb, name: kb.search(vector=VECTOR, ids=name),
    "search by words": lambda kb, name: kb.search("zanzibar", mode="lexical", ids=name),
}


@pytest.mark.parametrize("way", ASKS)
def test_a_foreign_id_asks_for_what_an_absent_one_does(
    way: str, shared: Path, embedder: TrigramEmbedder, statements: list[str]
) -> None:
    """The same answer, by the same statements: how long a foreign text is makes no difference to anything."""
    with reperio.open(shared, scope=IN, embedder=embedder, auto_optimize=False) as kb:
        answers = []
        ASKS[way](kb, "absent")  # the columns are read
        for name in ("absent", "short", "long"):
            statements.clear()
            answers.append((ASKS[way](kb, name), list(statements)))
    assert answers[0] == answers[1] == answers[2]


def test_vectors_of_a_foreign_id_are_those_of_an_absent_one(
    shared: Path, embedder: TrigramEmbedder, statements: list[str]
) -> None:
    """The same error except for the name asked for, by the same statements."""
    with reperio.open(shared, scope=IN, embedder=embedder, auto_optimize=False) as kb:
        told = []
        kb.count()
        for name in ("absent", "short", "long"):
            statements.clear()
            with pytest.raises(InvalidInput) as refused:
                kb.vectors(["a1", name])
            told.append((str(refused.value).replace(name, "…"), list(statements)))
    assert told[0] == told[1] == told[2]


def test_a_taken_id_is_refused_before_its_text_is_compared(
    shared: Path, embedder: TrigramEmbedder, statements: list[str]
) -> None:
    """Whether the text guessed is the foreign one shows neither in what is read nor in whether it is embedded."""
    with reperio.open(shared, scope=IN, embedder=embedder, auto_optimize=False) as kb:
        kb.count()
        told = []
        for name, text in (("short", "zanzibar"), ("short", "other"), ("long", LONG)):
            embedder.embedded.clear()
            statements.clear()
            with pytest.raises(InvalidInput, match="taken by a chunk outside the scope"):
                kb.add([Chunk(name, text, IN)])
            told.append((list(statements), list(embedder.embedded)))
    assert told[0] == told[1] == told[2]
    assert not told[0][1]
    assert not any("text" in statement for statement in told[0][0])


def test_going_through_all_reads_no_foreign_text(
    shared: Path, embedder: TrigramEmbedder, statements: list[str]
) -> None:
    """Only the rows inside are read, however many and long the others are."""
    with reperio.open(shared, scope=IN, embedder=embedder, read_only=True) as kb:
        kb.count()
        statements.clear()
        assert [chunk.id for chunk in kb] == ["a0", "a1", "a2"]
    assert all("row IN" in statement for statement in statements if " text" in statement)


@pytest.mark.parametrize("read_only", [False, True])
def test_info_through_a_scope_says_nothing_of_the_others(read_only: bool, shared: Path) -> None:
    """Whatever they store, delete or have indexed, it is the same; what belongs to one's own chunks is told."""

    def told() -> reperio.CollectionInfo:
        with reperio.open(shared, scope=IN, read_only=read_only, auto_optimize=False) as kb:
            return kb.info()

    before = told()
    assert (before.count, before.deleted, before.tail, before.index, before.disk) == (3, None, None, None, {})
    assert (before.dimension, before.embedder) == (64, "trigrams")
    with reperio.open(shared, auto_optimize=False) as kb:
        kb.add([Chunk(f"b{n}", "more", {"tenant": "b"}) for n in range(50)], vectors=np.ones((50, 64), np.float32))
        kb.delete(ids="long")
        kb.optimize(index="IVF1,Flat")
        assert kb.info().deleted == 1
        assert kb.info().index is not None
    assert told() == before


def test_a_handle_tells_its_own_scope(shared: Path) -> None:
    """As a dictionary that opens the same again, of whatever filter it was made; None without one."""
    with reperio.open(shared, scope=reperio.field("tenant") == "a", read_only=True) as kb:
        assert kb.scope == {"tenant": {"$eq": "a"}}
        with reperio.open(shared, scope=kb.scope, read_only=True) as again:
            assert again.ids() == kb.ids()
    with reperio.open(shared, scope={}, read_only=True) as kb:
        assert kb.scope is None
