"""The vector store: LlamaIndex's surface over one collection."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import reperio
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.vector_stores.types import MetadataFilters
from reperio import Chunk, Collection, CollectionNotFound, Filter, InvalidInput, Limits, Metric, Reranker
from reperio.arguments import id_list, require_recall, to_path, unknown_option
from typing_extensions import Self

from llama_index.vector_stores.reperio.conversion.documents import document_of, from_chunk, to_chunks
from llama_index.vector_stores.reperio.conversion.embedder import LlamaIndexEmbedder
from llama_index.vector_stores.reperio.conversion.filters import of_documents, to_filter
from llama_index.vector_stores.reperio.docstore import Early, ReperioDocumentStore
from llama_index.vector_stores.reperio.insertions import Insertions, settle
from llama_index.vector_stores.reperio.ledger import Ledger
from llama_index.vector_stores.reperio.reopening import IN_MEMORY, LIMITS, Reopening
from llama_index.vector_stores.reperio.repetition import warn_of_repetition
from llama_index.vector_stores.reperio.searching import Searching


class ReperioVectorStore(Searching, Reopening):
    """Nodes, their vectors and an index, in one directory: a Reperio collection.

    A collection that does not exist is created when the first nodes are added, with the dimension of their embeddings
    (or at once, where *dimension* or *embed_model* tells it). Every add and delete is durable when it returns. Any
    number of threads may use one store; the asynchronous methods run in threads and never hold up the event loop.

    Args:
        path: the collection's directory; without it and *collection*, it is in memory until the store is closed.
        collection: an open handle instead, which stays the caller's to close.
        embed_model: what makes the embeddings. It is not used to embed, but recorded in the collection, and checked
            whenever it is opened with it, so that another model's vectors are never mixed in.
        dimension, metric, dtype, lexical, scope, read_only: as in `reperio.open`; the metric is cosine by default.
        limits: as in `reperio.open`; by default those of `reperio.Limits`, with 64 MiB of metadata, for inline images.
        recall: knn recall to aim at, in (0, 1]; a query's option ``recall`` overrides it.
        reranker: for query mode SEMANTIC_HYBRID.

    Raises:
        InvalidInput: neither or both of *path* and *collection*, or options of opening next to *collection*.
        ReperioError: whatever `reperio.open` raises.
    """

    stores_text: bool = True
    is_embedding_query: bool = True

    _metric: Metric = PrivateAttr(default=Metric.COSINE)
    _owned: bool = PrivateAttr(default=True)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _insertions: Insertions = PrivateAttr(default_factory=Insertions)

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        collection: Collection | None = None,
        embed_model: BaseEmbedding | None = None,
        dimension: int | None = None,
        metric: Metric | str | None = None,
        dtype: str | None = None,
        lexical: str | None = None,
        scope: Mapping[str, Any] | Filter | None = None,
        limits: Limits | None = None,
        read_only: bool = False,
        recall: float = 0.95,
        reranker: Reranker | None = None,
    ) -> None:
        if path is not None and collection is not None:
            raise InvalidInput("ReperioVectorStore takes path= or collection=, not both; without them it is in memory")
        _require_kinds(collection, embed_model, reranker)
        require_recall(recall)
        options = {
            "dimension": dimension,
            "metric": metric,
            "dtype": dtype,
            "lexical": lexical,
            "scope": scope,
            "limits": limits,
        }
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if read_only:
            given["read_only"] = True
        if collection is not None and (given or embed_model is not None):
            name = next(iter(given), "embed_model")
            raise InvalidInput(f"{name} is for opening a path; collection= is open already, leave {name} out")
        if path is not None and path != IN_MEMORY:
            path = to_path("path", path)
        where = str((path or IN_MEMORY) if collection is None else collection.info().path)
        # Absolute: the collection may be created long after this, by when the working directory is another.
        where = where if where == IN_MEMORY else str(Path(where).absolute())
        super().__init__(stores_text=True, path=where, recall=recall)
        self._limits = limits or LIMITS
        self._options, self._reranker, self._owned = given | {"limits": self._limits}, reranker, collection is None
        if collection is not None:
            self._use(collection)
        elif embed_model is not None:
            self._use(reperio.open(self.path, embedder=LlamaIndexEmbedder(embed_model), **self._options))
        elif dimension is not None or read_only or self._exists():
            self._use(reperio.open(self.path, **self._options))

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def class_name(cls) -> str:
        """Name it in serialised form."""
        return "ReperioVectorStore"

    @property
    def client(self) -> Collection | None:
        """The open collection; None while there is none yet."""
        return self._collection

    @property
    def docstore(self) -> ReperioDocumentStore:
        """The document store of this collection; see `storage_context`."""
        return ReperioDocumentStore(self)

    @property
    def early(self) -> Early:
        """What its document store was told before there was a collection."""
        return self._early

    @property
    def insertions(self) -> Insertions:
        """The documents that are being refreshed through it; see `insertions`."""
        return self._insertions

    def storage_context(self) -> StorageContext:
        """Return a storage context whose document store knows what is stored here, in every process.

        With it ``refresh_ref_docs`` and ``update_ref_doc`` find what has changed:
        ``VectorStoreIndex(nodes=[], storage_context=store.storage_context())``. (``from_vector_store`` makes an empty
        document store of its own, to which every document is new.)
        """
        return StorageContext.from_defaults(vector_store=self, docstore=self.docstore)

    def close(self) -> None:
        """Close the collection if this store opened it, and let the next writer have it."""
        if self._collection is not None and self._owned:
            self._collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes with their embeddings, in one commit; a node whose id is stored is replaced.

        Of more nodes than the limits allow in a batch (100,000), each such batch is a commit.

        Nodes of a document that is being refreshed replace those that another writer has stored of it meanwhile; they
        are left out where a later refresh has replaced this one: see `insertions`.

        Returns:
            The nodes' ids.

        Raises:
            InvalidInput: a node without embedding, or one that cannot be stored: none of its batch was. UnknownOption
                for options.

        Warns:
            ReperioWarning: the same text of the same document is stored under another id: the document is being
                inserted a second time, by an index that does not know this collection (see `storage_context`).
        """
        _refuse(kwargs, "add")
        if not nodes:
            return []
        chunks, vectors = to_chunks(nodes)
        collection = self._opened(len(vectors[0]))
        begun = self._insertions.begun(dict.fromkeys(map(document_of, chunks)))
        if begun:
            with collection.turn():  # nobody adds nodes of theirs between the look and the writing
                replaced = settle(collection, begun, chunks)
                kept = [at for at, chunk in enumerate(chunks) if document_of(chunk) not in replaced]
                self._put(collection, [chunks[at] for at in kept], [vectors[at] for at in kept])
            for at in kept:
                if (insertion := begun.get(document_of(chunks[at]))) is not None:
                    insertion.nodes.add(chunks[at].id)
        else:
            self._put(collection, chunks, vectors)
        self.docstore.keep_early()
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document, in one commit; none is no error."""
        _refuse(delete_kwargs, "delete")
        if self._collection is not None:
            # The record first: killed in between, it is the nodes that tell that the document is still there.
            Ledger(self._collection).forget([ref_doc_id])
            self._collection.delete(where=of_documents([ref_doc_id]))
        self._insertions.deleted(ref_doc_id)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete nodes by id, by filter, or those of *node_ids* that match *filters*; with neither, nothing.

        Raises:
            InvalidInput: filters alone that match everything; `clear` is for that.
        """
        _refuse(delete_kwargs, "delete_nodes")
        if self._collection is None or (node_ids is None and filters is None):
            return
        where = None if filters is None else to_filter(filters)
        if node_ids is None:
            self._collection.delete(where=where)
        else:
            self._collection.delete(ids=node_ids, where=where)

    def clear(self) -> None:
        """Delete all nodes; the collection stays, with its dimension and metric."""
        if self._collection is not None:
            Ledger(self._collection).forget_all()
            self._collection.delete(ids=self._collection.ids())

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_embeddings: bool = False,
    ) -> list[BaseNode]:
        """Return nodes by id (in that order, those that exist), by filter, by both, or all in the order of adding.

        Args:
            node_ids, filters: as in `delete_nodes`.
            include_embeddings: with their vectors as stored, which under cosine are of unit length.
        """
        if self._collection is None:
            return []
        where = None if filters is None else to_filter(filters)
        found = self._collection.get(*(() if node_ids is None else (id_list(node_ids),)), where=where)
        if not include_embeddings or not found:
            return [from_chunk(chunk) for chunk in found]
        vectors = self._collection.vectors([chunk.id for chunk in found]).tolist()
        return [from_chunk(chunk, vector) for chunk, vector in zip(found, vectors, strict=True)]

    # ── without holding up the event loop ────────────────────────────────────────────────────────────────────────────

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add`, in a thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete`, in a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """`delete_nodes`, in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear`, in a thread."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        include_embeddings: bool = False,
    ) -> list[BaseNode]:
        """`get_nodes`, in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters, include_embeddings=include_embeddings)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _put(self, collection: Collection, chunks: list[Chunk], vectors: list[list[float]]) -> None:
        if chunks:
            warn_of_repetition(collection, chunks)
            collection.add(chunks, vectors=vectors, batch_size=min(len(chunks), self._limits.batch))

    def _exists(self) -> bool:
        if self.path == IN_MEMORY:
            return False
        try:
            reperio.open(self.path, read_only=True).close()
        except CollectionNotFound:
            return False
        return True

    def _use(self, collection: Collection) -> None:
        self._metric = collection.info().metric
        self._collection = collection

    def _opened(self, dimension: int) -> Collection:
        with self._opening:  # of several threads that add the first nodes, one creates the collection
            if self._collection is None:
                self._use(reperio.open(self.path, dimension=dimension, **self._options))
            assert self._collection is not None
            return self._collection


def _require_kinds(collection: object, embed_model: object, reranker: object) -> None:
    if collection is not None and not isinstance(collection, Collection):
        raise InvalidInput(f"collection is a {type(collection).__name__}; pass what reperio.open returns, or path=")
    if embed_model is not None and not isinstance(embed_model, BaseEmbedding):
        raise InvalidInput(f"embed_model is a {type(embed_model).__name__}; pass a LlamaIndex embedding model")
    if reranker is not None and not isinstance(reranker, Reranker):
        raise InvalidInput(f"reranker is a {type(reranker).__name__}; pass a reperio.Reranker")


def _refuse(unknown: Mapping[str, Any], method: str) -> None:
    if unknown:
        raise unknown_option(method, next(iter(unknown)), ())
