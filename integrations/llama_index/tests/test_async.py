"""The asynchronous methods leave the event loop free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import node, to_query


class Waiting:
    """A reranker that answers once the event loop has ticked on: with the loop held up, it never would."""

    def __init__(self) -> None:
        self.ticked = threading.Event()
        self.asked = 0

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        del queries
        self.asked += 1
        if not self.ticked.wait(timeout=60):
            raise TimeoutError("the event loop stood still")
        return [[float(-at) for at in range(len(its))] for its in texts]


async def test_ten_queries_at_once_do_not_stall_the_loop(tmp_path: Path) -> None:
    """A gather of ten aquery waits inside the search while another coroutine ticks a hundred times."""
    reranker = Waiting()
    store = ReperioVectorStore(tmp_path / "kb", reranker=reranker)
    store.add([node(f"n{i}", (1.0, i / 10), text=f"word {i}") for i in range(10)])
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while reranker.asked == 0:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
            ticks += 1
        reranker.ticked.set()

    queries = [to_query((1.0, i / 10), mode="semantic_hybrid", query_str=f"word {i}", k=1) for i in range(10)]
    *results, _ = await asyncio.gather(*map(store.aquery, queries), tick())
    assert ticks == 100
    assert reranker.asked == 10
    assert all(len(result.ids) == 1 for result in results)
    store.close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add", ([node("b")],)),
        ("delete", ("d",)),
        ("delete_nodes", (["a"],)),
        ("get_nodes", (["a"],)),
        ("query", (to_query(),)),
        ("clear", ()),
    ],
)
async def test_every_method_runs_in_a_thread_and_does_the_same(
    store: ReperioVectorStore, monkeypatch: pytest.MonkeyPatch, name: str, arguments: tuple[Any, ...]
) -> None:
    """The synchronous one, elsewhere than in the loop's thread."""
    store.add([node("a", document="d")])
    threads: list[int] = []
    real = getattr(ReperioVectorStore, name)

    def watched(*given: Any, **kwargs: Any) -> Any:
        threads.append(threading.get_ident())
        return real(*given, **kwargs)

    monkeypatch.setattr(ReperioVectorStore, name, watched)
    asynchronous = {"add": "async_add"}.get(name, f"a{name}")
    found = await getattr(store, asynchronous)(*arguments)
    assert threads
    assert threading.get_ident() not in threads
    if name == "query":
        assert found.ids == ["a"]
    elif name == "get_nodes":
        assert [each.node_id for each in found] == ["a"]
    else:
        assert [each.node_id for each in store.get_nodes()] == (["a", "b"] if name == "add" else [])


async def test_filters_and_options_reach_the_asynchronous_query(store: ReperioVectorStore) -> None:
    """With aquery as with query: restrictions, options, errors."""
    await store.async_add([node("a", (1.0, 0.1)), node("b", (1.0, 0.2)), node("c", (0.0, 1.0))])
    query = to_query(k=2, mode="mmr", node_ids=["a", "b", "c"])
    assert (await store.aquery(query, mmr_threshold=0.2)).ids == ["a", "c"]
    assert (await store.aquery(query, mmr_threshold=1.0)).ids == ["a", "b"]
    with pytest.raises(ValueError, match="svm"):
        await store.aquery(to_query(mode="svm"))
    found = await store.aget_nodes(["c"], include_embeddings=True)
    assert found[0].embedding == pytest.approx([0.0, 1.0, 0.0, 0.0])


async def test_writers_and_readers_side_by_side(store: ReperioVectorStore) -> None:
    """Adds, deletes and queries in one gather: afterwards exactly what was not deleted is there."""
    await store.async_add([node("start")])
    await asyncio.gather(
        *(store.async_add([node(f"n{i}", (1.0, i), document=f"d{i}")]) for i in range(20)),
        *(store.aquery(to_query()) for _ in range(20)),
    )
    await asyncio.gather(*(store.adelete(f"d{i}") for i in range(0, 20, 2)))
    assert {each.node_id for each in store.get_nodes()} == {"start", *(f"n{i}" for i in range(1, 20, 2))}
