"""Opening: the options there are, models that are refused, and collections in which nothing is stored."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import reperio
from langchain_core.embeddings import FakeEmbeddings
from reperio import Limits, field
from reperio.errors import CollectionNotFound, EmbedderFailed, EmbeddingContractError, InvalidChunk, InvalidInput

from langchain_reperio import LangChainEmbedder, ReperioVectorStore
from tests.conftest import TrigramEmbeddings
from tests.test_async import Awaiting


class Counting(TrigramEmbeddings):
    """Count the calls."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.calls: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append("documents")
        return super().embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        self.calls.append("query")
        return super().embed_query(text)


def test_canaries_are_embedded_once_at_creation(path: Path) -> None:
    """Ten calls: one for the dimension, one of eight documents, eight questions; and as many at each opening."""
    for _ in range(2):
        counting = Counting()
        ReperioVectorStore(counting, path).close()
        assert sorted(counting.calls) == ["documents"] + ["query"] * 9


def test_embeddings_that_are_refused_leave_nothing_behind(path: Path) -> None:
    """Random ones, those that fail at the canaries, those without numbers: no folder is made."""

    class Late(TrigramEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise TimeoutError(f"no answer to {len(texts)} texts")

    class Empty(TrigramEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[float("nan")] * 64 for _ in texts]

    with pytest.raises(EmbeddingContractError, match="another vector of the same text each time"):
        ReperioVectorStore(FakeEmbeddings(size=64), path)
    with pytest.raises(EmbedderFailed, match="no answer"):
        ReperioVectorStore(Late(), path)
    with pytest.raises(InvalidInput, match="vectors from trigrams"):
        ReperioVectorStore(Empty(), path)
    with pytest.raises(InvalidInput, match="65,536"):
        ReperioVectorStore(TrigramEmbeddings(70_000), path)
    with pytest.raises(InvalidInput, match="relevance"):
        ReperioVectorStore(TrigramEmbeddings(), path, relevance="other")  # type: ignore[arg-type]  # a mistake
    assert not path.exists()


async def test_random_embeddings_are_refused_when_awaited(path: Path) -> None:
    """As by the constructor."""
    with pytest.raises(EmbeddingContractError, match="another vector"):
        await ReperioVectorStore.acreate(FakeEmbeddings(size=64), path)
    assert not path.exists()


@pytest.mark.parametrize(
    "other", [TrigramEmbeddings(32), TrigramEmbeddings(salt="other", model="other")], ids=["longer", "other"]
)
def test_an_empty_collection_takes_another_model(path: Path, other: TrigramEmbeddings) -> None:
    """One in which nothing was stored yet, or is any more, with its metric; one that holds a text does not."""
    ReperioVectorStore(TrigramEmbeddings(), path, metric="l2").close()
    with ReperioVectorStore(other, path) as store:
        assert store.collection.info().embedder == other.model
        assert store.collection.info().metric == "l2"
        store.add_texts(["one"], ids=["a"])
        assert store.similarity_search("one", k=1)[0].id == "a"
        store.delete(["a"])
    with ReperioVectorStore(TrigramEmbeddings(16), path) as store:
        store.add_texts(["one"], ids=["a"])
    with pytest.raises(EmbeddingContractError):
        ReperioVectorStore(other, path)
    with ReperioVectorStore(TrigramEmbeddings(16), path) as store:
        assert store.similarity_search("one")[0].id == "a"


def test_what_a_scope_hides_is_not_taken_for_nothing(path: Path) -> None:
    """Through a scope a collection looks empty that is not: it keeps its model; and so does one that is only read."""
    with ReperioVectorStore(TrigramEmbeddings(), path) as store:
        store.add_texts(["one"], [{"tenant": "a"}])
    with pytest.raises(EmbeddingContractError):
        ReperioVectorStore(TrigramEmbeddings(32), path, scope={"tenant": "b"})
    with ReperioVectorStore(TrigramEmbeddings(), path) as store:
        store.delete(delete_all=True)
    with pytest.raises(EmbeddingContractError):
        ReperioVectorStore(TrigramEmbeddings(32), path, read_only=True)


def test_options_of_a_collection(path: Path, embeddings: TrigramEmbeddings) -> None:
    """How vectors are kept, how texts are cut into words, and how much one call may ask for."""
    limits = Limits(text=10, k=2)
    with ReperioVectorStore(embeddings, path, dtype="float16", lexical="trigram", limits=limits) as store:
        store.add_texts(["абвгд"], ids=["a"])
        assert store.collection.info().dtype == "float16"
        assert store.search("бвг", "lexical", k=1)[0].id == "a"
        with pytest.raises(InvalidChunk, match="at most 10"):
            store.add_texts(["x" * 11])
        with pytest.raises(InvalidInput, match="k"):
            store.similarity_search("x", k=3)
    with pytest.raises(InvalidInput, match="dtype float16"):
        ReperioVectorStore(embeddings, path, dtype="float32")


def test_a_collection_that_must_exist_is_not_created(path: Path, embeddings: TrigramEmbeddings) -> None:
    """A misspelt path is an error instead of an empty store."""
    with pytest.raises(CollectionNotFound, match="must_exist"):
        ReperioVectorStore(embeddings, path, must_exist=True)
    with pytest.raises(CollectionNotFound):
        ReperioVectorStore(embeddings, must_exist=True)
    assert not path.exists()
    ReperioVectorStore(embeddings, path).close()
    ReperioVectorStore(embeddings, path, must_exist=True).close()


def test_collections_below_a_path(tmp_path: Path, embeddings: TrigramEmbeddings) -> None:
    """Each name is a folder of its own; what is no name of one folder is refused."""
    for name in ("faq", "news 2024", "Ärzte"):
        with ReperioVectorStore.from_texts([name], embeddings, path=tmp_path, collection_name=name) as store:
            assert [each.page_content for each in store.similarity_search("any", k=9)] == [name]
        assert reperio.open(tmp_path / name, read_only=True).count() == 1
    for name in ("", ".", "..", "a/b", "a\\b", "/tmp", "~root", "c:", ":memory:", "x" * 201, "a\0b", 7):
        with pytest.raises(InvalidInput, match="name of one folder"):
            ReperioVectorStore(embeddings, tmp_path, collection_name=name)  # type: ignore[arg-type]  # 7 is none
    with pytest.raises(InvalidInput, match="in memory"):
        ReperioVectorStore(embeddings, collection_name="faq")


def test_memory_by_name(embeddings: TrigramEmbeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path ":memory:" is a collection in memory, and no folder of that name."""
    monkeypatch.chdir(tmp_path)
    with ReperioVectorStore.from_texts(["one"], embeddings, path=":memory:") as store:
        assert store.collection.info().path == ":memory:"
    assert not list(tmp_path.iterdir())


def test_options_next_to_an_open_collection_are_refused(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Those that were given are named."""
    with reperio.open(path, embedder=LangChainEmbedder(embeddings)) as kb:
        for options in ({"dtype": "float16"}, {"must_exist": True}, {"scope": field("a") == 1}, {"path": path}):
            with pytest.raises(InvalidInput, match=f"so {next(iter(options))} is settled"):
                ReperioVectorStore(collection=kb, **options)  # type: ignore[arg-type]  # of several kinds


@pytest.mark.parametrize("way", ["acreate", "afrom_texts"])
async def test_opening_leaves_the_event_loop_alone(way: str, path: Path) -> None:
    """It ends because another coroutine has ticked meanwhile, whose turn it would else never be."""
    embeddings = Awaiting()
    embeddings.armed = True
    made = {
        "acreate": lambda: ReperioVectorStore.acreate(embeddings, path),
        "afrom_texts": lambda: ReperioVectorStore.afrom_texts(["one"], embeddings, path=path),
    }[way]
    call = asyncio.ensure_future(made())
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert not call.done()
    embeddings.ticked.set()
    async with await call:
        assert threading.get_ident() not in embeddings.threads
