"""LangChain's embeddings under the embedding contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reperio
from langchain_core.embeddings import DeterministicFakeEmbedding, FakeEmbeddings
from reperio import Embedder
from reperio.embedding import load_embedder
from reperio.errors import EmbedderFailed, EmbeddingContractError, InvalidInput

from langchain_reperio import LangChainEmbedder, ReperioEmbeddings, ReperioVectorStore
from tests.conftest import TrigramEmbeddings
from tests.running import run_python


def test_the_canaries_are_checked_when_a_store_is_opened(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Embeddings of the same name and dimension that make other vectors are refused, and nothing is changed."""
    with ReperioVectorStore(embeddings, path) as store:
        store.add_texts(["one"], ids=["a"])
        assert store.collection.info().embedder == "trigrams"
    with pytest.raises(EmbeddingContractError, match="canary"):
        ReperioVectorStore(TrigramEmbeddings(salt="other"), path)
    with pytest.raises(EmbeddingContractError, match="32 dimensions, not 64"):
        ReperioVectorStore(TrigramEmbeddings(32), path)
    with pytest.raises(EmbeddingContractError):
        ReperioVectorStore(FakeEmbeddings(size=64), path)
    with ReperioVectorStore(TrigramEmbeddings(model="renamed"), path) as store:
        assert store.similarity_search("one")[0].id == "a"


def test_the_cure_for_other_embeddings_works(path: Path, embeddings: TrigramEmbeddings) -> None:
    """It is Python with the embedding: no name on the command line loads one of LangChain's."""
    ReperioVectorStore.from_texts(["one"], embeddings, path=path, ids=["a"]).close()
    embedding = TrigramEmbeddings(salt="other")
    with pytest.raises(EmbeddingContractError) as caught:
        ReperioVectorStore(embedding, path)
    told = str(caught.value)
    assert "reperio reembed" not in told
    cure = told[told.index("with reperio.open(") :]
    names = {"reperio": reperio, "LangChainEmbedder": LangChainEmbedder, "embedding": embedding}
    exec(cure, names)
    with ReperioVectorStore(embedding, path) as store:
        assert store.similarity_search("one")[0].id == "a"


def test_queries_that_changed_are_noticed(path: Path, embeddings: TrigramEmbeddings) -> None:
    """A forgotten query prompt changes queries alone; the canaries are embedded as those, too."""

    class Prompted(TrigramEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            return super().embed_query(f"represent this question for searching relevant passages: {text}")

    ReperioVectorStore.from_texts(["one"], embeddings, path=path).close()
    with pytest.raises(EmbeddingContractError, match="as queries"):
        ReperioVectorStore(Prompted(), path)


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"model": "text-embedding-3-small"}, "text-embedding-3-small"),
        ({"model_name": "all-MiniLM-L6-v2", "model": object()}, "all-MiniLM-L6-v2"),
        ({"model": ""}, "TrigramEmbeddings"),
    ],
)
def test_the_recorded_name_is_the_models(attributes: dict[str, Any], name: str, embeddings: TrigramEmbeddings) -> None:
    """What the embeddings tell, or their class."""
    for attribute, value in attributes.items():
        setattr(embeddings, attribute, value)
    assert LangChainEmbedder(embeddings).name == name


def test_both_adapters_fulfil_their_protocols(embeddings: TrigramEmbeddings) -> None:
    """There and back gives the same vectors, and the same object."""
    embedder = LangChainEmbedder(embeddings)
    assert isinstance(embedder, Embedder)
    assert embedder.dimension == 64
    assert embedder.embed_passages(["a", "b"]).shape == embedder.embed_queries(["a", "b"]).shape == (2, 64)
    back = ReperioEmbeddings(embedder)
    assert back.embed_query("some text") == embeddings.embed_query("some text")
    assert back.embed_documents(["a", "b"]) == embeddings.embed_documents(["a", "b"])
    assert {type(value) for value in back.embed_query("a")} == {float}


def test_what_is_no_embeddings_is_refused(path: Path) -> None:
    """With what to pass instead."""
    with pytest.raises(InvalidInput, match="ReperioEmbeddings"):
        ReperioVectorStore("all-MiniLM-L6-v2", path)  # type: ignore[arg-type]  # what a user passes by mistake
    for given in (len, object()):
        with pytest.raises(InvalidInput, match="ReperioEmbeddings"):
            ReperioVectorStore(given, path)  # type: ignore[arg-type]  # likewise
        with pytest.raises(InvalidInput, match="SentenceTransformerEmbedder"):
            ReperioEmbeddings(given)  # type: ignore[arg-type]  # likewise
    with pytest.raises(EmbedderFailed, match="no vector"):
        ReperioVectorStore(DeterministicFakeEmbedding(size=0), path)
    assert not path.exists()


def test_a_collection_of_ready_vectors_is_opened_with_embeddings(path: Path, embeddings: TrigramEmbeddings) -> None:
    """A collection without a contract, such as an imported one, takes any embeddings of its dimension."""
    with reperio.open(path, dimension=64) as kb:
        kb.add([reperio.Chunk("a", "one")], vectors=[embeddings.embed_query("one")])
        store = ReperioVectorStore(collection=kb)
        assert store.embeddings is None
        assert store.similarity_search_by_vector(embeddings.embed_query("one"))[0].id == "a"
        with pytest.raises(InvalidInput, match="no embedder"):
            store.similarity_search("one")
    with ReperioVectorStore(embeddings, path) as store:
        assert store.similarity_search("one")[0].id == "a"
    with pytest.raises(InvalidInput, match="64"):
        ReperioVectorStore(TrigramEmbeddings(32), path)


@pytest.mark.model
def test_a_model_by_name_is_loaded_by_the_core() -> None:
    """On the engine that suits it and this machine."""
    assert type(ReperioEmbeddings().embedder) is type(load_embedder(reperio.DEFAULT_EMBEDDER))
    with pytest.raises(EmbedderFailed):
        ReperioEmbeddings("no/such-model")


OPENED_ELSEWHERE = """
import sys
from langchain_reperio import ReperioVectorStore
with ReperioVectorStore(path=sys.argv[1]) as store:
    print(store.similarity_search("I forgot my password", k=1)[0].id, store.embeddings)
"""


@pytest.mark.model
def test_a_real_model_end_to_end(path: Path) -> None:
    """MiniLM through LangChain's interface finds by meaning; another process loads it by the name recorded."""
    minilm = ReperioEmbeddings(reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER))
    texts = ["To reset your password, follow the link.", "Invoices are sent on the first of the month."]
    with ReperioVectorStore.from_texts(texts, minilm, [{"n": 1}, {"n": 2}], ids=["a", "b"], path=path) as store:
        assert store.embeddings is minilm
        assert store.similarity_search("I cannot log in any more", k=1)[0].id == "a"
        assert store.similarity_search("When do I have to pay?", k=1)[0].id == "b"
        assert store.as_retriever(search_kwargs={"k": 1}).invoke("bills")[0].metadata == {"n": 2}
    printed = run_python(OPENED_ELSEWHERE, str(path))
    assert printed.split(maxsplit=1) == ["a", f"ReperioEmbeddings({reperio.DEFAULT_EMBEDDER!r})\n"]
