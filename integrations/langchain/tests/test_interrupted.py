"""Whatever ends an addition, Ctrl-C and cancellation too, tells which texts are stored."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document

from langchain_reperio import ReperioVectorStore
from tests.conftest import TrigramEmbeddings

TEN = [f"text {at}" for at in range(10)]


class Pressed(TrigramEmbeddings):
    """Embeddings during which Ctrl-C is pressed, at one text; or which raise what is no error of Reperio's."""

    def __init__(self, press: Any) -> None:
        super().__init__()
        self.press = press

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if "text 4" in texts and self.press is not None:
            self.press()
        return super().embed_documents(texts)


def exit_program() -> None:
    raise SystemExit(3)


def require_told(error: BaseException, store: ReperioVectorStore, number: int) -> None:
    told: Any = error
    assert [document.page_content for document in store.get_by_ids(told.stored_ids)] == TEN[:number]
    assert store.collection.ids() == told.stored_ids == told.ids[:number]
    assert len(told.ids) == 10
    if sys.version_info >= (3, 11):
        assert any(f"{number} of 10 texts are stored" in note for note in error.__notes__)


@pytest.mark.parametrize("press", [lambda: signal.raise_signal(signal.SIGINT), exit_program], ids=["ctrl-c", "exit"])
def test_ctrl_c_while_a_batch_is_embedded(path: Path, press: Any) -> None:
    """The batches before it are stored; with the ids of all, adding them again stores none twice."""
    embeddings = Pressed(press)
    with ReperioVectorStore(embeddings, path) as store:
        with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
            store.add_documents([Document(page_content=text) for text in TEN], batch_size=3)
        require_told(caught.value, store, 3)
        embeddings.press = None
        told: Any = caught.value
        assert store.add_texts(TEN, ids=told.ids) == told.ids
        assert store.collection.count() == 10


def test_ctrl_c_between_a_commit_and_its_acknowledgement(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is stored counts, though the collection was interrupted before it could say so."""
    with ReperioVectorStore(TrigramEmbeddings(), path) as store:
        add = type(store.collection).add

        def interrupted(kb: Any, chunks: Any, *, progress: Any, **options: Any) -> Any:
            def acknowledge(what: str, done: int, total: int | None) -> None:
                if done > 3:
                    raise KeyboardInterrupt
                progress(what, done, total)

            return add(kb, chunks, progress=acknowledge, **options)

        monkeypatch.setattr(type(store.collection), "add", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            store.add_texts(TEN, batch_size=3)
        require_told(caught.value, store, 6)


class Gated(TrigramEmbeddings):
    """Embeddings that wait in their thread at one text, until they are let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if "text 4" in texts:
            self.reached.set()
            assert self.go_on.wait(60)
        return super().embed_documents(texts)


async def test_a_cancelled_addition_ends_with_its_batch(path: Path) -> None:
    """The thread cannot be stopped, and stores its batch: the cancellation arrives afterwards, and counts it."""
    embeddings = Gated()
    with ReperioVectorStore(embeddings, path) as store:
        adding = asyncio.ensure_future(store.aadd_texts(TEN, batch_size=3))
        assert await asyncio.to_thread(embeddings.reached.wait, 60)
        for _ in range(2):  # impatient
            adding.cancel()
            await asyncio.sleep(0)
        embeddings.go_on.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await adding
        require_told(caught.value, store, 6)


class Hanging(TrigramEmbeddings):
    """Embeddings of a service that does not answer at one text."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        if "text 4" in texts:
            self.reached.set()
            await asyncio.Event().wait()
        return self.embed_documents(texts)


async def test_a_cancellation_ends_an_embedding_that_is_awaited(path: Path) -> None:
    """A service that does not answer is not waited for; `wait_for` hands the cancellation on as the cause."""
    embeddings = Hanging()
    async with await ReperioVectorStore.acreate(embeddings, path) as store:
        adding = asyncio.ensure_future(
            store.aadd_documents([Document(page_content=text) for text in TEN], batch_size=3)
        )
        await asyncio.wait_for(embeddings.reached.wait(), 60)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await adding
        require_told(caught.value, store, 3)


@pytest.mark.parametrize("awaited", [False, True])
def test_from_texts_tells_it_too(path: Path, awaited: bool) -> None:
    """Though the caller never gets the store."""
    embeddings = Pressed(exit_program)

    def make() -> ReperioVectorStore:
        if awaited:
            return asyncio.run(ReperioVectorStore.afrom_texts(TEN, embeddings, path=path, batch_size=3))
        return ReperioVectorStore.from_texts(TEN, embeddings, path=path, batch_size=3)

    with pytest.raises(SystemExit) as caught:
        make()
    with ReperioVectorStore(TrigramEmbeddings(), path) as store:
        require_told(caught.value, store, 3)
