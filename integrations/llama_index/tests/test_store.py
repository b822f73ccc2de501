"""The vector store's own surface: add, delete, get, clear, restrictions, similarities."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reperio
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from reperio import InvalidInput, Limits

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import ask, node, to_query, vector


def only(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


@pytest.fixture
def filled(store: ReperioVectorStore) -> ReperioVectorStore:
    """Three documents of two nodes each, along a quarter of a circle: n0 is nearest to (1, 0), n5 farthest."""
    store.add(
        [
            node(f"n{i}", (np.cos(i / 4), np.sin(i / 4)), document=f"d{i // 2}", number=i, even=str(i % 2 == 0))
            for i in range(6)
        ]
    )
    return store


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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"filters": MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])}, ["a", "c", "d"]),
        ({"doc_ids": ["d1"]}, ["a", "b"]),
        ({"node_ids": ["d", "a", "no"]}, ["d", "a"]),
        (
            {"doc_ids": ["d1"], "filters": MetadataFilters(filters=[MetadataFilter(key="lang", value="en")])},
            ["a"],
        ),
        ({"doc_ids": []}, []),
        ({"filters": MetadataFilters(filters=[])}, ["a", "b", "c", "d"]),
    ],
)
def test_a_query_by_filters_alone(tmp_path: Path, query: dict[str, Any], expected: list[str]) -> None:
    """The first so many nodes that match, in the order of adding (or of node_ids), without similarities."""
    with ReperioVectorStore(tmp_path / "kb") as store:
        assert store.query(to_query(None, **query)).ids == []
        store.add([node("a", lang="en", document="d1"), node("b", lang="de", document="d1")])
        store.add([node("c", lang="en", document="d2"), node("d", lang="en")])
        found = store.query(to_query(None, **query))
        assert found.ids == [each.node_id for each in found.nodes or []] == expected
        assert found.similarities is None
        assert store.query(to_query(None, k=1, **query)).ids == expected[:1]
        with pytest.raises(InvalidInput, match="recall has no effect"):
            store.query(to_query(None, **query), recall=0.9)
        with pytest.raises(InvalidInput, match="needs query_embedding"):
            store.query(to_query(None, query_str="asked", **query))
        with pytest.raises(InvalidInput, match="needs query_embedding"):
            store.query(to_query(None))


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


def test_doc_ids_node_ids_and_filters_intersect(filled: ReperioVectorStore) -> None:
    """Each restricts by itself, and together they leave what all of them allow, in every mode."""
    assert ask(filled, doc_ids=["d2", "d0"]) == ["n0", "n1", "n4", "n5"]
    assert ask(filled, node_ids=["n5", "n3"]) == ["n3", "n5"]
    assert ask(filled, doc_ids=["d2", "d0"], node_ids=["n5", "n3", "n0"]) == ["n0", "n5"]
    together = {"doc_ids": ["d2", "d0"], "node_ids": ["n5", "n3", "n0"], "filters": only("even", "False")}
    assert ask(filled, **together) == ["n5"]
    for mode in ("mmr", "hybrid"):
        assert ask(filled, mode=mode, query_str=None if mode == "mmr" else "n5", **together) == ["n5"]
    assert ask(filled, None, mode="text_search", query_str="n5 n0 n3", **together) == ["n5"]


def test_empty_node_ids_restrict_nothing_and_empty_doc_ids_everything(filled: ReperioVectorStore) -> None:
    """A retriever passes node_ids=[] always; doc_ids=[] is a list of allowed documents with nothing on it."""
    assert len(ask(filled, node_ids=[])) == 6
    assert ask(filled, doc_ids=[]) == []


def test_exactly_k_under_any_filter(store: ReperioVectorStore) -> None:
    """A filter that 1% matches still gives k results, all of them matching."""
    generator = np.random.default_rng(1)
    store.add([node(f"n{i}", generator.normal(size=4), tenant="rare" if i % 100 == 0 else "many") for i in range(2000)])
    found = store.query(to_query(k=20, filters=only("tenant", "rare")))
    assert len(found.ids or []) == 20
    assert {each.metadata["tenant"] for each in found.nodes or []} == {"rare"}


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("mode", ["default", "mmr", "hybrid", "text_search", "sparse"])
def test_similarities_are_python_floats_and_higher_is_better(tmp_path: Path, metric: str, mode: str) -> None:
    """So that SimilarityPostprocessor keeps the right ones: the nearest, whatever the metric and mode."""
    store = ReperioVectorStore(tmp_path / "kb", metric=metric)
    texts = ["apple apple", "apple pear", "apple pear plum cherry", "apple quince medlar sloe damson"]
    store.add([node(f"n{i}", (1.0 - i / 4, i / 4), text=text) for i, text in enumerate(texts)])
    words = None if mode in ("default", "mmr") else "apple"
    embedding = None if mode in ("text_search", "sparse") else (1.0,)
    options = {"mmr_threshold": 1.0} if mode == "mmr" else {}
    result = store.query(to_query(embedding, mode=mode, query_str=words), **options)
    assert result.ids == ["n0", "n1", "n2", "n3"]
    similarities = result.similarities or []
    assert all(type(each) is float for each in similarities)
    assert similarities == sorted(similarities, reverse=True)
    assert similarities[0] > similarities[-1]
    scored = [NodeWithScore(node=n, score=s) for n, s in zip(result.nodes or [], similarities, strict=True)]
    cut = (similarities[1] + similarities[2]) / 2
    kept = SimilarityPostprocessor(similarity_cutoff=cut).postprocess_nodes(scored)
    assert [each.node_id for each in kept] == ["n0", "n1"]
    store.close()


def test_similarity_under_l2_is_between_0_and_1(tmp_path: Path) -> None:
    """1 / (1 + distance²): 1 for the same vector, 1/2 at distance 1, so that a usual cutoff works."""
    store = ReperioVectorStore(tmp_path / "kb", metric="l2")
    store.add([node("same", (1.0,)), node("one away", (2.0,)), node("three away", (4.0,))])
    found = store.query(to_query((1.0,)))
    assert found.similarities == pytest.approx([1.0, 0.5, 0.1])
    store.close()


def test_negative_cosines_stay_negative(store: ReperioVectorStore) -> None:
    """A cosine is the cosine."""
    store.add([node("there", (1.0,)), node("opposite", (-1.0,))])
    assert store.query(to_query((1.0,))).similarities == pytest.approx([1.0, -1.0])


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


def test_filters_of_every_condition_in_a_query(filled: ReperioVectorStore) -> None:
    """AND, OR, NOT and a nested tree select what they say."""
    filters = [MetadataFilter(key="number", value=2, operator=FilterOperator.GTE), *only("even", "True").filters]
    for condition, expected in (
        (FilterCondition.AND, ["n2", "n4"]),
        (FilterCondition.OR, ["n0", "n2", "n3", "n4", "n5"]),
        (FilterCondition.NOT, ["n1"]),
    ):
        assert ask(filled, filters=MetadataFilters(filters=filters, condition=condition)) == expected
    nested = MetadataFilters(
        filters=[only("number", 4), MetadataFilters(filters=filters, condition=FilterCondition.NOT)],
        condition=FilterCondition.OR,
    )
    assert ask(filled, filters=nested) == ["n1", "n4"]


def test_learner_modes_are_refused_by_name(filled: ReperioVectorStore) -> None:
    """svm, logistic_regression and linear_regression raise ValueError naming the mode, and so does what is none."""
    with pytest.raises(ValueError, match="'nonsense'"):
        filled.query(VectorStoreQuery(query_embedding=vector(1.0), mode="nonsense"))  # type: ignore[arg-type]  # wrong on purpose
    for mode in ("svm", "logistic_regression", "linear_regression"):
        assert VectorStoreQueryMode(mode)
        with pytest.raises(ValueError, match=f"'{mode}' is not offered; choose 'default'"):
            ask(filled, mode=mode)
