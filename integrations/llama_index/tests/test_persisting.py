"""persist, from_persist_dir, and what happens to those who load naively."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import pytest
import reperio
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import Document, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from reperio import InvalidInput, Limits

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore
from tests.conftest import TrigramEmbedder, ask, node
from tests.running import PACKAGE, run_python


@pytest.fixture
def persisted(tmp_path: Path, embed_model: ReperioEmbedding) -> Path:
    """Give the folder that a storage context was persisted to, beside the collection; the store is closed."""
    store = ReperioVectorStore(tmp_path / "kb")
    context = store.storage_context()
    index = VectorStoreIndex.from_documents(
        [Document(id_="d", text="To reset your password, follow the link.")], storage_context=context,
        embed_model=embed_model,
    )  # fmt: skip
    index.storage_context.persist(tmp_path / "storage")
    store.close()
    return tmp_path / "storage"


def test_load_index_from_storage_with_the_store(persisted: Path, embed_model: ReperioEmbedding) -> None:
    """The way that works: the vector store opened from where it was persisted."""
    store = ReperioVectorStore.from_persist_dir(str(persisted))
    context = StorageContext.from_defaults(persist_dir=str(persisted), vector_store=store)
    index = load_index_from_storage(context, embed_model=embed_model)
    assert index.as_retriever().retrieve("password")[0].node.ref_doc_id == "d"
    store.close()


def test_a_naive_load_gives_a_clear_error(persisted: Path) -> None:
    """A ValueError with the path and the cure; not a KeyError, not a UnicodeDecodeError, not an empty store."""
    with pytest.raises(ValueError, match=r"is the Reperio collection .*/kb; load it with .*from_persist_dir"):
        StorageContext.from_defaults(persist_dir=str(persisted))
    with pytest.raises(ValueError, match="is the Reperio collection"):
        SimpleVectorStore.from_persist_dir(str(persisted))


def test_a_naive_load_after_a_plain_storage_context(tmp_path: Path, embed_model: ReperioEmbedding) -> None:
    """The same with LlamaIndex's own docstore."""
    store = ReperioVectorStore(tmp_path / "kb")
    index = VectorStoreIndex.from_documents(
        [Document(text="a")], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embed_model
    )
    index.storage_context.persist(str(tmp_path / "storage"))
    with pytest.raises(ValueError, match="is the Reperio collection"):
        load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path / "storage")))
    store.close()


def test_from_persist_path_of_pointer_and_of_collection(persisted: Path, tmp_path: Path) -> None:
    """Options of the constructor pass through."""
    for path in (persisted / "default__vector_store.json", tmp_path / "kb"):
        store = ReperioVectorStore.from_persist_path(str(path), read_only=True, recall=0.9)
        assert len(store.get_nodes()) == 1
        assert store.recall == 0.9
        store.close()


def test_folders_that_move_together_stay_together(persisted: Path, tmp_path: Path) -> None:
    """The pointer knows where the collection was as seen from it."""
    (tmp_path / "elsewhere").mkdir()
    shutil.move(persisted, tmp_path / "elsewhere/storage")
    shutil.move(tmp_path / "kb", tmp_path / "elsewhere/kb")
    store = ReperioVectorStore.from_persist_dir(str(tmp_path / "elsewhere/storage"))
    assert store.path == str(tmp_path / "elsewhere/storage/../kb")
    assert len(store.get_nodes()) == 1
    store.close()


def test_namespaces_and_other_file_systems(tmp_path: Path) -> None:
    """A store under another name; a pointer in any fsspec file system."""
    store = ReperioVectorStore(tmp_path / "kb")
    store.add([node("a")])
    store.persist(str(tmp_path / "s/pictures__vector_store.json"))
    memory = fsspec.filesystem("memory")
    store.persist("/deep/folder/default__vector_store.json", fs=memory)
    store.close()
    for folder, options in ((str(tmp_path / "s"), {"namespace": "pictures"}), ("/deep/folder", {"fs": memory})):
        again = ReperioVectorStore.from_persist_dir(folder, **options)
        assert ask(again) == ["a"]
        again.close()


def test_what_others_persisted_is_refused(tmp_path: Path) -> None:
    """Nothing there, another store's JSON, a FAISS file: each says what it is not."""
    with pytest.raises(reperio.NotACollection, match=r"there is no .*default__vector_store\.json"):
        ReperioVectorStore.from_persist_dir(str(tmp_path))
    SimpleVectorStore().persist(str(tmp_path / "default__vector_store.json"))
    with pytest.raises(reperio.NotACollection, match="was not written by ReperioVectorStore"):
        ReperioVectorStore.from_persist_dir(str(tmp_path))
    for content in (b"IxF2\x00\xff\xfe", b'{"reperio": 3}', b"[1]", b""):
        (tmp_path / "default__vector_store.json").write_bytes(content)
        with pytest.raises(reperio.NotACollection, match="was not written by"):
            ReperioVectorStore.from_persist_dir(str(tmp_path))


def test_the_scope_is_persisted_with_the_store(tmp_path: Path) -> None:
    """Loaded again, a store sees no more than it did; another scope is refused, and a pointer without one takes one."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.add([node("a", tenant="a"), node("b", tenant="b")])
        store.persist(str(tmp_path / "whole/default__vector_store.json"))
    for number, scope in enumerate(({"tenant": "a"}, reperio.field("tenant") == "a")):
        folder = str(tmp_path / f"storage-{number}")
        with ReperioVectorStore(tmp_path / "kb", scope=scope) as store:
            store.persist(f"{folder}/default__vector_store.json")
        with ReperioVectorStore.from_persist_dir(folder) as again:
            assert ask(again) == ["a"]
        with ReperioVectorStore.from_persist_dir(folder, scope={"tenant": {"$eq": "a"}}) as again:
            assert ask(again) == ["a"]
        with pytest.raises(reperio.InvalidInput, match=r"was persisted with the scope .* leave scope out, or open"):
            ReperioVectorStore.from_persist_dir(folder, scope={"tenant": "b"})
    with ReperioVectorStore.from_persist_dir(str(tmp_path / "whole"), scope={"tenant": "b"}) as again:
        assert ask(again) == ["b"]


def test_the_scope_of_an_open_collection_and_of_none_yet_are_persisted(tmp_path: Path) -> None:
    """A store on a handle that is open already has that handle's scope, and one without nodes the one it was given."""
    pointer = tmp_path / "storage/default__vector_store.json"
    with ReperioVectorStore(tmp_path / "kb", scope={"tenant": "a"}) as store:
        store.persist(str(pointer))
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.add([node("a", tenant="a"), node("b", tenant="b")])
    with ReperioVectorStore.from_persist_path(str(pointer)) as again:
        assert ask(again) == ["a"]
    with reperio.open(tmp_path / "kb", scope={"tenant": "b"}) as kb:
        ReperioVectorStore(collection=kb).persist(str(pointer))
    with ReperioVectorStore.from_persist_path(str(pointer)) as again:
        assert ask(again) == ["b"]


def test_a_pointer_of_before_has_no_scope(persisted: Path) -> None:
    """A pointer without that entry is read as before; one whose scope is no filter is refused."""
    pointer = persisted / "default__vector_store.json"
    content = json.loads(pointer.read_text())
    for scope, error in ((..., None), ("a", reperio.NotACollection), ({"x": {"$y": 1}}, reperio.InvalidInput)):
        content["reperio"].pop("scope")
        content["reperio"] |= {} if scope is ... else {"scope": scope}
        pointer.write_text(json.dumps(content))
        if error is None:
            ReperioVectorStore.from_persist_dir(str(persisted)).close()
            content["reperio"]["scope"] = None
        else:
            with pytest.raises(error):
                ReperioVectorStore.from_persist_dir(str(persisted))


WAYS: dict[str, Callable[[ReperioVectorStore], ReperioVectorStore]] = {
    "pickle": lambda store: pickle.loads(pickle.dumps(store)),
    "deepcopy": copy.deepcopy,
    "dictionary": lambda store: ReperioVectorStore.from_dict(store.to_dict()),
    "json": lambda store: ReperioVectorStore.from_json(store.to_json()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_store_is_opened_again_by_its_path(tmp_path: Path, way: str) -> None:
    """With scope, recall, limits; what one stores, the other finds. A shallow copy is the same store."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.add([node("other", tenant="b")])
    options: dict[str, Any] = {"scope": reperio.field("tenant") == "a", "recall": 0.9, "limits": Limits(text=20)}
    with ReperioVectorStore(tmp_path / "kb", **options) as store, WAYS[way](store) as again:
        assert again.client is not store.client
        assert copy.copy(store).client is store.client
        assert (again.path, again.recall) == (store.path, 0.9)
        again.add([node("a", tenant="a")])
        assert ask(store) == ask(again) == ["a"]
        with pytest.raises(InvalidInput, match="at most 20"):
            again.add([node("long", text="x" * 21, tenant="a")])
        with pytest.raises(InvalidInput):
            again.add([node("b", tenant="b")])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_before_there_is_a_collection_goes_along(tmp_path: Path, way: str) -> None:
    """Nodes and hashes of the document store, each store with its own; the first nodes added store them."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.docstore.add_documents([TextNode(id_="parent", text="Parent.", metadata={"on": date(2024, 2, 29)})])
        store.docstore.set_document_hash("doc", "hash")
        with WAYS[way](store) as again:
            assert again.docstore.get_document("parent").get_content() == "Parent."
            assert again.docstore.get_document("parent").metadata == {"on": date(2024, 2, 29)}
            assert again.early.hashes == {"doc": "hash"}
            again.docstore.add_documents([TextNode(id_="second", text="Second.")])
            assert list(store.docstore.docs) == ["parent"]
            again.add([node("a")])
            assert again.early.hashes == again.early.nodes == {}
    with ReperioVectorStore(tmp_path / "kb") as later:
        assert {"parent", "second", "a"} == set(later.docstore.docs)


def test_nodes_that_are_in_memory_alone_are_not_persisted_quietly(tmp_path: Path) -> None:
    """The pointer would lead to a collection without them; once nodes are indexed, it does not."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.docstore.add_documents([TextNode(id_="parent", text="Parent.")])
        with pytest.raises(InvalidInput, match=r"1 nodes of the document store are in memory.*index some nodes first"):
            store.storage_context().persist(tmp_path / "persisted")
        store.add([node("a")])
        store.storage_context().persist(tmp_path / "persisted")
    with ReperioVectorStore.from_persist_dir(str(tmp_path / "persisted")) as again:
        assert set(again.docstore.docs) == {"parent", "a"}


@pytest.mark.parametrize("way", WAYS)
def test_a_store_that_only_reads_does_so_again(tmp_path: Path, way: str) -> None:
    """Also one on a handle that was handed in, with that handle's scope; one that is not there yet is created."""
    with ReperioVectorStore(tmp_path / "kb", metric="l2", dtype="float16") as store, WAYS[way](store) as again:
        again.add([node("a", tenant="a"), node("b", tenant="b")])
        assert again.client is not None
        assert (again.client.info().metric, again.client.info().dtype) == ("l2", "float16")
    with ReperioVectorStore(tmp_path / "kb", read_only=True) as store, WAYS[way](store) as again:
        assert set(ask(again)) == {"a", "b"}
        with pytest.raises(reperio.CollectionReadOnly):
            again.add([node("c")])
    with reperio.open(tmp_path / "kb", scope={"tenant": "b"}, read_only=True) as kb:
        with WAYS[way](ReperioVectorStore(collection=kb)) as again:
            assert ask(again) == ["b"]
            with pytest.raises(reperio.CollectionReadOnly):
                again.add([node("c")])
        assert kb.count() == 1  # still open


@pytest.mark.parametrize("way", WAYS)
def test_a_store_in_memory_stays_where_it_is(way: str) -> None:
    """Another process could not reach it, and a copy would be empty."""
    with ReperioVectorStore() as store:
        store.add([node("a")])
        with pytest.raises(InvalidInput, match=r"in memory.*give it a path"):
            WAYS[way](store)


IN_ANOTHER = """
import pickle, sys
from llama_index.core.utils import get_tokenizer
from pathlib import Path
sys.path.insert(0, sys.argv[2])
get_tokenizer()  # the index has it, and it would be fetched from the network without this
index = pickle.loads(Path(sys.argv[1]).read_bytes())
print([each.node.ref_doc_id for each in index.as_retriever().retrieve("password")])
"""


def test_an_index_in_another_process(tmp_path: Path) -> None:
    """As Ray, Dask and joblib carry it: the index with its store, its document store and its model."""
    model = ReperioEmbedding(TrigramEmbedder())
    with ReperioVectorStore(tmp_path / "kb") as store:
        index = VectorStoreIndex(nodes=[], storage_context=store.storage_context(), embed_model=model)
        index.insert(Document(id_="d", text="To reset your password, follow the link."))
        (tmp_path / "index").write_bytes(pickle.dumps(index))
        assert run_python(IN_ANOTHER, str(tmp_path / "index"), str(PACKAGE)).strip() == "['d']"
        copied = copy.deepcopy(index)
        assert copied.as_retriever().retrieve("password")[0].node.ref_doc_id == "d"
        assert copied.refresh_ref_docs([Document(id_="d", text="To reset your password, follow the link.")]) == [False]


@pytest.mark.parametrize("kind", ["pipe", "device", "endless"])
def test_a_pointer_is_a_small_file(kind: str, tmp_path: Path) -> None:
    """A named pipe or a device in the place of a pointer is refused at once, and of a huge file little is read."""
    path = tmp_path / "default__vector_store.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(reperio.NotACollection, match="was not written by"):
        ReperioVectorStore.from_persist_path(str(path))


def test_a_dictionary_without_a_scope_is_refused(tmp_path: Path) -> None:
    """One that was made in another way lacks it, and a store without it would see more."""
    with ReperioVectorStore(tmp_path / "kb", dimension=3, scope={"tenant": "a"}) as store:
        told = store.model_dump()
        assert told["path"] == str(tmp_path / "kb")
        with pytest.raises(InvalidInput, match=r"lacks the scope: open ReperioVectorStore\('.*kb'\)"):
            ReperioVectorStore.from_dict(told)
        assert store.to_dict()["scope"] == {"tenant": {"$eq": "a"}}
        with ReperioVectorStore.from_dict(store.to_dict(), read_only=True) as again:
            assert again.client is not None
            assert again.client.read_only
