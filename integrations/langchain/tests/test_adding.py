"""Adding many texts: what is stored where a batch fails, what a retry adds, and what becomes of blank pages."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from reperio import ReperioWarning
from reperio.errors import EmbedderFailed, InvalidInput, ReperioError

from langchain_reperio import ReperioVectorStore
from tests.conftest import TrigramEmbeddings


class Failing(TrigramEmbeddings):
    """Embeddings behind an API that fails at one text, until it is repaired."""

    broken = True

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.broken and "text 4" in texts:
            raise TimeoutError("no answer")
        return super().embed_documents(texts)


class FailingAwaited(Failing):
    """The same with coroutines of its own."""

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)


TEN = [f"text {at}" for at in range(10)]
Adds = Callable[..., list[str]]


@pytest.fixture(params=["called", "in a thread", "awaited"])
def failing(request: pytest.FixtureRequest, path: Any) -> Any:
    embeddings = FailingAwaited() if request.param == "awaited" else Failing()
    with ReperioVectorStore(embeddings, path) as store:

        def add(*arguments: Any, **options: Any) -> list[str]:
            if request.param == "called":
                return store.add_texts(*arguments, **options)
            return asyncio.run(store.aadd_texts(*arguments, **options))

        yield store, embeddings, add


def test_a_batch_that_fails_tells_what_is_stored(failing: tuple[ReperioVectorStore, Failing, Adds]) -> None:
    """Which texts, under which ids; adding them again with the ids of all stores none twice."""
    store, embeddings, add = failing
    with pytest.raises(EmbedderFailed, match=r"3 of 10 texts are stored.*stored_ids") as caught:
        add(TEN, batch_size=3)
    error = caught.value
    assert "no chunk of this call" not in str(error)
    assert [document.page_content for document in store.get_by_ids(error.stored_ids)] == TEN[:3]
    assert list(error.stored_ids) == list(error.ids[:3]) == store.collection.ids()
    assert len(error.ids) == 10
    embeddings.broken = False
    assert add(TEN, ids=error.ids, batch_size=3) == error.ids
    assert [document.page_content for document in store.get_by_ids(error.ids)] == TEN
    assert store.collection.count() == 10


def test_derived_ids_make_a_retry_add_nothing_twice(failing: tuple[ReperioVectorStore, Failing, Adds]) -> None:
    """The same text with the same metadata gets the same id; what occurs twice in a call is stored twice."""
    store, embeddings, add = failing
    texts, metadatas = [*TEN, "text 0", "text 0"], [*({"n": at} for at in range(10)), {"n": 0}, {"n": 7}]
    with pytest.raises(EmbedderFailed):
        add(texts, metadatas, batch_size=3, derive_ids=True)
    assert store.collection.count() == 3
    embeddings.broken = False
    for _ in range(2):
        ids = add(texts, metadatas, batch_size=5, derive_ids=True)
        assert len(set(ids)) == store.collection.count() == 12
    assert all(uuid.UUID(each).version == 5 for each in ids)
    assert add(["text 0", "other"], [{"n": 0}, {}], ids=[None, "own"], derive_ids=True) == [ids[0], "own"]


def test_a_call_that_stores_nothing_says_so(failing: tuple[ReperioVectorStore, Failing, Adds]) -> None:
    """Where the first batch fails, or a chunk is refused."""
    store, _, add = failing
    with pytest.raises(EmbedderFailed, match="no chunk of this call is stored") as caught:
        add(TEN)
    assert (list(caught.value.stored_ids), len(caught.value.ids)) == ([], 10)
    with pytest.raises(ReperioError) as refused:
        add(["a", "b"], [{}, {"it": object()}], batch_size=1, ids=["1", "2"])
    assert (list(refused.value.stored_ids), list(refused.value.ids)) == (["1"], ["1", "2"])
    assert store.collection.ids() == ["1"]


PAGES = [
    Document(id="1", page_content="one", metadata={"source": "a.pdf", "page": 0}),
    Document(id="2", page_content=" \n\t", metadata={"source": "a.pdf", "page": 1}),
    Document(id="3", page_content="three", metadata={"source": "b.pdf", "page": 0}),
    Document(id="4", page_content=""),
]


def test_a_blank_page_is_left_out_with_a_warning(store: ReperioVectorStore) -> None:
    """The others are stored; position and source are named, at the line that added them."""
    with pytest.warns(ReperioWarning, match=r"2 of 4 .*position 1 source 'a.pdf' page 1, position 3\)") as caught:
        assert store.add_documents(PAGES) == ["1", "3"]
    assert store.collection.ids() == ["1", "3"]
    with pytest.warns(ReperioWarning, match="position 0, position 1, position 2, position 3, position 4, …"):
        assert store.add_texts([" "] * 9) == []
    assert len(caught) == 1


async def test_blank_pages_are_left_out_when_awaited(store: ReperioVectorStore) -> None:
    """In the same way."""
    with pytest.warns(ReperioWarning, match="2 of 4"):
        assert await store.aadd_documents(PAGES) == ["1", "3"]
    with pytest.raises(InvalidInput, match=r"position 1 source 'a.pdf' page 1"):
        await store.aadd_documents(PAGES, on_blank="error")


def test_blank_pages_are_refused_on_request(path: Any, embeddings: TrigramEmbeddings) -> None:
    """on_blank="error" stores nothing; another word is refused."""
    with ReperioVectorStore(embeddings, path) as store:
        with pytest.raises(InvalidInput, match=r"position 1 source 'a.pdf' page 1.*nothing of this call is stored"):
            store.add_documents(PAGES, on_blank="error")
        with pytest.raises(InvalidInput, match="choose 'skip' or 'error'"):
            store.add_texts(["one"], on_blank="ignore")  # type: ignore[arg-type]  # what a user passes by mistake
        assert store.collection.count() == 0
    with pytest.raises(InvalidInput, match="2 of 4"):
        ReperioVectorStore.from_documents(PAGES, embeddings, path=path, on_blank="error")


def test_ready_vectors_take_blank_texts(store: ReperioVectorStore) -> None:
    """Nothing needs to be embedded, and nothing is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.add_embeddings([("", [1.0] * 64)], ids=["a"]) == ["a"]
    assert store.similarity_search_by_vector([1.0] * 64)[0].page_content == ""
