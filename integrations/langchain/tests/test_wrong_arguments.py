"""Refuse what is passed by mistake by a typed error that says what to pass instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from reperio.errors import InvalidInput

from langchain_reperio import ReperioRecordManager, ReperioVectorStore
from tests.conftest import TrigramEmbeddings

WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no texts": (lambda store: store.add_texts(None), "texts is a NoneType; pass a list of texts"),
    "one text": (lambda store: store.add_texts("a"), "texts is one string; pass a list"),
    "ids as one string": (
        lambda store: store.add_texts(["a", "b"], ids="ab"),
        "ids is one string, of which each letter",
    ),
    "no ids": (lambda store: store.get_by_ids(None), "ids is a NoneType; pass a list of ids"),
    "no pairs": (lambda store: store.add_embeddings(None), "text_embeddings is a NoneType; pass pairs"),
    "a share as text": (
        lambda store: store.max_marginal_relevance_search("a", lambda_mult="0.5"),
        "lambda_mult is '0.5'; from 0",
    ),
    "a number as text": (lambda store: store.max_marginal_relevance_search("a", fetch_k="9"), "fetch_k is '9'"),
    "records of a path": (
        lambda _: ReperioRecordManager("docs", "kb"),
        "store is a str; pass a ReperioVectorStore",
    ),
    "a namespace that is none": (lambda store: ReperioRecordManager(3, store), "namespace is a int; pass a name"),  # type: ignore[arg-type]  # the mistake
    "a recall above 1": (lambda _: ReperioVectorStore(TrigramEmbeddings(), recall=95), "recall is 95; it must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(case: str, store: ReperioVectorStore) -> None:
    """Nothing is stored by it."""
    call, message = WRONG[case]
    with pytest.raises(InvalidInput, match=message):
        call(store)
    assert store.collection.count() == 0
