"""The vector store's own surface: add, delete, get, clear, restrictions, similarities."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
import reperio
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilters,
)
from reperio import Limits

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import ask, node, only, to_query, vector


def test_it_says_what_it_is(tmp_path: Path) -> None:
    """Class name, text kept, embedding queries; nothing on disk before the first nodes."""
    store = ReperioVectorStore(tmp_path / "kb")
    assert (store.class_name(), store.stores_text, store.is_embedding_query) == ("ReperioVectorStore", True, True)
    assert store.client is None
    assert not (tmp_path / "kb").exists()
    store.add([node("a")])
    assert store.client is not None
    assert store.client.info().dimension == 4
    store.close()


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection is created where the store was made, wherever the process has gone meanwhile."""
    monkeypatch.chdir(tmp_path)
    with ReperioVectorStore("kb") as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.add([node("a")])
    assert (tmp_path / "kb").is_dir()


def test_before_the_first_nodes_everything_is_empty(store: ReperioVectorStore) -> None:
    """Reading finds nothing, deleting does nothing, and neither creates a collection."""
    assert ask(store) == []
    assert store.get_nodes() == store.get_nodes(["a"]) == store.add([]) == []
    store.delete("d")
    store.delete_nodes(["a"])
    store.clear()
    assert store.client is None


def test_the_first_add_from_many_threads_creates_one_collection(store: ReperioVectorStore) -> None:
    """Sixteen threads add the first nodes at once; all of them are there."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: store.add([node(f"n{i}", (1.0, i))]), range(16)))
    assert {each.node_id for each in store.get_nodes()} == {f"n{i}" for i in range(16)}


def test_without_a_path_it_is_in_memory(tmp_path: Path) -> None:
    """Two have nothing of each other, and a pointer to one is refused: it would lead nowhere."""
    with ReperioVectorStore() as first, ReperioVectorStore() as second:
        first.add([node("a", (1.0, 0.0))])
        assert [each.node_id for each in first.get_nodes()] == ["a"]
        assert second.get_nodes() == []
        assert first.client is not None
        assert first.client.info().path == first.path == ":memory:"
        with pytest.raises(reperio.InvalidInput, match="would lead nowhere"):
            first.persist(str(tmp_path / "store.json"))
    assert list(tmp_path.iterdir()) == []


def test_constructor_options_that_contradict_are_refused(tmp_path: Path) -> None:
    """Path and collection, opening options beside an open handle, a reranker that is none: each by name."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        with pytest.raises(reperio.InvalidInput, match="path= or collection="):
            ReperioVectorStore("x", collection=kb)
        with pytest.raises(reperio.InvalidInput, match="dimension is for opening"):
            ReperioVectorStore(collection=kb, dimension=4)
    with pytest.raises(reperio.InvalidInput, match="reranker is a str"):
        ReperioVectorStore("x", reranker="best")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="metrik"):
        ReperioVectorStore("x", metrik="l2")  # type: ignore[call-arg]  # wrong on purpose
    with pytest.raises(reperio.CollectionNotFound):
        ReperioVectorStore(tmp_path / "none", read_only=True)


def test_a_collection_handed_in_stays_open(tmp_path: Path) -> None:
    """close() closes what the store opened, not what it was given."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        store = ReperioVectorStore(collection=kb)
        store.add([node("a")])
        store.close()
        assert kb.count() == 1


def test_adding_again_replaces(filled: ReperioVectorStore) -> None:
    """The same id twice is an upsert, within one call too when both are the same; two that differ are refused."""
    filled.add([node("n0", (0.0, 0.0, 1.0), text="new")])
    assert len(filled.get_nodes()) == 6
    (found,) = filled.get_nodes(["n0"])
    assert found.get_content() == "new"
    assert filled.add([node("x"), node("x")]) == ["x", "x"]
    with pytest.raises(reperio.InvalidChunk, match="same id 'y'"):
        filled.add([node("y"), node("y", text="other")])
    assert filled.get_nodes(["y"]) == []


def test_adding_is_one_commit_whatever_the_number(store: ReperioVectorStore) -> None:
    """A node that cannot be stored among 1,500 leaves none of them."""
    nodes = [node(f"n{i}", (1.0, i)) for i in range(1500)]
    nodes[1400].metadata["what"] = object()
    with pytest.raises(reperio.InvalidChunk, match=r"'n1400'.*\['what'\]"):
        store.add(nodes)
    assert store.get_nodes() == []


def test_more_nodes_than_a_batch_may_have(tmp_path: Path) -> None:
    """Each batch of the limits is a commit; the last one need not be full, and one that is refused is alone."""
    with ReperioVectorStore(tmp_path / "kb", limits=Limits(batch=10)) as store:
        nodes = [node(f"n{i}", (1.0, i)) for i in range(25)]
        assert store.add(nodes) == [each.node_id for each in nodes]
        assert len(store.get_nodes()) == 25
        more = [node(f"m{i}", (1.0, i)) for i in range(25)]
        more[15].metadata["what"] = object()
        with pytest.raises(reperio.InvalidChunk, match="the 10 chunks of the batches before are stored"):
            store.add(more)
        assert len(store.get_nodes()) == 35


def test_large_images_inside_nodes(tmp_path: Path) -> None:
    """Megabytes of an inline image come back; the limit of the metadata is an option."""
    image = b"\x89PNG" + bytes(range(256)) * 12_000
    made = ImageNode(id_="image", image=base64.b64encode(image).decode(), embedding=vector(1.0))
    with ReperioVectorStore(tmp_path / "kb") as store:
        store.add([made])
        (found,) = store.get_nodes()
        assert isinstance(found, ImageNode)
        assert found.resolve_image().read() == image
        assert ask(store) == ["image"]
    with (
        ReperioVectorStore(tmp_path / "kb2", limits=Limits(metadata=1 << 20)) as store,
        pytest.raises(reperio.InvalidChunk, match=r"limits=Limits\(metadata="),
    ):
        store.add([made])


def test_a_node_without_embedding_is_refused_by_name(filled: ReperioVectorStore) -> None:
    """And so are embeddings of another length, and options that do not exist."""
    with pytest.raises(ValueError, match="'bare' has no embedding"):
        filled.add([node("a"), TextNode(id_="bare", text="x")])
    with pytest.raises(reperio.InvalidVectors):
        filled.add([TextNode(id_="long", text="x", embedding=[1.0] * 5)])
    with pytest.raises(reperio.UnknownOption, match="batch_size"):
        filled.add([node("a")], batch_size=3)
    assert filled.get_nodes(["a", "long"]) == []


def test_delete_by_document(filled: ReperioVectorStore) -> None:
    """The nodes of that document go, and no other; an unknown document is no error, twice neither."""
    filled.delete("d1")
    filled.delete("d1")
    filled.delete("nothing")
    assert [each.node_id for each in filled.get_nodes()] == ["n0", "n1", "n4", "n5"]
    assert "n2" not in ask(filled)


def test_a_node_without_source_is_its_own_document(store: ReperioVectorStore) -> None:
    """As the ingestion pipeline has it: what it deletes by the id of an unsplit document is gone."""
    store.add([node("whole"), node("part", document="whole"), node("other")])
    assert ask(store, doc_ids=["whole"]) == ["whole", "part"]
    store.delete("whole")
    assert [each.node_id for each in store.get_nodes()] == ["other"]


def test_delete_nodes_by_ids_filters_and_both(filled: ReperioVectorStore) -> None:
    """By id, by filter, the intersection of both; with neither, and with no ids, nothing."""
    filled.delete_nodes()
    filled.delete_nodes([])
    filled.delete_nodes([], only("even", "True"))
    assert len(filled.get_nodes()) == 6
    filled.delete_nodes(["n0", "n1", "gone"], only("even", "True"))
    assert [each.node_id for each in filled.get_nodes()] == ["n1", "n2", "n3", "n4", "n5"]
    filled.delete_nodes(["n1"])
    filled.delete_nodes(filters=only("number", 3, FilterOperator.GT))
    assert [each.node_id for each in filled.get_nodes()] == ["n2", "n3"]


def test_filters_that_match_everything_do_not_delete_everything(filled: ReperioVectorStore) -> None:
    """An empty filter is refused where it would delete all; `clear` says what it does."""
    with pytest.raises(reperio.InvalidInput, match="matches everything"):
        filled.delete_nodes(filters=MetadataFilters(filters=[]))
    assert len(filled.get_nodes()) == 6
    filled.clear()
    assert filled.get_nodes() == []
    filled.add([node("again")])
    assert ask(filled) == ["again"]


def test_get_nodes_by_ids_filters_and_both(filled: ReperioVectorStore) -> None:
    """In the order asked for; those that exist and match; all without either."""
    assert [each.node_id for each in filled.get_nodes(["n4", "gone", "n1"])] == ["n4", "n1"]
    assert [each.node_id for each in filled.get_nodes(filters=only("number", 3, FilterOperator.GTE))] == [
        "n3",
        "n4",
        "n5",
    ]
    assert [each.node_id for each in filled.get_nodes(["n5", "n4"], only("even", "True"))] == ["n4"]
    assert len(filled.get_nodes()) == 6
    assert filled.get_nodes([]) == []


def test_embeddings_come_on_request(filled: ReperioVectorStore) -> None:
    """None by default; on request each node has its own, whatever the order asked for."""
    assert all(each.embedding is None for each in filled.get_nodes())
    found = filled.get_nodes(["n5", "n0"], include_embeddings=True)
    assert found[0].embedding == pytest.approx(vector(np.cos(5 / 4), np.sin(5 / 4)), abs=1e-6)
    assert found[1].embedding == pytest.approx(vector(1.0), abs=1e-6)
    assert filled.get_nodes(["gone"], include_embeddings=True) == []


def test_another_models_vectors_are_refused(tmp_path: Path) -> None:
    """With embed_model= the collection records it, and refuses another one when it is opened again."""
    from llama_index.core.embeddings import MockEmbedding

    from llama_index.vector_stores.reperio import ReperioEmbedding
    from tests.conftest import DIMENSION, TrigramEmbedder

    model = ReperioEmbedding(TrigramEmbedder())
    store = ReperioVectorStore(tmp_path / "kb", embed_model=model)
    assert store.client is not None
    assert (store.client.info().dimension, store.client.info().embedder) == (DIMENSION, "trigrams")
    store.close()
    ReperioVectorStore(tmp_path / "kb", embed_model=model).close()
    with pytest.raises(reperio.EmbeddingContractError, match="'trigrams'; 'MockEmbedding' differs"):
        ReperioVectorStore(tmp_path / "kb", embed_model=MockEmbedding(embed_dim=DIMENSION))


def test_a_scope_confines_everything(tmp_path: Path) -> None:
    """A store with a scope neither finds, deletes nor clears what lies outside, and cannot add there."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        everything = ReperioVectorStore(collection=kb)
        everything.add([node("a", tenant="a"), node("b", tenant="b")])
    store = ReperioVectorStore(tmp_path / "kb", scope={"tenant": "a"})
    assert ask(store) == ["a"]
    assert store.get_nodes(["b"]) == []
    store.delete_nodes(["b"])
    with pytest.raises(reperio.InvalidInput, match="outside the scope"):
        store.add([node("c", tenant="b")])
    store.clear()
    store.close()
    with reperio.open(tmp_path / "kb") as kb:
        assert kb.ids() == ["b"]


def test_a_read_only_store_beside_the_writer(tmp_path: Path) -> None:
    """It sees every commit at its next query, and refuses to write."""
    writer = ReperioVectorStore(tmp_path / "kb", dimension=4)
    reader = ReperioVectorStore(tmp_path / "kb", read_only=True)
    writer.add([node("a")])
    assert ask(reader) == ["a"]
    with pytest.raises(reperio.CollectionReadOnly):
        reader.add([node("b")])
    reader.close()
    writer.close()


def test_stores_of_one_path_all_write(tmp_path: Path) -> None:
    """A notebook's cell that is run again, or several workers: each store writes, and finds what the other has."""
    one, two = ReperioVectorStore(tmp_path / "kb", dimension=4), ReperioVectorStore(tmp_path / "kb")
    one.add([node("a")])
    two.add([node("b")])
    assert sorted(ask(one)) == sorted(ask(two)) == ["a", "b"]
    two.delete_nodes(["a"])
    assert ask(one) == ["b"]
    one.close()
    two.close()
    with reperio.open(tmp_path / "kb", exclusive=True, lock_timeout=0) as kb:
        assert kb.check().ok


def test_chunks_of_other_origin_are_text_nodes(store: ReperioVectorStore) -> None:
    """What the command line or another framework stored is found, filtered and returned with its metadata."""
    store.add([node("ours", (1.0,), lang="en")])
    assert store.client is not None
    store.client.add([reperio.Chunk("theirs", "text", {"lang": "de", "tags": ["a"]})], vectors=[vector(1.0)])
    (found,) = store.query(to_query(filters=only("lang", "de"))).nodes or []
    assert isinstance(found, TextNode)
    assert (found.node_id, found.text, found.metadata) == ("theirs", "text", {"lang": "de", "tags": ["a"]})
    assert ask(store, doc_ids=["theirs"]) == []
