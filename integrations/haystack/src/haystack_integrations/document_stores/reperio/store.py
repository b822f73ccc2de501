"""The document store: Haystack's interface, method by method."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from reperio import Chunk, Collection, Metric
from reperio.collection.facade import handle_of, with_vectors
from reperio.collection.write.adding import check
from reperio.errors import InvalidInput, ReperioError
from typing_extensions import Self

from haystack_integrations.document_stores.reperio import metadata
from haystack_integrations.document_stores.reperio.documents import (
    HAS_CONTENT,
    HAS_VECTOR,
    from_chunk,
    from_hit,
    to_chunk,
    to_vectors,
    with_meta,
)
from haystack_integrations.document_stores.reperio.filters import to_narrowed
from haystack_integrations.document_stores.reperio.options import DEFAULT_DIMENSION, Opening, to_text

Filters = Mapping[str, Any] | None

_COMMIT = 10_000
"""Documents per commit: a call that writes no more stores all or nothing."""


class ReperioDocumentStore:
    """A Haystack document store in a Reperio collection: one directory, durable when a call returns.

    Documents may lack an embedding: embedding retrieval passes over them, and retrieval by words finds them. In the
    collection their vector is [1, 0, …], which other ways in must leave out: see `documents.HAS_VECTOR`. Meta must be
    JSON. Any number of threads and processes may use one directory. It is opened at the first use.

    Args:
        path: directory of the collection, as seen from the working directory now; a new one is created. None keeps it
            in memory, until the store is closed or the process ends.
        embedding_dimension: length of the embeddings, for a new collection; an existing one has its own.
        metric: "cosine", "inner_product" or "l2", for a new collection.
        scope: a filter that everything done through this store is confined to, e.g. ``{"tenant": "a"}``, in the form
            of `reperio.open`.
        read_only: search only, next to a writer.
        collection: or one that is open already, which then stays open when the store is closed; such a store cannot be
            serialized.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        embedding_dimension: int = DEFAULT_DIMENSION,
        metric: str = "cosine",
        scope: Mapping[str, Any] | None = None,
        read_only: bool = False,
        collection: Collection | None = None,
    ) -> None:
        if collection is not None and not isinstance(collection, Collection):
            raise InvalidInput(f"collection is a {type(collection).__name__}; pass what reperio.open returns, or path=")
        if collection is not None and (path is not None or scope is not None or read_only):
            raise InvalidInput("collection= is open already, so path, scope and read_only are settled; leave them out")
        self._opening = Opening(to_text(path), embedding_dimension, metric, scope, read_only)
        self._given = collection is not None
        self._collection = collection
        self._lock = threading.Lock()

    @property
    def collection(self) -> Collection:
        """The collection underneath: ``optimize``, ``check``, ``backup``, ``compact``, ``info`` and the rest."""
        with self._lock:
            if self._collection is None:
                self._collection = self._opening.open()
            return self._collection

    def close(self) -> None:
        """Close the collection that this store has opened; what was written is on disk already."""
        with self._lock:
            if self._collection is not None and not self._given:
                self._collection.close()
                self._collection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def to_dict(self) -> dict[str, Any]:
        """Return how the store is opened; the documents stay in its directory.

        Raises:
            InvalidInput: it was made with ``collection=``, which no other process can have.
        """
        if self._given:
            raise InvalidInput("a store made with collection= cannot be serialized; make it with path=")
        kept = self._opening
        return default_to_dict(
            self,
            path=kept.path,
            embedding_dimension=kept.embedding_dimension,
            metric=kept.metric,
            scope=None if kept.scope is None else dict(kept.scope),
            read_only=kept.read_only,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ReperioDocumentStore:
        """Return a store that is opened as `to_dict` has told."""
        made: ReperioDocumentStore = default_from_dict(cls, data)
        return made

    # ── documents ────────────────────────────────────────────────────────────────────────────────────────────────────

    def count_documents(self) -> int:
        """Return how many documents there are."""
        return self.collection.count()

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """Return the documents that match *filters*, or all, in the order of adding."""
        chunks, vectors = self._with_vectors(filters)
        unit = bool(chunks) and self.collection.info().metric is Metric.COSINE
        return [from_chunk(chunk, vector, unit=unit) for chunk, vector in zip(chunks, vectors, strict=True)]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents, durably, and return how many were written.

        Args:
            documents: to store; those without an embedding are found by words and filters alone.
            policy: SKIP leaves what is there, OVERWRITE replaces it, FAIL and NONE raise before anything is written.

        Raises:
            ValueError: they are no documents.
            DuplicateDocumentError: an id is there, or twice among them.
            InvalidChunk, InvalidVectors: meta that is no JSON, an embedding of another dimension. The message names the
                document, and nothing is written.
            ReperioError: storing fails after some commits of many documents. Its ``stored_ids`` are the ids that are
                stored by then, and its ``ids`` those of all.
        """
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError("documents is a list of haystack.Document")
        if not isinstance(policy, DuplicatePolicy):
            raise InvalidInput(f"policy is {policy!r:.60}; pass a DuplicatePolicy, such as DuplicatePolicy.OVERWRITE")
        if not documents:
            return 0
        kb = self.collection
        unique = {each.id: each for each in documents}
        if policy is DuplicatePolicy.SKIP:
            first = {each.id: each for each in reversed(documents)}
            unique = {key: first[key] for key in unique}
        elif policy is not DuplicatePolicy.OVERWRITE and len(unique) < len(documents):
            raise _duplicate(next(each.id for each in documents if unique[each.id] is not each))
        vectors = to_vectors(list(unique.values()), kb.info())
        pairs = dict(zip(unique, zip(map(to_chunk, unique.values()), vectors, strict=True), strict=True))
        check(handle_of(kb), [chunk for chunk, _ in pairs.values()])
        with kb.turn():  # nobody adds one of them between the look and the writing
            there = [] if policy is DuplicatePolicy.OVERWRITE else [chunk.id for chunk in kb.get(list(pairs))]
            if there and policy is not DuplicatePolicy.SKIP:
                raise _duplicate(there[0])
            for key in there:
                del pairs[key]
            self._add([chunk for chunk, _ in pairs.values()], [vector for _, vector in pairs.values()])
        return len(documents) if policy is DuplicatePolicy.OVERWRITE else len(pairs)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by id, durably; one that is not there is no error."""
        self.collection.delete(ids=document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        """Delete every document that this store can see, durably and in one commit.

        Args:
            recreate_index: write what is left into new files, which gives the disk space back.
        """
        self.collection.delete(ids=self.collection.ids())
        if recreate_index:
            self.collection.compact()

    def delete_by_filter(self, filters: Filters) -> int:
        """Delete the documents that match, and return how many there were.

        Raises:
            FilterError: there is no filter; `delete_all_documents` deletes everything.
        """
        if not filters:
            raise FilterError("delete_by_filter takes a filter; delete_all_documents deletes everything")
        kb = self.collection
        with kb.turn():  # what is changed meanwhile, so that it no longer matches, stays
            return kb.delete(ids=self._ids(filters))

    def update_by_filter(self, filters: Filters, meta: Mapping[str, Any]) -> int:
        """Set fields of meta in the documents that match, and return how many there were.

        Nobody else writes meanwhile, so that no update of theirs is lost and nothing deleted comes back.

        Raises:
            InvalidChunk: meta that is no JSON; nothing is written.
            ReperioError: as of `write_documents`.
        """
        if not isinstance(meta, Mapping):
            raise InvalidInput(f"meta is a {type(meta).__name__}; pass a dictionary of the fields to set")
        kb = self.collection
        with kb.turn():
            chunks, vectors = self._with_vectors(filters)
            changed = [with_meta(each, meta) for each in chunks]
            check(handle_of(kb), changed)
            self._add(changed, vectors)
        return len(changed)

    # ── what the fields of meta hold ─────────────────────────────────────────────────────────────────────────────────

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Return how many documents match."""
        narrowed = to_narrowed(self.collection, filters)
        return len(narrowed["ids"]) if "ids" in narrowed else self.collection.count(where=narrowed["where"])

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: Sequence[str]) -> dict[str, int]:
        """Return how many distinct values each field has among the documents that match."""
        if isinstance(metadata_fields, str):
            raise InvalidInput("metadata_fields is one string, of which each letter would be a field; pass a list")
        chunks = self._chunks(filters)
        return {name: len(metadata.values_of(chunks, name)) for name in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the fields of meta, each with its type."""
        return metadata.types_of(self.collection)

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the least and the greatest value of a field, None for both where there is none."""
        return metadata.range_of(metadata.values_of(self.collection, metadata_field))

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """Return a page of a field's distinct values, and how many there are in all.

        Args:
            metadata_field: with or without ``meta.`` before it.
            search_term: only values whose text contains this, whatever the case.
            from_, size: of the page.
            filters: only of documents that match.
        """
        found = metadata.values_of(self._chunks(filters), metadata_field)
        return metadata.page_of(found, search_term, from_, size)

    # ── retrieval, for the retrievers ────────────────────────────────────────────────────────────────────────────────

    def _search(
        self,
        *,
        query: str | None,
        embedding: Sequence[float] | None,
        filters: Filters,
        top_k: int,
        options: Mapping[str, Any],
    ) -> list[Document]:
        """Return the best documents with their scores; with both a query and an embedding, by both."""
        if top_k == 0:
            return []
        if query is not None and not query.strip():
            raise ValueError("query is a non-empty string")
        must = ([HAS_CONTENT] if query is not None else []) + ([HAS_VECTOR] if embedding is not None else [])
        narrowed = to_narrowed(self.collection, filters, *must)
        mode: Any = "dense" if query is None else "lexical" if embedding is None else "hybrid"
        hits = self.collection.search(query, vector=embedding, k=top_k, mode=mode, **narrowed, **options)
        return [from_hit(hit) for hit in hits]

    def _ids(self, filters: Filters) -> list[str]:
        narrowed = to_narrowed(self.collection, filters)
        return narrowed["ids"] if "ids" in narrowed else self.collection.ids(where=narrowed["where"])

    def _chunks(self, filters: Filters) -> list[Chunk]:
        narrowed = to_narrowed(self.collection, filters)
        kb = self.collection
        return kb.get(narrowed["ids"]) if "ids" in narrowed else kb.get(where=narrowed["where"])

    def _with_vectors(self, filters: Filters) -> tuple[list[Chunk], npt.NDArray[np.float32]]:
        """Return what matches with its vectors, of one state: read one after the other, they may not fit together."""
        narrowed = to_narrowed(self.collection, filters)
        return with_vectors(self.collection, ids=narrowed.get("ids"), where=narrowed.get("where"))

    def _add(self, chunks: list[Chunk], vectors: Any) -> None:
        """Store chunks in as few commits as may be, and let an error tell which of them are stored."""
        stored = 0

        def note(_: str, done: int, __: int | None) -> None:
            nonlocal stored
            stored = done

        batch = min(_COMMIT, handle_of(self.collection).limits.batch)
        try:
            self.collection.add(chunks, vectors=vectors, batch_size=batch, progress=note)
        except ReperioError as error:
            error.ids = [chunk.id for chunk in chunks]
            error.stored_ids = error.ids[:stored]
            raise

    # ── the same for coroutines: in a thread, never in the loop ──────────────────────────────────────────────────────

    async def count_documents_async(self) -> int:
        """Await `count_documents`."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: Filters = None) -> list[Document]:
        """Await `filter_documents`."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Await `write_documents`."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Await `delete_documents`."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self, recreate_index: bool = False) -> None:
        """Await `delete_all_documents`."""
        await asyncio.to_thread(self.delete_all_documents, recreate_index)

    async def delete_by_filter_async(self, filters: Filters) -> int:
        """Await `delete_by_filter`."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: Filters, meta: Mapping[str, Any]) -> int:
        """Await `update_by_filter`."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: Filters) -> int:
        """Await `count_documents_by_filter`."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: Filters, metadata_fields: Sequence[str]
    ) -> dict[str, int]:
        """Await `count_unique_metadata_by_filter`."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Await `get_metadata_fields_info`."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Await `get_metadata_field_min_max`."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """Await `get_metadata_field_unique_values`."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )


def _duplicate(key: str) -> DuplicateDocumentError:
    return DuplicateDocumentError(
        f"a document with the id {key!r:.80} is there already, or twice among those that are written; "
        "pass policy=DuplicatePolicy.OVERWRITE or SKIP"
    )
