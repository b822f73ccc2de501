"""Writing is one step: what it depends on is true until it is done, and a call that is refused has written nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import reperio
from haystack.dataclasses import ByteStream, Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from reperio import Chunk, InvalidChunk, InvalidInput, InvalidVectors, Limits, ReperioError

from haystack_integrations.document_stores.reperio import HAS_VECTOR, ReperioDocumentStore
from tests.conftest import DIMENSION

ALL = {"field": "meta.k", "operator": "==", "value": 1}
WRITER = """
import sys
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack_integrations.document_stores.reperio import ReperioDocumentStore
with ReperioDocumentStore(sys.argv[1]) as store:
    store.count_documents()
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for number in range(20):
        try:
            won += store.write_documents([Document(id=f"d{number}", content=sys.argv[2])])
        except DuplicateDocumentError:
            pass
    print(won, flush=True)
"""


def unit(number: int = 0) -> list[float]:
    return [float(at == number) for at in range(DIMENSION)]


@pytest.mark.parametrize("policy", [DuplicatePolicy.FAIL, DuplicatePolicy.NONE, DuplicatePolicy.SKIP])
def test_one_of_many_threads_writes_an_id(policy: DuplicatePolicy, store: ReperioDocumentStore) -> None:
    """The others are told that it is there."""

    def write(number: int) -> int:
        try:
            return store.write_documents([Document(id=f"d{number % 10}", content=str(number))], policy)
        except DuplicateDocumentError:
            return 0

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(write, range(40))) == 10
    assert store.count_documents() == 10


def test_one_of_many_processes_writes_an_id(path: Path, store: ReperioDocumentStore) -> None:
    """As of threads: the number that all of them report is that of the documents."""
    store.count_documents()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], **pipes) for name in "ab"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    written = 0
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        written += int(writer.communicate(timeout=120)[0])
    assert written == store.count_documents() == 20


def test_updates_lose_nothing_and_bring_nothing_back(store: ReperioDocumentStore) -> None:
    """Two threads set a field each while a third one deletes a document and a fourth one reads."""
    for number in range(15):
        store.write_documents(
            [Document(id=f"d{each}", content="x", meta={"k": 1}, embedding=unit()) for each in range(100)],
            DuplicatePolicy.OVERWRITE,
        )

        def delete() -> None:
            time.sleep(0.002)  # so that the updates are under way; any order must hold
            store.delete_documents(["d5"])

        with ThreadPoolExecutor(4) as threads:
            calls = [threads.submit(store.update_by_filter, ALL, {name: number}) for name in "ab"]
            calls += [threads.submit(delete), threads.submit(store.filter_documents)]  # type: ignore[arg-type]  # mixed
            for call in calls:
                call.result()
        found = {each.id: each.meta for each in store.filter_documents()}
        assert found == {f"d{each}": {"k": 1, "a": number, "b": number} for each in range(100) if each != 5}


def test_what_is_deleted_by_a_filter_matches_it(store: ReperioDocumentStore) -> None:
    """Each document is either deleted, or changed by another thread so that it no longer matches, and stays."""
    for _ in range(15):
        store.write_documents(
            [Document(id=f"d{each}", content="x", meta={"k": 1}) for each in range(200)], DuplicatePolicy.OVERWRITE
        )
        with ThreadPoolExecutor(2) as threads:
            changed = threads.submit(store.update_by_filter, ALL, {"k": 2})
            deleted = threads.submit(store.delete_by_filter, ALL)
            assert changed.result() + deleted.result() == 200
        assert store.count_documents() == changed.result()


def test_an_update_of_the_reserved_key_is_of_meta(store: ReperioDocumentStore) -> None:
    """Blob, embedding and its absence stay as they are."""
    store.write_documents(
        [
            Document(id="blob", blob=ByteStream(b"xx"), meta={"k": 1}),
            Document(id="long", content="x", meta={"k": 1}, embedding=[3.0, 4.0] + [0.0] * (DIMENSION - 2)),
            Document(id="plain", content="x", meta={"k": 1}, embedding=unit()),
        ]
    )
    before = {each.id: each for each in store.filter_documents()}
    assert store.update_by_filter(ALL, {"_haystack": {"z": 1}}) == 3
    assert store.update_by_filter(ALL, {"n": 2}) == 3
    for each in store.filter_documents():
        old = before[each.id]
        assert each.meta == {"k": 1, "n": 2, "_haystack": {"z": 1}}
        assert (each.content, each.blob) == (old.content, old.blob)
        assert each.embedding == (None if old.embedding is None else pytest.approx(old.embedding))


def test_a_path_is_that_of_the_working_directory_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for what is opened later, and for a pipeline that is loaded elsewhere."""
    monkeypatch.chdir(tmp_path)
    with ReperioDocumentStore("kb", embedding_dimension=2) as store:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        store.write_documents([Document(id="a", content="x")])
        with ReperioDocumentStore.from_dict(store.to_dict()) as again:
            assert again.count_documents() == 1
    assert (tmp_path / "kb" / "CURRENT").exists()
    assert not any((tmp_path / "other").iterdir())
    with pytest.raises(InvalidInput, match="is a URL"):
        ReperioDocumentStore("http://host/kb")
    with ReperioDocumentStore(":memory:", embedding_dimension=2) as memory:
        assert memory.count_documents() == 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"embedding": [1.0, 0.0]}, InvalidVectors),
        ({"embedding": [0.0] * DIMENSION}, InvalidVectors),
        ({"embedding": [float("nan")] * DIMENSION}, InvalidVectors),
        ({"meta": {"a": object()}}, InvalidChunk),
    ],
)
def test_one_bad_document_among_many_stores_none(
    bad: dict[str, Any], error: type[InvalidInput], store: ReperioDocumentStore
) -> None:
    """Its id is in the message."""
    many = [Document(id=f"d{number}", content="x", embedding=unit()) for number in range(12_000)]
    with pytest.raises(error, match=r"(document|chunk) 'bad'"):
        store.write_documents([*many, Document(id="bad", content="x", **bad)])
    assert store.count_documents() == 0


def test_an_error_after_some_commits_tells_what_is_stored(path: Path) -> None:
    """Here the directory goes away after the first of them."""
    documents = [Document(id=f"d{number}", content="x") for number in range(5)]
    with reperio.open(path, dimension=2, limits=Limits(batch=2)) as kb:
        store = ReperioDocumentStore(collection=kb)
        add = kb.add

        def interrupted(chunks: Any, *, progress: Any, **options: Any) -> Any:
            def note(what: str, done: int, total: int | None) -> None:
                progress(what, done, total)
                if done == 4:
                    path.rename(path.with_name("away"))

            return add(chunks, progress=note, **options)

        kb.add = interrupted  # type: ignore[method-assign]  # the real one, with an event in between
        with pytest.raises(ReperioError) as refused:
            store.write_documents(documents)
        path.with_name("away").rename(path)
        assert list(refused.value.ids) == ["d0", "d1", "d2", "d3", "d4"]
        assert list(refused.value.stored_ids) == kb.ids() == ["d0", "d1", "d2", "d3"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"norm": "big"},
        {"blob": "x"},
        {"blob": {"data": "§", "meta": {}, "mime_type": None}},
        {"sparse": {"indices": [1]}},
        {"no_vector": 1},
        {"other": 1},
        {},
        "text",
        None,
    ],
)
def test_what_another_program_stored_under_the_reserved_name_is_meta(foreign: Any, store: ReperioDocumentStore) -> None:
    """It is read, found and updated like any other field."""
    store.collection.add([Chunk("h", "x", {"_haystack": foreign, "k": 1})], vectors=[unit()])
    store.write_documents([Document(id="a", content="x", embedding=unit())])
    assert store.update_by_filter(ALL, {"n": 2}) == 1
    assert store.filter_documents(ALL)[0].to_dict(flatten=False)["meta"] == {"_haystack": foreign, "k": 1, "n": 2}
    assert store.filter_documents(ALL)[0].embedding == unit()
    assert [each.id for each in store.filter_documents()] == ["a", "h"]


def test_other_ways_in_leave_out_documents_without_an_embedding_when_told_to(store: ReperioDocumentStore) -> None:
    """By a filter, or by a scope that holds for every search, count and read; words find them all the same."""
    store.write_documents([Document(id="bare", content="x"), Document(id="own", content="x", embedding=unit(1))])
    kb = store.collection
    questions: list[dict[str, Any]] = [{"vector": unit()}, {"query": "x", "vector": unit(), "mode": "hybrid"}]
    for question in questions:
        assert [hit.chunk.id for hit in kb.search(where=HAS_VECTOR, k=2, **question)] == ["own"]
        assert len(kb.search(k=2, **question)) == 2
    assert {hit.chunk.id for hit in kb.search("x", mode="lexical", k=2)} == {"bare", "own"}
    for scope in (HAS_VECTOR, {"$not": {"_haystack.no_vector": True}}):
        with reperio.open(kb.info().path, scope=scope) as confined:
            assert [hit.chunk.id for hit in confined.search(vector=unit(), k=2)] == confined.ids() == ["own"]
