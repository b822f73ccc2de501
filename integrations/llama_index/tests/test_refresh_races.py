"""Two writers that refresh the same documents at once leave what one after the other would have left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore
from tests.conftest import TrigramEmbedder
from tests.running import run_python

SPLIT = [SentenceSplitter(chunk_size=40, chunk_overlap=0)]


class MeetingEmbedder(TrigramEmbedder):
    """Calls *meanwhile* when it is first asked to embed what will be stored: every writer has asked by then."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], Any] | None = meanwhile

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().embed_passages(texts)


def index_of(store: ReperioVectorStore, embedder: Any, **options: Any) -> VectorStoreIndex:
    return VectorStoreIndex(
        nodes=[],
        storage_context=store.storage_context(),
        embed_model=ReperioEmbedding(embedder),
        transformations=SPLIT,
        **options,
    )


def version(number: int) -> list[Document]:
    text = " ".join(f"Version {number} says in sentence {i} that parcels are shipped abroad." for i in range(8))
    return [Document(id_="long", text=text), Document(id_="short", text=f"Short in version {number}.")]


def texts(store: ReperioVectorStore) -> list[str]:
    return sorted(node.get_content() for node in store.get_nodes())


def expected(documents: list[Document]) -> list[str]:
    with ReperioVectorStore() as alone:
        index_of(alone, TrigramEmbedder()).refresh_ref_docs(documents)
        return texts(alone)


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "two stores"])
@pytest.mark.parametrize("before", [None, 1], ids=["new", "changed"])
def test_threads_that_refresh_at_once_store_each_document_once(
    tmp_path: Path, before: int | None, shared: bool
) -> None:
    """Both have asked before either adds; nodes are there once, and a third refresh finds nothing to do."""
    stores = [ReperioVectorStore(tmp_path / "kb", dimension=64)]
    stores.append(stores[0] if shared else ReperioVectorStore(tmp_path / "kb"))
    if before is not None:
        index_of(stores[0], TrigramEmbedder()).refresh_ref_docs(version(before))
    meeting = threading.Barrier(2)
    indexes = [index_of(store, MeetingEmbedder(lambda: meeting.wait(60))) for store in stores]
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda index: index.refresh_ref_docs(version(2)), indexes))
    assert [done[0] for done in both] == [True, True]
    assert texts(stores[0]) == expected(version(2))
    assert index_of(stores[0], TrigramEmbedder()).refresh_ref_docs(version(2)) == [False, False]


async def test_tasks_that_refresh_at_once_store_each_document_once(tmp_path: Path) -> None:
    """As threads do; a task that starts others for a deletion is one writer with them."""
    store = ReperioVectorStore(tmp_path / "kb", dimension=64)
    index = index_of(store, TrigramEmbedder())
    await index.arefresh_ref_docs(version(1))
    await asyncio.gather(*(index.arefresh_ref_docs(version(2)) for _ in range(3)))
    assert texts(store) == expected(version(2))
    assert index.refresh_ref_docs(version(2)) == [False, False]


def test_another_process_refreshes_meanwhile(tmp_path: Path) -> None:
    """The other process has stored the documents, between the question and the insertion here; new, in a new path."""
    here = ReperioVectorStore(tmp_path / "kb")
    index = index_of(here, MeetingEmbedder(lambda: run_python(_ELSEWHERE, str(tmp_path / "kb"))))
    assert index.refresh_ref_docs(version(2)) == [True, False]
    assert texts(here) == expected(version(2))
    assert index.refresh_ref_docs(version(2)) == [False, False]


_ELSEWHERE = """
import sys
from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.test_refresh_races import TrigramEmbedder, index_of, version
with ReperioVectorStore(sys.argv[1]) as store:
    assert index_of(store, TrigramEmbedder()).refresh_ref_docs(version(2)) == [True, True]
"""


@pytest.mark.parametrize("size", [2048, 1], ids=["at once", "in batches"])
def test_the_later_of_two_versions_stays(tmp_path: Path, size: int) -> None:
    """A refresh that is overtaken says so, and leaves one version, whole, never a mixture."""
    store, other = ReperioVectorStore(tmp_path / "kb", dimension=64), ReperioVectorStore(tmp_path / "kb")
    index_of(store, TrigramEmbedder()).refresh_ref_docs(version(1))
    overtaken = index_of(
        store, MeetingEmbedder(lambda: index_of(other, TrigramEmbedder()).refresh_ref_docs(version(3)))
    )
    overtaken._insert_batch_size = size
    with pytest.warns(
        UserWarning, match="another writer has stored 1 documents, 'long' among them, in another version"
    ):
        overtaken.refresh_ref_docs(version(2)[:1])
    assert texts(store) == expected([version(2)[0], version(3)[1]])
    again = index_of(other, TrigramEmbedder())
    assert again.refresh_ref_docs([version(2)[0], version(3)[1]]) == [False, False]


def test_an_insertion_that_was_replaced_stores_no_more(tmp_path: Path) -> None:
    """Between two batches of a document another writer has replaced it: that version stays whole."""
    store, other = ReperioVectorStore(tmp_path / "kb", dimension=64), ReperioVectorStore(tmp_path / "kb")
    put = ReperioVectorStore.add
    calls: list[int] = []

    class Interrupted(ReperioVectorStore):
        def add(self, nodes: Any, **options: Any) -> list[str]:
            done = put(self, nodes, **options)
            calls.append(len(calls))
            if len(calls) == 2:
                index_of(other, TrigramEmbedder()).refresh_ref_docs(version(3)[:1])
            return done

    with Interrupted(tmp_path / "kb") as between:
        first = index_of(between, TrigramEmbedder())
        first._insert_batch_size = 1
        first.refresh_ref_docs(version(2)[:1])
    assert len(calls) > 3
    assert texts(store) == expected(version(3)[:1])
    assert index_of(store, TrigramEmbedder()).refresh_ref_docs(version(3)[:1]) == [False]


def test_pipelines_that_run_at_once_store_each_document_once(tmp_path: Path) -> None:
    """A pipeline asks for all documents before it adds any, and keeps the documents next to their nodes."""
    meeting = threading.Barrier(2)

    def run(_: int) -> None:
        with ReperioVectorStore(tmp_path / "kb", dimension=64) as store:
            IngestionPipeline(
                transformations=[*SPLIT, ReperioEmbedding(MeetingEmbedder(lambda: meeting.wait(60)))],
                vector_store=store,
                docstore=store.docstore,
                docstore_strategy=DocstoreStrategy.UPSERTS,
            ).run(documents=version(2))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, range(2)))
    with ReperioVectorStore(tmp_path / "kb") as store:
        assert texts(store) == expected(version(2))
        assert index_of(store, TrigramEmbedder()).refresh_ref_docs(version(2)) == [False, False]


def test_nodes_added_without_a_question_replace_nothing(tmp_path: Path) -> None:
    """Nodes of a document that are added by hand are added: only a refresh knows that there were none."""
    with ReperioVectorStore(tmp_path / "kb", dimension=64) as store:
        index = index_of(store, TrigramEmbedder())
        index.refresh_ref_docs(version(2))
        before = len(store.get_nodes())
        index.refresh_ref_docs(version(2))
        summary = SPLIT[0].get_nodes_from_documents([Document(id_="long", text="A summary of it.")])
        index.insert_nodes(summary)
        assert len(store.get_nodes()) == before + 1
