"""Nodes survive the round trip whole."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import reperio
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)

from llama_index.vector_stores.reperio import ReperioVectorStore
from llama_index.vector_stores.reperio.conversion.documents import RESERVED, from_chunk, to_chunk
from tests.conftest import node, to_query, vector

PNG = b"iVBORw0KGgo="

RELATIONSHIPS: dict[NodeRelationship, Any] = {
    NodeRelationship.SOURCE: RelatedNodeInfo(
        node_id="source", node_type=ObjectType.DOCUMENT, hash="h", metadata={"made": date(2024, 2, 29), "pages": 3}
    ),
    NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="previous"),
    NodeRelationship.NEXT: RelatedNodeInfo(node_id="next", hash="h2"),
    NodeRelationship.PARENT: RelatedNodeInfo(node_id="parent"),
    NodeRelationship.CHILD: [RelatedNodeInfo(node_id="child 1"), RelatedNodeInfo(node_id="child 2", hash="h3")],
}

NODES: dict[str, BaseNode] = {
    "plain": TextNode(text="text"),
    "empty": TextNode(text=""),
    "everything": TextNode(
        text="text\r\n\t with\0odd characters  🜍",
        metadata={"lang": "en", "n": 1, "f": 0.1, "none": None, "list": [1, "a", None], "deep": {"a": {"b": [1]}}},
        excluded_embed_metadata_keys=["lang"],
        excluded_llm_metadata_keys=["n", "f"],
        metadata_template="{key} -> {value}",
        metadata_separator=" | ",
        text_template="{content} ({metadata_str})",
        relationships=RELATIONSHIPS,
        start_char_idx=3,
        end_char_idx=40,
        mimetype="text/markdown",
    ),
    "index": IndexNode(text="see there", index_id="other", obj=TextNode(id_="o", text="object", metadata={"a": 1})),
    "index without object": IndexNode(text="see there", index_id="other", metadata={"on": date(2024, 1, 1)}),
    "image": ImageNode(text="a picture", image=PNG.decode(), image_mimetype="image/png", text_embedding=[0.5, 1.0]),
    "image by path": ImageNode(image_path="pictures/a.jpg", metadata={"w": 3}),
    "node": Node(
        text_resource=MediaResource(text="words", mimetype="text/plain"),
        image_resource=MediaResource(data=PNG, mimetype="image/png"),
        audio_resource=MediaResource(path=Path("a/b.mp3")),
        video_resource=MediaResource(url="https://example.org/v.mp4"),  # type: ignore[arg-type]  # pydantic parses it
        text_template="[{content}]",
    ),
    "node without text": Node(image_resource=MediaResource(data=b"\x00\xff not base64")),
    "document": Document(
        text="whole text", id_="doc", metadata={"source": "a.txt"}, excluded_llm_metadata_keys=["source"]
    ),
    "empty document": Document(text=""),
    "image document": ImageDocument(text="caption", image=PNG),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_every_kind_of_node_comes_back_whole(store: ReperioVectorStore, name: str) -> None:
    """Class, every field, hash and content: by query, by get_nodes, and with the embedding on request."""
    original = NODES[name].model_copy()
    given_in = original.model_copy(deep=True)
    given_in.embedding = vector(1.0)
    store.add([given_in])
    (found,) = store.query(to_query()).nodes or []
    assert type(found) is type(original)
    assert found == original
    assert found.hash == original.hash
    assert found.ref_doc_id == original.ref_doc_id
    for mode in ("all", "embed", "llm", "none"):
        assert found.get_content(mode) == original.get_content(mode)  # type: ignore[arg-type]  # an enum of strings
    assert store.get_nodes([original.node_id], include_embeddings=True) == [given_in]


class Colour(str, Enum):
    RED = "red"


VALUES: dict[str, Any] = {
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 123456),
    "aware": datetime(2024, 5, 6, 7, 8, tzinfo=timezone(timedelta(hours=2))),
    "date": date(2024, 5, 6),
    "time": time(7, 8, 9),
    "timedelta": timedelta(days=3, seconds=4, microseconds=5),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "path": Path("a/b"),
    "bytes": b"\x00\xff",
    "tuple": (1, (2, "a"), date(2024, 1, 1)),
    "set": {1, 2},
    "frozenset": frozenset("ab"),
    "big": 2**80,
    "negative": -(2**70),
    "keys": {1: "a", (1, 2): "b", None: date(2024, 1, 1)},
    "dates": [date(2024, 1, 1), {"on": date(2024, 1, 2)}],
    "infinite": [float("inf"), float("-inf")],
}


def test_values_that_json_cannot_keep_come_back_as_they_were(store: ReperioVectorStore) -> None:
    """Datetimes, decimals, tuples, sets, keys that are no strings, long integers: equal, and of their type."""
    store.add([node("a", **VALUES)])
    (found,) = store.get_nodes(["a"])
    for name, value in VALUES.items():
        assert found.metadata[name] == value, name
        assert type(found.metadata[name]) is type(value), name
    assert found.hash == node("a", **VALUES).hash


def test_nan_comes_back_as_nan(store: ReperioVectorStore) -> None:
    """Tables read with pandas have them; to filters it is a missing value."""
    store.add([node("a", price=float("nan")), node("b", price=1.0)])
    assert str(store.get_nodes(["a"])[0].metadata["price"]) == "nan"


def test_members_of_string_enumerations_become_their_values(store: ReperioVectorStore) -> None:
    """They are equal to them."""
    store.add([node("a", colour=Colour.RED)])
    assert store.get_nodes(["a"])[0].metadata == {"colour": "red"}


def test_numpys_values_become_pythons(store: ReperioVectorStore) -> None:
    """Scalars and arrays; what came back is the same after it was stored again."""
    metadata = {
        "scalars": (np.float32(0.5), np.int64(7), np.bool_(True), np.str_("text"), np.float64("inf")),
        "array": np.array([[1, 2], [3, 4]]),
        "point": np.array(5),
        "times": [np.datetime64("2024-03-01"), np.timedelta64(90, "s"), np.datetime64("NaT")],
    }
    store.add([node("a", **metadata)])
    (found,) = store.get_nodes(["a"])
    assert found.metadata == {
        "scalars": (0.5, 7, True, "text", float("inf")),
        "array": [[1, 2], [3, 4]],
        "point": 5,
        "times": ["2024-03-01", 90.0, None],
    }
    assert {type(each) for each in found.metadata["scalars"]} == {float, int, bool, str}
    store.add([node("b", **found.metadata)])
    assert store.get_nodes(["b"])[0].metadata == found.metadata
    with pytest.raises(reperio.InvalidChunk, match="longdouble"):
        store.add([node("c", it=np.longdouble(1))])


def test_a_value_of_unknown_type_is_refused_by_name(store: ReperioVectorStore) -> None:
    """With node, key and type; nothing is stored."""
    with pytest.raises(reperio.InvalidChunk, match=r"'a': metadata\['deep'\]\['x'\] is .*\(object\)"):
        store.add([node("b"), node("a", deep={"x": object()})])
    assert store.get_nodes() == []


COLLIDING = ["_llama_index", "_node_content", "_node_type", "doc_id", "ref_doc_id", "document_id", "id", "id_", "text",
             "metadata", "embedding", "relationships", "hash", "class_name", "node", "own", "notes"]  # fmt: skip


def test_user_keys_that_collide_with_the_frameworks_names(store: ReperioVectorStore) -> None:
    """They are the user's, and the framework's own are what they should be."""
    metadata = {key: f"mine {at}" for at, key in enumerate(COLLIDING)}
    metadata |= {"_llama_index": {"type": "TextNode", "on": date(2024, 1, 1), "doc_id": "not mine"}}
    original = node("a", document="d")
    original.metadata = metadata
    store.add([original])
    (found,) = store.query(to_query(doc_ids=["d"])).nodes or []
    assert found.metadata == metadata
    assert (found.ref_doc_id, found.node_id, found.get_content()) == ("d", "a", "a")
    store.delete("mine 4")
    assert len(store.get_nodes()) == 1


def test_a_subclass_comes_back_as_what_it_extends_or_is_refused(store: ReperioVectorStore) -> None:
    """Without fields of its own nothing is lost; with them it is refused, the fields named."""

    class Paragraph(TextNode):
        pass

    class Page(TextNode):
        number: int = 0

    store.add([Paragraph(id_="p", text="x", embedding=vector(1.0))])
    assert type(store.get_nodes(["p"])[0]) is TextNode
    with pytest.raises(reperio.InvalidInput, match=r"'q' is a Page.*without number: put that into its metadata"):
        store.add([Page(id_="q", text="x", embedding=vector(1.0), number=3)])


def test_an_index_node_whose_object_cannot_be_written_is_refused(store: ReperioVectorStore) -> None:
    """By name; `VectorStoreIndex.insert_nodes` takes such objects out by itself."""
    odd = IndexNode(id_="odd", text="x", index_id="i", obj=object(), embedding=vector(1.0))
    with pytest.raises(reperio.InvalidInput, match="'odd' cannot be stored"):
        store.add([odd])


def test_what_is_found_shares_nothing_with_the_store(store: ReperioVectorStore) -> None:
    """Changing a node that was found, or one that was added, changes no later result."""
    added = node("a", list=[1], deep={"x": 1})
    store.add([added])
    added.metadata["list"].append(2)
    for _ in range(3):
        (found,) = store.query(to_query()).nodes or []
        assert found.metadata == {"list": [1], "deep": {"x": 1}}
        found.metadata["list"].append(3)
        found.metadata["deep"]["x"] = 2


def test_a_reserved_field_that_others_wrote_is_reported(store: ReperioVectorStore) -> None:
    """Not a KeyError: what it is, and what to do."""
    store.add([node("a")])
    assert store.client is not None
    for own in (
        {},
        {"type": "Unknown", "node": {}},
        3,
        {"type": "TextNode", "node": {}, "notes": [[[["x"], "uuid"]], []]},
    ):
        store.client.add([reperio.Chunk("b", "x", {RESERVED: own})], vectors=[vector(1.0)])
        with pytest.raises(reperio.CollectionDamaged, match="'b': the metadata field '_llama_index' is not what"):
            store.get_nodes(["b"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.dictionaries(st.text(), json_values, max_size=4))
def test_any_text_and_metadata(text: str, metadata: dict[str, Any]) -> None:
    """Whatever Hypothesis thinks of, through JSON."""
    import orjson

    original = TextNode(id_="n", text=text, metadata=metadata)
    chunk = to_chunk(original)
    chunk.metadata = orjson.loads(orjson.dumps(chunk.metadata))
    assert from_chunk(chunk) == original
