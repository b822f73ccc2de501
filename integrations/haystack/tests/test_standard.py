"""Haystack's own document store tests, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as standard
from haystack.testing import document_store_async as asynchronous

from haystack_integrations.document_stores.reperio import ReperioDocumentStore


class _Made:
    """A store of the dimension that the tests use, and the comparison of what it returns."""

    @pytest.fixture
    def document_store(self, path: Path) -> Iterator[ReperioDocumentStore]:
        with ReperioDocumentStore(path, embedding_dimension=768) as store:
            yield store

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """Equal in all but the last digits of their embeddings, which are kept as float32."""
        assert [each.id for each in received] == [each.id for each in expected]
        for one, other in zip(received, expected, strict=True):
            assert (one.embedding is None) == (other.embedding is None)
            if one.embedding is not None:
                np.testing.assert_allclose(one.embedding, other.embedding, rtol=1e-5, atol=1e-6)
            assert {**one.to_dict(flatten=False), "embedding": None} == {
                **other.to_dict(flatten=False),
                "embedding": None,
            }


class TestDocumentStore(
    _Made,
    standard.DocumentStoreBaseExtendedTests,
    standard.CountDocumentsByFilterTest,
    standard.CountUniqueMetadataByFilterTest,
    standard.GetMetadataFieldsInfoTest,
    standard.GetMetadataFieldMinMaxTest,
    standard.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: ReperioDocumentStore) -> None:
        """Without a policy, an id that is there is refused, as by FAIL."""
        documents = [Document(content="test doc")]
        assert document_store.write_documents(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)
        self.assert_documents_are_equal(document_store.filter_documents(), documents)


class TestAsyncDocumentStore(
    _Made,
    asynchronous.CountDocumentsAsyncTest,
    asynchronous.CountDocumentsByFilterAsyncTest,
    asynchronous.CountUniqueMetadataByFilterAsyncTest,
    asynchronous.DeleteAllAsyncTest,
    asynchronous.DeleteByFilterAsyncTest,
    asynchronous.DeleteDocumentsAsyncTest,
    asynchronous.FilterDocumentsAsyncTest,
    asynchronous.GetMetadataFieldMinMaxAsyncTest,
    asynchronous.GetMetadataFieldsInfoAsyncTest,
    asynchronous.GetMetadataFieldUniqueValuesAsyncTest,
    asynchronous.UpdateByFilterAsyncTest,
    asynchronous.WriteDocumentsAsyncTest,
):
    async def test_write_documents_async(self, document_store: ReperioDocumentStore) -> None:
        """Without a policy, an id that is there is refused, as by FAIL."""
        documents = [Document(content="test doc")]
        assert await document_store.write_documents_async(documents) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(documents)


def test_no_suite_is_left_out() -> None:
    """A class of tests that Haystack adds shows here."""
    for module, used in ((standard, TestDocumentStore), (asynchronous, TestAsyncDocumentStore)):
        suites = {each for name, each in vars(module).items() if name.endswith("Test") and isinstance(each, type)}
        own = {each for each in suites if each.__module__ == module.__name__}
        assert own <= set(used.__mro__), own - set(used.__mro__)
