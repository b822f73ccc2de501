"""Embeddings that are awaited: their own coroutines, in the event loop, as many at once as there are calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import reperio
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from reperio.errors import EmbedderFailed, EmbeddingContractError, InvalidInput

from langchain_reperio import LangChainEmbedder, ReperioRetriever, ReperioVectorStore
from tests.conftest import METADATA, TEXTS, TrigramEmbeddings

AT_ONCE = 60
VECTOR = [1.0] * 64


class Native(TrigramEmbeddings):
    """Embeddings with coroutines of their own, which count who is awaited; asked otherwise, they fail."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []
        self.documents: list[list[str]] = []
        self.threads: set[int] = set()
        self.waiting = 0
        self.most = 0
        self.gate: asyncio.Event | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError

    async def aembed_query(self, text: str) -> list[float]:
        self.queries.append(text)
        await self._wait()
        return self._vector(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.documents.append(texts)
        await self._wait()
        return [self._vector(text) for text in texts]

    async def _wait(self) -> None:
        self.threads.add(threading.get_ident())
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.gate is not None:
            await asyncio.wait_for(self.gate.wait(), timeout=60)
        self.waiting -= 1

    def reset(self) -> None:
        self.queries, self.documents, self.most = [], [], 0


@pytest.fixture
def native() -> Native:
    return Native()


@pytest.fixture
async def opened(native: Native, path: Path) -> AsyncIterator[ReperioVectorStore]:
    async with await ReperioVectorStore.acreate(native, path) as store:
        await store.aadd_texts(list(TEXTS.values()), list(METADATA.values()), ids=list(TEXTS))
        native.reset()
        yield store


async def until(native: Native, number: int) -> None:
    """Wait until so many embeddings are awaited at once."""
    while native.waiting < number:
        await asyncio.sleep(0.001)


async def test_searches_await_their_embeddings_all_at_once(opened: ReperioVectorStore, native: Native) -> None:
    """Sixty searches: sixty embeddings are awaited before the first of them is answered, so they take one's time."""
    native.gate = asyncio.Event()
    calls = [asyncio.ensure_future(opened.asimilarity_search(f"question {at}", k=1)) for at in range(AT_ONCE)]
    await asyncio.wait_for(until(native, AT_ONCE), timeout=60)
    native.gate.set()
    found = await asyncio.gather(*calls)
    assert native.most == AT_ONCE
    assert [len(each) for each in found] == [1] * AT_ONCE
    assert sorted(native.queries) == sorted(f"question {at}" for at in range(AT_ONCE))
    assert native.threads == {threading.get_ident()}


async def test_additions_await_their_embeddings_all_at_once(opened: ReperioVectorStore, native: Native) -> None:
    """Many more than there are threads."""
    native.gate = asyncio.Event()
    calls = [asyncio.ensure_future(opened.aadd_texts([f"text {at}"], ids=[str(at)])) for at in range(AT_ONCE)]
    await asyncio.wait_for(until(native, AT_ONCE), timeout=60)
    native.gate.set()
    assert await asyncio.gather(*calls) == [[str(at)] for at in range(AT_ONCE)]
    assert opened.collection.count() == AT_ONCE + len(TEXTS)


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "similarity_search": (("fruit",), {}),
    "similarity_search_with_score": (("fruit",), {}),
    "similarity_search_with_relevance_scores": (("fruit",), {"score_threshold": 0.1}),
    "similarity_search_by_vector": ((VECTOR,), {}),
    "similarity_search_with_score_by_vector": ((VECTOR,), {}),
    "max_marginal_relevance_search": (("fruit",), {"fetch_k": 5}),
    "max_marginal_relevance_search_with_score": (("fruit",), {"fetch_k": 5}),
    "max_marginal_relevance_search_by_vector": ((VECTOR,), {"fetch_k": 5}),
    "max_marginal_relevance_search_with_score_by_vector": ((VECTOR,), {"fetch_k": 5}),
    "search": (("fruit", "hybrid"), {}),
}
FILTERS: list[Any] = [None, {"topic": "food"}, {"$text": {"$contains": "orchard"}}, lambda document: document.id != "x"]


@pytest.mark.parametrize("asked", FILTERS, ids=["none", "dictionary", "text", "function"])
@pytest.mark.parametrize("name", CALLS)
async def test_what_is_awaited_is_what_its_twin_gives(
    name: str, asked: Any, opened: ReperioVectorStore, native: Native, path: Path
) -> None:
    """Every search by coroutines alone gives what the same search gives with embeddings that are called."""
    arguments, options = CALLS[name]
    options = {"k": 3, "filter": asked} | options
    found = await getattr(opened, f"a{name}")(*arguments, **options)
    assert found
    with ReperioVectorStore(TrigramEmbeddings(), path) as called:
        assert getattr(called, name)(*arguments, **options) == found
    assert len(native.queries) == (arguments[0] == "fruit")


async def test_vectors_come_with_their_documents(opened: ReperioVectorStore) -> None:
    """similarity_search_with_vectors gives the vectors as they are compared."""
    found = await opened.asimilarity_search_with_vectors("fruit", k=2, filter={"topic": "food"})
    assert [document.id for document, _ in found] == [
        document.id for document in await opened.asimilarity_search("fruit", k=2, filter={"topic": "food"})
    ]
    for document, vector in found:
        assert (vector == opened.collection.vectors([str(document.id)])[0]).all()


async def test_a_question_asked_again_is_not_embedded_again(opened: ReperioVectorStore, native: Native) -> None:
    """The collection keeps the last questions, whichever method asked them; words alone need none."""
    await opened.asimilarity_search("fruit")
    await opened.amax_marginal_relevance_search("fruit")
    await opened.asearch("fruit", "hybrid")
    await ReperioRetriever(vectorstore=opened).ainvoke("fruit")
    await opened.as_retriever().ainvoke("fruit")
    assert [document.id for document in opened.similarity_search("fruit", k=1)]  # called, not awaited
    await opened.asearch("another", "lexical")
    assert native.queries == ["fruit"]


async def test_only_what_is_new_is_embedded(opened: ReperioVectorStore, native: Native) -> None:
    """Unchanged texts are not, a batch is one call, and a filter that is a function is asked once per document."""
    texts = [*TEXTS.values(), "one", "two", "three"]
    await opened.aadd_texts(texts, ids=[*TEXTS, "1", "2", "3"], batch_size=4)
    assert native.documents == [["one", "two"], ["three"]]
    await opened.aadd_documents([Document(id="1", page_content="one", metadata={"n": 1})])
    assert native.documents == [["one", "two"], ["three"]]
    assert opened.get_by_ids(["1"])[0].metadata == {"n": 1}
    asked: list[str | None] = []
    await opened.asimilarity_search("new question", filter=lambda document: not asked.append(document.id))
    assert len(asked) == len(texts)


async def test_a_blank_question_is_awaited_too(opened: ReperioVectorStore, native: Native) -> None:
    """A self-query that is all filter asks for a space."""
    found = await opened.asimilarity_search(" ", k=9, filter={"topic": "food"})
    assert {document.id for document in found} == {"apple", "pear"}
    assert native.queries == [" "]


async def test_opening_awaits_as_well(native: Native, path: Path) -> None:
    """Creating and opening embed the canaries in the loop; afrom_texts and afrom_documents do so, too."""
    async with await ReperioVectorStore.afrom_texts(
        ["one"], native, [{"n": 1}], ids=["a"], path=path, metric="l2"
    ) as a:
        assert a.get_by_ids(["a"])[0].metadata == {"n": 1}
    native.reset()
    documents = [Document(id="b", page_content="two")]
    async with await ReperioVectorStore.afrom_documents(documents, native, path=path, batch_size=1) as store:
        assert store.collection.info().metric == "l2"
        assert store.embeddings is native
        assert {document.id for document in await store.asimilarity_search("two", k=5)} == {"a", "b"}
    assert len(native.documents[0]) == 8
    assert native.threads == {threading.get_ident()}
    with pytest.raises(reperio.CollectionClosed):
        await store.asimilarity_search("two")


async def test_coroutines_alone_are_told_where_they_are_called(native: Native, path: Path) -> None:
    """The constructor and the synchronous methods name the way; nothing is left behind."""
    with pytest.raises(InvalidInput, match=r"await ReperioVectorStore\.acreate"):
        ReperioVectorStore(native, path)
    assert not path.exists()
    async with await ReperioVectorStore.acreate(native, path) as store:
        with pytest.raises(InvalidInput, match="asimilarity_search"):
            store.similarity_search("one")
        with pytest.raises(InvalidInput, match="aadd_texts"):
            store.add_texts(["one"])
    with pytest.raises(InvalidInput, match="did you mean 'metric'"):
        await ReperioVectorStore.acreate(native, path, metrics="l2")


@pytest.mark.usefixtures("opened")
async def test_other_embeddings_are_refused_when_they_are_awaited(path: Path) -> None:
    """The contract holds in both ways."""

    class Other(Native):
        def _vector(self, text: str) -> list[float]:
            return super()._vector(text[::-1])

    with pytest.raises(EmbeddingContractError, match="canary"):
        await ReperioVectorStore.acreate(Other(), path)
    with reperio.open(path, read_only=True) as kb:
        store = ReperioVectorStore(collection=kb)
        assert len(await store.asimilarity_search_by_vector(VECTOR, k=2)) == 2


async def test_what_a_coroutine_raises_is_told(opened: ReperioVectorStore, native: Native) -> None:
    """A network that fails is an EmbedderFailed with its cause; too few vectors are one, too."""

    async def failing(_: Any) -> Any:
        raise TimeoutError("no answer")

    async def short(_: Any) -> Any:
        return []

    native.aembed_query = native.aembed_documents = failing  # type: ignore[method-assign]  # a network that fails
    for call in (opened.asimilarity_search("new"), opened.aadd_texts(["new"])):
        with pytest.raises(EmbedderFailed, match="TimeoutError over 1 texts: no answer") as caught:
            await call
        assert isinstance(caught.value.__cause__, TimeoutError)
    native.aembed_documents = short  # type: ignore[method-assign]  # likewise
    with pytest.raises(EmbedderFailed, match="0 vectors for 1 texts"):
        await opened.aadd_texts(["new"])
    assert opened.collection.count() == len(TEXTS)


async def test_a_method_of_a_subclass_is_awaited(path: Path, embeddings: Embeddings) -> None:
    """As LangChain's own asynchronous methods call the synchronous one, whosoever it is."""

    class Mine(ReperioVectorStore):
        def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
            return [Document(page_content=f"mine: {query} {k} {kwargs}")]

    with Mine(embeddings, path) as store:
        assert await store.asimilarity_search("any", 3) == [Document(page_content="mine: any 3 {}")]


async def test_an_open_collection_is_awaited_by_its_embedder(path: Path) -> None:
    """A collection opened with LangChainEmbedder, in a store made of it."""

    class Both(Native):
        embed_query = TrigramEmbeddings.embed_query
        embed_documents = TrigramEmbeddings.embed_documents

    both = Both()
    with reperio.open(path, embedder=LangChainEmbedder(both)) as kb:
        store = ReperioVectorStore(collection=kb)
        await store.aadd_texts(["one"])
        await store.asimilarity_search("one")
    assert (both.queries, both.documents) == (["one"], [["one"]])
