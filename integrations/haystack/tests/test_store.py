"""Documents come back whole, are durable, and are written by the policy that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reperio
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from reperio import InvalidInput

from haystack_integrations.document_stores.reperio import ReperioDocumentStore
from tests.conftest import DIMENSION, embed


def test_a_document_comes_back_whole(store: ReperioDocumentStore) -> None:
    """Its blob, its sparse embedding, the length of its embedding, a text that is none, and a reserved key."""
    whole = Document(
        id="a",
        content=None,
        blob=ByteStream(b"\x00\xff", {"source": "x"}, "image/png"),
        meta={"_haystack": "mine", "tags": ["a", {"b": None}]},
        embedding=[3.0, 4.0] + [0.0] * (DIMENSION - 2),
        sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25]),
    )
    store.write_documents([whole, Document(id="b", content=""), Document(id="c", content="x", embedding=embed("x"))])
    found = {each.id: each for each in store.filter_documents()}
    assert found["a"].embedding == pytest.approx(whole.embedding)
    assert found["a"] == Document(**{**vars(whole), "embedding": found["a"].embedding})
    assert (found["b"].content, found["b"].embedding, found["b"].meta) == ("", None, {})
    np.testing.assert_allclose(found["c"].embedding, embed("x"), rtol=1e-6)


def test_what_is_written_is_there_in_the_next_process(path: Path, filled: ReperioDocumentStore) -> None:
    """Another store on the same directory finds it at once, next to the first."""
    with ReperioDocumentStore(path, read_only=True) as other:
        assert other.count_documents() == filled.count_documents() == 6
    assert (path / "CURRENT").exists()
    with reperio.open(path, read_only=True) as kb:
        assert kb.get("apple").metadata["topic"] == "food"


def test_policies(store: ReperioDocumentStore) -> None:
    """Nothing is written where one is refused; the number is what Haystack says it is."""
    one, other = Document(id="1", content="one"), Document(id="1", content="other")
    two = Document(id="2", content="two")
    store.write_documents([one])
    with pytest.raises(DuplicateDocumentError, match="'1' is there already"):
        store.write_documents([two, other], policy=DuplicatePolicy.FAIL)
    assert store.count_documents() == 1
    assert store.write_documents([two, other, two], policy=DuplicatePolicy.SKIP) == 1
    assert store.write_documents([two, other, one], policy=DuplicatePolicy.OVERWRITE) == 3
    assert {each.id: each.content for each in store.filter_documents()} == {"1": "one", "2": "two"}
    with pytest.raises(DuplicateDocumentError, match="twice among those"):
        store.write_documents([Document(id="3", content="a"), Document(id="3", content="b")])


def test_a_store_is_serialized_by_its_directory(path: Path, filled: ReperioDocumentStore) -> None:
    """What is made of it again opens the same documents; one on an open collection cannot be."""
    again = ReperioDocumentStore.from_dict(filled.to_dict())
    assert again.to_dict() == filled.to_dict()
    assert again.to_dict()["type"].endswith("reperio.store.ReperioDocumentStore")
    with again:
        assert again.count_documents() == 6
    with (
        reperio.open(path, read_only=True) as kb,
        pytest.raises(InvalidInput, match="cannot be serialized"),
    ):
        ReperioDocumentStore(collection=kb).to_dict()


def test_a_scope_confines_everything(path: Path, filled: ReperioDocumentStore) -> None:
    """Counting, deleting all, and searching."""
    with ReperioDocumentStore(path, scope={"topic": "food"}) as food:
        assert food.count_documents() == 2
        food.delete_all_documents()
    assert filled.count_documents() == 4


def test_in_memory_and_on_an_open_collection() -> None:
    """Without a path, documents are gone with the store; an open collection stays open."""
    with ReperioDocumentStore(embedding_dimension=4) as store:
        store.write_documents([Document(id="1", content="x", embedding=[1.0, 0, 0, 0])])
        assert store.count_documents() == 1
    with reperio.open(":memory:", dimension=4) as kb:
        with ReperioDocumentStore(collection=kb) as store:
            store.write_documents([Document(id="1", content="x")])
        assert len(kb) == 1
        with pytest.raises(InvalidInput, match="is open already"):
            ReperioDocumentStore("elsewhere", collection=kb)


def test_deleting_by_no_filter_is_refused(filled: ReperioDocumentStore) -> None:
    """Too often it is a mistake; `delete_all_documents` says what is meant."""
    with pytest.raises(FilterError, match="delete_all_documents"):
        filled.delete_by_filter({})
