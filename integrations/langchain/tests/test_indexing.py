"""The indexing API: every cleanup mode, sync and async, with its records in the collection's own database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reperio
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import InMemoryVectorStore
from reperio import Chunk

from langchain_reperio import ReperioRecordManager, ReperioVectorStore
from tests.conftest import TrigramEmbeddings

MODES = (None, "incremental", "full", "scoped_full")


def documents(**sources: str) -> list[Document]:
    """Return one document per word of each source."""
    return [
        Document(page_content=f"{source} says {word}", metadata={"source": source})
        for source, words in sources.items()
        for word in words.split()
    ]


RUNS = [
    documents(a="one two three", b="four five"),
    documents(a="one two three", b="four five"),
    documents(a="one six", b="four five"),
    documents(a="one six"),
    documents(c="seven"),
    [],
    documents(a="one two three", b="four five", c="seven"),
]


def texts(store: Any) -> set[str]:
    return {document.page_content for document in store.similarity_search("says", k=100)}


def options(mode: Any) -> dict[str, Any]:
    return {"cleanup": mode, "source_id_key": "source", "key_encoder": "sha256"}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_does_what_it_does_with_langchains_own_parts(
    mode: Any, store: ReperioVectorStore, embeddings: TrigramEmbeddings
) -> None:
    """Run after run, numbers and contents equal those of langchain-core's in-memory store and record manager."""
    theirs, their_records = InMemoryVectorStore(embeddings), InMemoryRecordManager("docs")
    records = ReperioRecordManager("docs", store)
    records.create_schema()
    for number, run in enumerate(RUNS):
        expected = index(run, their_records, theirs, **options(mode))
        assert index(run, records, store, **options(mode)) == expected, number
        assert texts(store) == texts(theirs), number
        assert store.collection.count() == len(texts(theirs)), number


@pytest.mark.parametrize("mode", MODES)
async def test_each_mode_asynchronously(mode: Any, store: ReperioVectorStore, embeddings: TrigramEmbeddings) -> None:
    """The same through aindex."""
    theirs, their_records = InMemoryVectorStore(embeddings), InMemoryRecordManager("docs")
    records = ReperioRecordManager("docs", store)
    await records.acreate_schema()
    for number, run in enumerate(RUNS):
        expected = await aindex(run, their_records, theirs, **options(mode))
        assert await aindex(run, records, store, **options(mode)) == expected, number
        assert texts(store) == texts(theirs), number


@pytest.mark.parametrize("mode", MODES)
def test_indexing_again_changes_nothing(mode: Any, path: Path, embeddings: TrigramEmbeddings) -> None:
    """After a restart everything is skipped and nothing embedded: the records are in the collection."""
    with ReperioVectorStore(embeddings, path) as store:
        first = index(RUNS[0], ReperioRecordManager("docs", store), store, **options(mode))
    with ReperioVectorStore(embeddings, path) as store:
        embeddings.embedded.clear()
        second = index(RUNS[0], ReperioRecordManager("docs", store), store, **options(mode))
    assert first == {"num_added": 5, "num_updated": 0, "num_skipped": 0, "num_deleted": 0}
    assert second == {"num_added": 0, "num_updated": 0, "num_skipped": 5, "num_deleted": 0}
    assert embeddings.embedded == []
    assert [each.name for each in path.parent.iterdir()] == ["kb"]


def test_small_batches_and_forced_updates(store: ReperioVectorStore) -> None:
    """batch_size and cleanup_batch_size of the indexing API, and force_update, work as they do elsewhere."""
    records = ReperioRecordManager("docs", store)
    small = {"batch_size": 2, "cleanup_batch_size": 1, **options("full")}
    assert index(RUNS[0], records, store, **small)["num_added"] == 5
    assert index(RUNS[0], records, store, force_update=True, **small)["num_updated"] == 5
    assert index(RUNS[4], records, store, **small) == {
        "num_added": 1,
        "num_updated": 0,
        "num_skipped": 0,
        "num_deleted": 5,
    }


def test_records_travel_with_the_collection(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Compaction, a backup and its restoration keep them."""
    with ReperioVectorStore(embeddings, path) as store:
        index(RUNS[0], ReperioRecordManager("docs", store), store, **options(None))
        index(RUNS[2], ReperioRecordManager("docs", store), store, **options("full"))
        store.collection.compact()
        store.collection.backup(path.parent / "backup")
        before = ReperioRecordManager("docs", store).list_keys()
        assert len(before) == 4
        assert index(RUNS[2], ReperioRecordManager("docs", store), store, **options("full"))["num_skipped"] == 4
    with ReperioVectorStore(embeddings, path.parent / "backup") as store:
        assert ReperioRecordManager("docs", store).list_keys() == before
        assert index(RUNS[2], ReperioRecordManager("docs", store), store, **options("full"))["num_skipped"] == 4


def test_a_run_killed_between_store_and_records_is_repaired_by_the_next(store: ReperioVectorStore) -> None:
    """The documents are stored before their records; a run that stops in between is simply done again."""

    class Stopped(ReperioRecordManager):
        def update(self, *_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(RUNS[0], Stopped("docs", store), store, **options("full"))
    assert store.collection.count() == 5
    assert index(RUNS[0], ReperioRecordManager("docs", store), store, **options("full"))["num_added"] == 5
    assert store.collection.count() == 5


def test_namespaces_are_kept_apart(store: ReperioVectorStore) -> None:
    """What one namespace cleans up, another's documents survive."""
    first, second = (ReperioRecordManager(name, store) for name in ("first", "second"))
    index(documents(a="one two"), first, store, **options("full"))
    index(documents(b="three"), second, store, **options("full"))
    assert texts(store) == {"a says one", "a says two", "b says three"}
    index([], first, store, **options("full"))
    assert texts(store) == {"b says three"}
    assert first.list_keys() == []
    assert len(second.list_keys()) == 1


@pytest.mark.parametrize("verify", [False, True])
def test_a_document_that_two_namespaces_index_is_one(store: ReperioVectorStore, verify: bool) -> None:
    """LangChain's ids know no namespace: a cleanup of one deletes it for both; verify=True indexes it again."""
    first, second = (ReperioRecordManager(name, store, verify=verify) for name in ("first", "second"))
    for records in (first, second):
        index(documents(a="one"), records, store, **options("full"))
    assert store.collection.count() == 1
    index([], first, store, **options("full"))
    assert store.collection.count() == 0
    assert index(documents(a="one"), second, store, **options("full"))["num_added"] == verify
    assert store.collection.count() == verify


def test_verify_indexes_again_what_was_deleted_by_other_means(store: ReperioVectorStore) -> None:
    """LangChain believes its records; verify=True also looks whether the document is stored."""
    believing, verifying = (ReperioRecordManager("docs", store, verify=verify) for verify in (False, True))
    index(RUNS[0], believing, store, **options("incremental"))
    store.delete(filter={"source": "b"})
    assert index(RUNS[0], believing, store, **options("incremental"))["num_added"] == 0
    assert index(RUNS[0], verifying, store, **options("incremental"))["num_added"] == 2
    assert store.collection.count() == 5


def _managers(store: ReperioVectorStore) -> list[Callable[[], Any]]:
    return [lambda: ReperioRecordManager("contract", store), lambda: InMemoryRecordManager("contract")]


@pytest.mark.parametrize("which", [0, 1], ids=["reperio", "langchain"])
def test_the_contract_of_a_record_manager(which: int, store: ReperioVectorStore) -> None:
    """Update, exists, list and delete mean what they mean in langchain-core's own, which passes the same test."""
    manager = _managers(store)[which]()
    manager.create_schema()
    start = manager.get_time()
    manager.update(["k1", "k2"], group_ids=["g1", None])
    middle = manager.get_time()
    manager.update(["k3"], group_ids=["g2"], time_at_least=middle)
    end = manager.get_time()
    assert start <= middle <= end
    assert manager.exists(["k3", "no", "k1"]) == [True, False, True]
    assert manager.exists([]) == []
    assert sorted(manager.list_keys()) == ["k1", "k2", "k3"]
    assert sorted(manager.list_keys(group_ids=[])) == ["k1", "k2", "k3"]
    assert manager.list_keys(group_ids=["g1"]) == ["k1"]
    assert sorted(manager.list_keys(after=start, before=end)) == ["k1", "k2", "k3"]
    assert manager.list_keys(after=middle) == ["k3"]
    assert sorted(manager.list_keys(before=middle)) == ["k1", "k2"]
    assert len(manager.list_keys(limit=2)) == 2
    manager.update(["k1"])
    assert manager.list_keys(group_ids=["g1"]) == []
    assert sorted(manager.list_keys(after=middle)) == ["k1", "k3"]
    with pytest.raises(ValueError, match="group_ids"):
        manager.update(["k1"], group_ids=["a", "b"])
    with pytest.raises(ValueError, match="in the past"):
        manager.update(["k9"], time_at_least=end + 1e6)
    manager.delete_keys(["k1", "no"])
    manager.delete_keys([])
    assert sorted(manager.list_keys()) == ["k2", "k3"]


async def test_the_contract_asynchronously(store: ReperioVectorStore) -> None:
    """Each asynchronous method does what its twin does."""
    manager = ReperioRecordManager("contract", store.collection)
    before = await manager.aget_time()
    await manager.aupdate(["k1", "k2"], group_ids=["g1", "g2"], time_at_least=before)
    assert await manager.aexists(["k2", "no"]) == [True, False]
    assert await manager.alist_keys(group_ids=["g2"], after=before, limit=5) == ["k2"]
    await manager.adelete_keys(["k1"])
    assert manager.list_keys() == ["k2"]


def test_records_are_no_documents(store: ReperioVectorStore) -> None:
    """No search, count or listing of documents shows them."""
    ReperioRecordManager("docs", store).update(["k1"])
    assert store.collection.count() == 0
    store.collection.add([Chunk("k1", "a text")])
    store.delete(["k1"])
    assert ReperioRecordManager("docs", store).exists(["k1"]) == [True]


def test_a_reader_may_look_and_not_write(path: Path, embeddings: TrigramEmbeddings) -> None:
    """Through a read-only store records can be listed; updating is refused."""
    with ReperioVectorStore(embeddings, path) as store:
        ReperioRecordManager("docs", store).update(["k1"])
    with ReperioVectorStore(embeddings, path, read_only=True) as store:
        assert ReperioRecordManager("docs", store).list_keys() == ["k1"]
        with pytest.raises(reperio.CollectionReadOnly):
            ReperioRecordManager("docs", store).update(["k2"])
