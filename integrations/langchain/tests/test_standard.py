"""The standard suites of langchain-tests, whole, against a fresh store, a reopened one, and one with an index."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from langchain_reperio import ReperioRetriever, ReperioVectorStore
from tests.conftest import TEXTS
from tests.standing import STATES, fresh, indexed, reopened


class OfVectorStores(VectorStoreIntegrationTests):
    state = staticmethod(fresh)

    @pytest.fixture
    def vectorstore(self, path: Path) -> Iterator[ReperioVectorStore]:  # type: ignore[override]  # theirs returns the store itself; ours closes it
        with self.state(self.get_embeddings(), path) as store:
            yield store


class TestFreshStore(OfVectorStores):
    pass


class TestReopenedStore(OfVectorStores):
    state = staticmethod(reopened)


class TestIndexedStore(OfVectorStores):
    state = staticmethod(indexed)


class OfRetrievers(RetrieversIntegrationTests):
    state = staticmethod(fresh)

    @pytest.fixture(autouse=True)
    def _open(self, path: Path) -> Iterator[None]:
        with self.state(VectorStoreIntegrationTests.get_embeddings(), path) as store:
            store.add_texts(list(TEXTS.values()), ids=list(TEXTS))
            self.store = store
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return ReperioRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "fruit"


class TestRetrieverOnFreshStore(OfRetrievers):
    pass


class TestRetrieverOnReopenedStore(OfRetrievers):
    state = staticmethod(reopened)


class TestRetrieverOnIndexedStore(OfRetrievers):
    state = staticmethod(indexed)


class TestHybridRetriever(OfRetrievers):
    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store, "mode": "hybrid"}


def test_no_standard_test_is_replaced_or_expected_to_fail() -> None:
    """The suites run as they were published: nothing overridden but their fixtures, sync and async both on."""
    assert set(STATES) == {"fresh", "reopened", "indexed"}
    for suite in (TestFreshStore, TestReopenedStore, TestIndexedStore, TestRetrieverOnFreshStore, TestHybridRetriever):
        published = next(kind for kind in suite.__mro__ if kind.__module__.startswith("langchain_tests"))
        for name, _ in inspect.getmembers(suite, inspect.isfunction):
            if name.startswith("test_"):
                assert getattr(suite, name) is getattr(published, name), name
                assert not getattr(getattr(suite, name), "pytestmark", []), name
    store = TestFreshStore()
    assert (store.has_sync, store.has_async, store.has_get_by_ids) == (True, True, True)
