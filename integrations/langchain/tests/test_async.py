"""The asynchronous methods: the same answers, and an event loop that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from langchain_reperio import ReperioRecordManager, ReperioRetriever, ReperioVectorStore
from tests.conftest import TEXTS, TrigramEmbeddings

TICKS = 50
VECTOR = [1.0] * 64


class Awaiting(TrigramEmbeddings):
    """Embeddings that return only once the event loop has ticked a while: in the loop itself they could never."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False
        self.ticked = threading.Event()
        self.threads: set[int] = set()

    def _vector(self, text: str) -> list[float]:
        if self.armed:
            self.threads.add(threading.get_ident())
            if not self.ticked.wait(timeout=30):
                raise AssertionError("the event loop stood still while a text was embedded")
        return super()._vector(text)


@pytest.fixture
async def awaiting(path: Path) -> AsyncIterator[tuple[ReperioVectorStore, Awaiting]]:
    embeddings = Awaiting()
    store = ReperioVectorStore(embeddings, path)
    store.add_texts(list(TEXTS.values()), ids=list(TEXTS))
    embeddings.armed = True
    yield store, embeddings
    embeddings.ticked.set()
    store.close()


CALLS: dict[str, Callable[[ReperioVectorStore], Awaitable[Any]]] = {
    "aadd_texts": lambda store: store.aadd_texts(["new"]),
    "aadd_documents": lambda store: store.aadd_documents([Document(page_content="new")]),
    "asimilarity_search": lambda store: store.asimilarity_search("fruit"),
    "asimilarity_search_with_score": lambda store: store.asimilarity_search_with_score("fruit"),
    "asimilarity_search_with_relevance_scores": lambda store: store.asimilarity_search_with_relevance_scores("fruit"),
    "amax_marginal_relevance_search": lambda store: store.amax_marginal_relevance_search("fruit"),
    "asearch": lambda store: store.asearch("fruit", "hybrid"),
    "as_retriever": lambda store: store.as_retriever().ainvoke("fruit"),
    "hybrid retriever": lambda store: store.as_retriever(search_type="hybrid").ainvoke("fruit"),
    "ReperioRetriever": lambda store: ReperioRetriever(vectorstore=store).ainvoke("fruit"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_the_event_loop_ticks_while_a_call_runs(name: str, awaiting: tuple[ReperioVectorStore, Awaiting]) -> None:
    """A call that takes its time leaves the loop to others: it ends because another coroutine has ticked meanwhile."""
    store, embeddings = awaiting
    call = asyncio.ensure_future(CALLS[name](store))
    for _ in range(TICKS):
        await asyncio.sleep(0.001)
        assert not call.done()
    embeddings.ticked.set()
    await call
    assert threading.get_ident() not in embeddings.threads
    assert embeddings.threads


async def test_every_asynchronous_method_gives_what_its_twin_gives(filled: ReperioVectorStore) -> None:
    """Of all public pairs of the framework's interface, and of ours beyond it."""
    dated: dict[str, Any] = {"k": 3, "filter": {"topic": {"$ne": "travel"}}}
    for name, arguments, options in (
        ("similarity_search", ("fruit",), dated),
        ("similarity_search_with_score", ("fruit",), dated),
        ("similarity_search_with_relevance_scores", ("fruit",), dated),
        ("similarity_search_by_vector", (VECTOR,), dated),
        ("max_marginal_relevance_search", ("fruit",), {"fetch_k": 5, "lambda_mult": 0.2, **dated}),
        ("max_marginal_relevance_search_by_vector", (VECTOR,), {"fetch_k": 5, "lambda_mult": 0.2, **dated}),
        ("search", ("fruit", "similarity"), dated),
        ("search", ("fruit", "mmr"), dated),
        ("search", ("fruit", "lexical"), dated),
        ("get_by_ids", (["apple", "no", "tram"],), {}),
    ):
        expected = getattr(filled, name)(*arguments, **options)
        assert await getattr(filled, f"a{name}")(*arguments, **options) == expected
        assert expected


async def test_asynchronous_adding_and_deleting(store: ReperioVectorStore) -> None:
    """Ids, Nones, batch sizes, filters and refusals as in the synchronous methods."""
    (first, second) = await store.aadd_texts(["one", "two"], [{"n": 1}, {"n": 2}], ids=["a", None], batch_size=1)
    assert first == "a"
    assert [document.metadata for document in await store.aget_by_ids([second])] == [{"n": 2}]
    with pytest.raises(ValueError, match="exactly one"):
        await store.adelete()
    assert await store.adelete(filter={"n": 2}) is True
    assert await store.adelete(["a", "no"]) is True
    assert store.collection.count() == 0
    await store.aadd_documents([Document(page_content="three")])
    assert await store.adelete(delete_all=True) is True
    assert store.collection.count() == 0


async def test_context_reaches_the_thread(path: Path) -> None:
    """Context variables, by which tracing works, are those of the caller."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Seeing(TrigramEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            seen.append(variable.get())
            return super().embed_query(text)

    with ReperioVectorStore(Seeing(), path) as store:
        store.add_texts(["one"])
        seen.clear()
        variable.set("mine")
        # three questions: one that is asked again is not embedded again
        await store.asimilarity_search("one")
        await store.asimilarity_search_with_relevance_scores("two")
        await ReperioRetriever(vectorstore=store).ainvoke("three")
    assert seen == ["mine"] * 3


@pytest.fixture
def fakes() -> Embeddings:
    return DeterministicFakeEmbedding(size=32)


async def test_many_readers_and_a_writer_in_the_executors_threads(path: Path, fakes: Embeddings) -> None:
    """Hundreds of searches, adds, deletes and records at once, on one store: each sees whole commits alone."""
    with ReperioVectorStore(fakes, path) as store:
        records = ReperioRecordManager("docs", store)

        async def write(writer: int) -> None:
            for turn in range(5):
                names = [f"{writer}-{turn}-{number}" for number in range(20)]
                await store.aadd_texts([f"text {name}" for name in names], [{"w": writer, "t": turn}] * 20, ids=names)
                await records.aupdate(names)
                if turn == 2:
                    await store.adelete(filter={"w": writer, "t": 0})

        async def read(question: int) -> None:
            for _ in range(10):
                turn = question % 5
                found = await store.asimilarity_search(f"text {question}", k=100, filter={"w": question % 4, "t": turn})
                assert len(found) in (0, 20)
                for document in found:
                    assert document.page_content == f"text {document.id}"

        await asyncio.gather(*(write(writer) for writer in range(4)), *(read(question) for question in range(20)))
        assert store.collection.count() == 4 * 4 * 20
        assert len(records.list_keys()) == 4 * 5 * 20
        assert store.collection.check().ok
