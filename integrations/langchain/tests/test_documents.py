"""Ids, metadata, and what is done to the caller's own objects: nothing."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

import pytest
import reperio
from langchain_core.documents import Document
from reperio.errors import CollectionLocked, InvalidInput, UnknownOption

from langchain_reperio import ReperioVectorStore
from tests.conftest import METADATA, TEXTS, TrigramEmbeddings

PLAIN: dict[str, Any] = {
    "id": "metadata has an id of its own",
    "text": "and a text",
    "page_content": "and a content",
    "_id": 7,
    "score": 0.25,
    "whole": 3,
    "float": 3.0,
    "large": 2**62,
    "true": True,
    "none": None,
    "empty": "",
    "list": [1, "two", [3.5, None], {"deep": []}],
    "object": {"a.b": {"$c": "\\"}, "": 0},
    "ключ": "значение 🍐",
}


def test_ids_are_kept_and_returned(store: ReperioVectorStore) -> None:
    """The ids given are those returned, found, and read."""
    assert store.add_texts(["one", "two"], ids=["b", "a"]) == ["b", "a"]
    assert {document.id for document in store.similarity_search("one")} == {"a", "b"}
    assert [document.id for document in store.get_by_ids(["a", "b"])] == ["a", "b"]


@pytest.mark.parametrize("given", [["x", None, "y", None], (None, None, None, None), None, []])
def test_a_missing_id_is_generated_and_returned(store: ReperioVectorStore, given: Any) -> None:
    """Ids and Nones may be mixed; what is returned for a None is the generated id, and leads to the document."""
    returned = store.add_texts(["one", "two", "three", "four"], ids=given)
    for number, each in enumerate(given or [None] * 4):
        assert returned[number] == each if each else uuid.UUID(returned[number]).version == 4
    assert [document.page_content for document in store.get_by_ids(returned)] == ["one", "two", "three", "four"]


def test_documents_with_and_without_ids_are_mixed(store: ReperioVectorStore) -> None:
    """add_documents takes both; the generated id is returned, and the document passed in keeps its None."""
    documents = [Document(id="x", page_content="one"), Document(page_content="two")]
    returned = store.add_documents(documents)
    assert returned[0] == "x"
    assert [document.page_content for document in store.get_by_ids(returned)] == ["one", "two"]
    assert documents[1].id is None


def test_ids_beside_documents_take_precedence(store: ReperioVectorStore) -> None:
    """As the framework has it, ids= wins over the documents' own."""
    assert store.add_documents([Document(id="x", page_content="one")], ids=["y"]) == ["y"]
    assert store.get_by_ids(["x"]) == []


def test_an_id_stored_already_is_replaced(store: ReperioVectorStore) -> None:
    """An upsert replaces text and metadata, and leaves one document."""
    store.add_texts(["old"], [{"v": 1}], ids=["a"])
    store.add_texts(["new"], [{"w": 2}], ids=["a"])
    assert store.similarity_search("old", k=5) == [Document(id="a", page_content="new", metadata={"w": 2})]


def test_an_unchanged_text_is_not_embedded_again(store: ReperioVectorStore, embeddings: TrigramEmbeddings) -> None:
    """Metadata alone changes without a call of the model."""
    store.add_texts(["text"], [{"v": 1}], ids=["a"])
    embeddings.embedded.clear()
    store.add_texts(["text"], [{"v": 2}], ids=["a"])
    assert embeddings.embedded == []
    assert store.get_by_ids(["a"])[0].metadata == {"v": 2}


def test_one_id_twice_in_one_call_is_refused(store: ReperioVectorStore) -> None:
    """The first document would be lost; nothing is stored."""
    with pytest.raises(InvalidInput, match=r"documents 0 and 2 have the same id 'a'"):
        store.add_texts(["one", "two", "three"], ids=["a", "b", "a"])
    assert store.collection.count() == 0


def test_metadata_comes_back_exactly(store: ReperioVectorStore) -> None:
    """A key named "id", nested objects, types, and odd keys are as they were, by search and by id."""
    store.add_texts(["text"], [PLAIN], ids=["a"])
    for found in (store.similarity_search("text")[0], store.get_by_ids(["a"])[0]):
        assert found.metadata == PLAIN
        assert [type(found.metadata[key]) for key in PLAIN] == [type(value) for value in PLAIN.values()]
        assert found.id == "a"


def test_inputs_are_never_changed(store: ReperioVectorStore) -> None:
    """Lists, dictionaries and documents passed in are what they were."""
    texts, metadatas, ids = ["one", "two"], [{"a": [1]}, {}], ["x", None]
    documents = [Document(page_content="three", metadata={"b": {"c": 1}})]
    before = copy.deepcopy((texts, metadatas, ids, documents))
    asked = {"a": {"$exists": True}}
    store.add_texts(texts, metadatas, ids=ids)
    store.add_documents(documents)
    store.similarity_search("one", filter=asked)
    assert (texts, metadatas, ids, documents) == before
    assert asked == {"a": {"$exists": True}}


def test_changing_a_result_changes_nothing_stored(store: ReperioVectorStore) -> None:
    """Each search hands out documents of its own, also where they come from memory."""
    store.add_texts(["text"], [{"list": [1], "object": {"a": 1}}], ids=["a"])
    for _ in range(4):
        found = store.similarity_search("text")[0]
        assert found.metadata == {"list": [1], "object": {"a": 1}}
        found.metadata["list"].append(2)
        found.metadata["object"]["b"] = 2
        found.metadata["new"] = True


def test_no_score_is_put_into_the_metadata(filled: ReperioVectorStore) -> None:
    """Metadata is what was stored, whichever way it was searched."""
    for found in (
        filled.similarity_search("fruit"),
        [document for document, _ in filled.similarity_search_with_score("fruit")],
        [document for document, _ in filled.similarity_search_with_relevance_scores("fruit")],
        filled.max_marginal_relevance_search("fruit"),
        filled.search("fruit", "hybrid"),
        filled.as_retriever().invoke("fruit"),
    ):
        assert found
        for document in found:
            assert document.metadata == METADATA[str(document.id)]


def test_an_empty_store_finds_nothing(store: ReperioVectorStore) -> None:
    """Every search of an empty store returns an empty list."""
    vector = [1.0] * 64
    assert store.similarity_search("any") == []
    assert store.similarity_search_with_score("any") == []
    assert store.similarity_search_with_relevance_scores("any") == []
    assert store.similarity_search_by_vector(vector) == []
    assert store.max_marginal_relevance_search("any") == []
    assert store.max_marginal_relevance_search_by_vector(vector) == []
    assert store.search("any", "hybrid") == store.search("any", "lexical") == []
    assert store.similarity_search("any", filter=bool) == []
    assert store.get_by_ids(["a"]) == []
    assert store.add_texts([]) == store.add_embeddings([]) == store.add_documents([]) == []


def test_get_by_ids_skips_what_is_missing(filled: ReperioVectorStore) -> None:
    """Ids that are not there are left out, the others come in the order asked for."""
    assert [document.id for document in filled.get_by_ids(["tram", "no", "apple"])] == ["tram", "apple"]


def test_deleting_missing_ids_is_no_error(filled: ReperioVectorStore) -> None:
    """True, and the others remain."""
    assert filled.delete(["no", "apple"]) is True
    assert filled.delete([]) is True
    assert filled.collection.count() == len(TEXTS) - 1


def test_delete_none_is_refused_without_delete_all(filled: ReperioVectorStore) -> None:
    """A None that was meant to be a list deletes nothing; delete_all=True deletes everything."""
    for arguments in (
        {},
        {"ids": None},
        {"ids": ["apple"], "delete_all": True},
        {"ids": ["apple"], "filter": {"a": 1}},
    ):
        with pytest.raises(InvalidInput, match="exactly one"):
            filled.delete(**arguments)
    with pytest.raises(InvalidInput, match="matches everything"):
        filled.delete(filter={})
    assert filled.collection.count() == len(TEXTS)
    assert filled.delete(delete_all=True) is True
    assert filled.collection.count() == 0
    assert filled.similarity_search("fruit") == []


def test_delete_by_filter(filled: ReperioVectorStore) -> None:
    """A dictionary or a function says what goes."""
    assert filled.delete(filter={"topic": "food"}) is True
    assert filled.delete(filter=lambda document: document.metadata["year"] == 2024) is True
    assert sorted(filled.collection.ids()) == ["error", "train"]


@pytest.mark.parametrize("arguments", [{"metadatas": [{}]}, {"ids": ["a", "b", "c"]}])
def test_lists_of_different_lengths_are_refused(store: ReperioVectorStore, arguments: dict[str, Any]) -> None:
    """A ValueError, as the framework has it; nothing is stored."""
    with pytest.raises(ValueError, match="2 texts with"):
        store.add_texts(["one", "two"], **arguments)
    assert store.collection.count() == 0


def test_batch_size_is_understood_everywhere_the_framework_passes_it(store: ReperioVectorStore) -> None:
    """The indexing API passes batch_size; it is the number of texts per commit."""
    store.add_texts(["one", "two", "three"], batch_size=2)
    store.add_documents([Document(page_content="four")], batch_size=1)
    with pytest.raises(InvalidInput, match="batch_size"):
        store.add_texts(["five"], batch_size=0)
    assert store.collection.count() == 4


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("add_texts", (["a"],), "did you mean 'batch_size'"),
        ("add_documents", ([Document(page_content="a")],), "did you mean 'batch_size'"),
        ("add_embeddings", ([("a", [1.0] * 64)],), "did you mean 'batch_size'"),
        ("delete", (["a"],), "batch_sise"),
        ("similarity_search", ("a",), "batch_sise"),
        ("similarity_search_with_score", ("a",), "batch_sise"),
        ("similarity_search_with_relevance_scores", ("a",), "batch_sise"),
        ("similarity_search_by_vector", ([1.0] * 64,), "batch_sise"),
        ("max_marginal_relevance_search", ("a",), "batch_sise"),
        ("max_marginal_relevance_search_by_vector", ([1.0] * 64,), "batch_sise"),
    ],
)
def test_unknown_options_are_refused(
    store: ReperioVectorStore, method: str, arguments: tuple[Any, ...], message: str
) -> None:
    """A misspelt option is an error that names what there is, in every method."""
    with pytest.raises(UnknownOption, match=message):
        getattr(store, method)(*arguments, batch_sise=3)


def test_options_of_other_stores_say_where_they_went(store: ReperioVectorStore) -> None:
    """What LangChain's FAISS store takes is refused with what took its place."""
    with pytest.raises(UnknownOption, match="filters are applied before the search"):
        store.similarity_search("a", fetch_k=100)
    with pytest.raises(UnknownOption, match="min_score"):
        store.similarity_search_with_score("a", score_threshold=0.5)
    with pytest.raises(UnknownOption, match="did you mean 'filter'"):
        store.similarity_search("a", filters={"a": 1})
    with pytest.raises(UnknownOption, match="did you mean 'metric'"):
        ReperioVectorStore(path="nowhere", metrics="l2")


def test_from_texts_and_from_documents(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Both create a store, or add to the one that is there, which opens again with everything in it."""
    with ReperioVectorStore.from_texts(["one"], embeddings, [{"a": 1}], ids=["x"], path=path, metric="l2") as store:
        assert store.get_by_ids(["x"]) == [Document(id="x", page_content="one", metadata={"a": 1})]
    documents = [Document(id="y", page_content="two"), Document(page_content="three")]
    with ReperioVectorStore.from_documents(documents, embeddings, path=path, batch_size=1) as store:
        assert store.collection.count() == 3
        assert store.collection.info().metric == "l2"
    with ReperioVectorStore(embeddings, path, read_only=True) as store:
        assert store.similarity_search("two", k=1)[0].id == "y"


async def test_afrom_texts_and_afrom_documents(path: Path, embeddings: TrigramEmbeddings) -> None:
    """The asynchronous pair does the same."""
    store = await ReperioVectorStore.afrom_texts(["one"], embeddings, [{"a": 1}], ids=["x"], path=path)
    store.close()
    store = await ReperioVectorStore.afrom_documents([Document(id="y", page_content="two")], embeddings, path=path)
    assert store.get_by_ids(["x", "y"])[0].metadata == {"a": 1}
    store.close()


def test_from_texts_that_fails_leaves_no_lock(path: Path, embeddings: TrigramEmbeddings) -> None:
    """The store that nobody was given is closed: even one that lets nobody else write opens."""
    with pytest.raises(InvalidInput):
        ReperioVectorStore.from_texts(["one"], embeddings, ids=["a", "b"], path=path)
    reperio.open(path, exclusive=True, lock_timeout=0).close()


def test_stores_of_one_path_all_write(path: Path, embeddings: TrigramEmbeddings) -> None:
    """A notebook's cell that is run again, or several workers: each store writes, and finds what the other has."""
    with ReperioVectorStore(embeddings, path) as one, ReperioVectorStore(embeddings, path) as two:
        for number in range(5):
            one.add_texts([f"text {number} of one"], ids=[f"one-{number}"])
            two.add_texts([f"text {number} of two"], ids=[f"two-{number}"])
            assert two.similarity_search(f"text {number} of one", k=1)[0].id == f"one-{number}"
            assert one.similarity_search(f"text {number} of two", k=1)[0].id == f"two-{number}"
        two.delete(["one-0"])
        assert one.get_by_ids(["one-0"]) == []
        assert one.collection.count() == two.collection.count() == 9
    with reperio.open(path, exclusive=True) as holder:
        with pytest.raises(CollectionLocked):
            reperio.open(path, exclusive=True, lock_timeout=0)
        assert holder.check().ok


def test_without_a_path_it_is_in_memory(embeddings: TrigramEmbeddings) -> None:
    """As LangChain's own stores are; two have nothing of each other."""
    with (
        ReperioVectorStore.from_texts(["one"], embeddings) as first,
        ReperioVectorStore(embeddings) as second,
    ):
        assert [found.page_content for found in first.similarity_search("one")] == ["one"]
        assert second.similarity_search("one") == []
        assert first.collection.info().path == ":memory:"


def test_ready_vectors_are_stored_without_a_call_of_the_model(
    store: ReperioVectorStore, embeddings: TrigramEmbeddings
) -> None:
    """add_embeddings takes pairs of text and vector."""
    embeddings.embedded.clear()
    ids = store.add_embeddings([("one", [1.0] * 64), ("two", embeddings.embed_query("two"))], [{"n": 1}, {"n": 2}])
    assert embeddings.embedded == []
    assert store.similarity_search_by_vector([1.0] * 64, k=1)[0] == Document(
        id=ids[0], page_content="one", metadata={"n": 1}
    )


def test_one_string_is_no_list_of_ids(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Each of its letters would be an id; reading and deleting refuse it."""
    with ReperioVectorStore.from_texts(["two", "three"], embeddings, path=path, ids=["2", "3"]) as store:
        for call in (store.get_by_ids, store.delete):
            with pytest.raises(InvalidInput, match=r"ids is one string; pass a list of ids: \['23'\]"):
                call("23")  # type: ignore[arg-type,operator]  # what a program without types may pass
        assert len(store.get_by_ids(["2", "3"])) == 2
