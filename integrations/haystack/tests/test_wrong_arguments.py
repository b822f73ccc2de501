"""Refuse what is passed by mistake by a typed error that says what to pass instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from haystack.dataclasses import Document
from reperio.errors import InvalidInput

from haystack_integrations.components.retrievers.reperio import ReperioBM25Retriever, ReperioHybridRetriever
from haystack_integrations.document_stores.reperio import ReperioDocumentStore
from tests.conftest import embed

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a policy's name": (
        lambda store: store.write_documents([Document(content="x")], "overwrite"),
        "pass a DuplicatePolicy",
    ),
    "meta that is a text": (lambda store: store.update_by_filter(None, "x"), "meta is a str; pass a dictionary"),
    "one field as text": (
        lambda store: store.count_unique_metadata_by_filter(None, "year"),
        "metadata_fields is one string",
    ),
    "a field by number": (lambda store: store.get_metadata_field_min_max(3), "named by a string, not by 3"),
    "a size below 0": (
        lambda store: store.get_metadata_field_unique_values("year", size=-1),
        "size -1; both are integers",
    ),
    "a term by number": (
        lambda store: store.get_metadata_field_unique_values("year", search_term=2),
        "it is a text, or None",
    ),
    "a path as collection": (lambda _: ReperioDocumentStore(collection="kb"), "collection is a str; pass what"),  # type: ignore[arg-type]  # the mistake
    "a count as text": (lambda store: ReperioBM25Retriever(store, top_k="3"), "top_k is '3'; it is an integer"),  # type: ignore[arg-type]  # likewise
    "several questions": (lambda store: ReperioBM25Retriever(store).run(["a"]), "query is a list; pass a text"),  # type: ignore[arg-type]  # likewise
    "half a question": (lambda store: ReperioHybridRetriever(store).run(None, embed("a")), "query is None; hybrid"),  # type: ignore[arg-type]  # likewise
    "the other half": (lambda store: ReperioHybridRetriever(store).run("a", None), "query_embedding is None; hybrid"),  # type: ignore[arg-type]  # likewise
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(case: str, filled: ReperioDocumentStore) -> None:
    """Whatever is there stays as it is."""
    before = filled.filter_documents()
    call, message = WRONG[case]
    with pytest.raises(InvalidInput, match=message):
        call(filled)
    assert filled.filter_documents() == before
