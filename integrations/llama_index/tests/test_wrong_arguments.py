"""Refuse what is passed by mistake by a typed error that says what to pass instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from reperio import InvalidInput

from llama_index.vector_stores.reperio import ReperioVectorStore
from tests.conftest import node, to_query

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "texts as nodes": (lambda store: store.add(["a"]), "nodes has a str; pass a list of nodes"),
    "a text as query": (lambda store: store.query("a"), "query is a str; pass a VectorStoreQuery"),
    "doc_ids as one string": (lambda store: store.query(to_query(doc_ids="ab")), "doc_ids is one string"),
    "node_ids as one string": (lambda store: store.query(to_query(node_ids="ab")), "node_ids is one string"),
    "a dictionary as filters": (
        lambda store: store.get_nodes(filters={"x": 1}),
        "filters is a dict; pass MetadataFilters",
    ),
    "a number as path": (lambda _: ReperioVectorStore(3), "path is"),  # type: ignore[arg-type]  # the mistake
    "a path as collection": (
        lambda _: ReperioVectorStore(collection="kb"),
        "collection is a str; pass what reperio.open",
    ),  # type: ignore[arg-type]  # likewise
    "a name as embed_model": (lambda _: ReperioVectorStore(embed_model="m"), "embed_model is a str; pass a LlamaIndex"),  # type: ignore[arg-type]  # likewise
    "a recall above 1": (lambda _: ReperioVectorStore(recall=95), "recall is 95; it must be"),
    "texts as documents": (
        lambda store: store.docstore.add_documents(["a"]),
        "docs has a str; pass a list of documents",
    ),
    "a dictionary of others": (
        lambda store: ReperioVectorStore.from_dict({**store.to_dict(), "early": {"nodes": 3}}),
        "not made by ReperioVectorStore.to_dict",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(case: str, store: ReperioVectorStore) -> None:
    """Whatever is there stays as it is."""
    store.add([node("a")])
    call, message = WRONG[case]
    with pytest.raises(InvalidInput, match=message):
        call(store)
    assert [each.node_id for each in store.get_nodes("a")] == ["a"]  # type: ignore[arg-type]  # one string is one id
