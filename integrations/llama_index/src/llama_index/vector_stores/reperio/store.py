"""The vector store: LlamaIndex's surface over one collection."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec
import reperio
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.storage.storage_context import StorageContext
from llama_index.core.vector_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)
from reperio import (
    Collection,
    CollectionNotFound,
    Filter,
    InvalidInput,
    Metric,
    Reranker,
)
from reperio.arguments import unknown_option
from reperio.filters import all_of, parse, to_dict
from typing_extensions import Never, Self

from llama_index.vector_stores.reperio.docstore import ReperioDocumentStore
from llama_index.vector_stores.reperio.documents import from_chunk, to_chunks
from llama_index.vector_stores.reperio.embedder import LlamaIndexEmbedder
from llama_index.vector_stores.reperio.filters import of_documents, to_filter
from llama_index.vector_stores.reperio.ledger import Ledger
from llama_index.vector_stores.reperio.options import to_plan
from llama_index.vector_stores.reperio.persisting import agreed_scope, read_pointer, write_pointer
from llama_index.vector_stores.reperio.repetition import warn_of_repetition
from llama_index.vector_stores.reperio.scores import to_similarity

_IN_MEMORY = ":memory:"  # what reperio.open takes instead of a path
_SEPARATOR = "__"  # between namespace and file name, as StorageContext.persist writes it


class ReperioVectorStore(BasePydanticVectorStore):
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
        recall: knn recall to aim at, in (0, 1]; a query's option ``recall`` overrides it.
        reranker: for query mode SEMANTIC_HYBRID.

    Raises:
        InvalidInput: neither or both of *path* and *collection*, or options of opening next to *collection*.
        ReperioError: whatever `reperio.open` raises.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    path: str
    recall: float = 0.95

    _collection: Collection | None = PrivateAttr(default=None)
    _metric: Metric = PrivateAttr(default=Metric.COSINE)
    _options: dict[str, Any] = PrivateAttr(default_factory=dict)
    _owned: bool = PrivateAttr(default=True)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _reranker: Reranker | None = PrivateAttr(default=None)

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
        read_only: bool = False,
        recall: float = 0.95,
        reranker: Reranker | None = None,
    ) -> None:
        if path is not None and collection is not None:
            raise InvalidInput("ReperioVectorStore takes path= or collection=, not both; without them it is in memory")
        if reranker is not None and not isinstance(reranker, Reranker):
            raise InvalidInput(f"reranker is a {type(reranker).__name__}; pass a reperio.Reranker")
        options = {"dimension": dimension, "metric": metric, "dtype": dtype, "lexical": lexical, "scope": scope}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        if read_only:
            given["read_only"] = True
        if collection is not None and (given or embed_model is not None):
            name = next(iter(given), "embed_model")
            raise InvalidInput(f"{name} is for opening a path; collection= is open already, leave {name} out")
        where = str((path or _IN_MEMORY) if collection is None else collection.info().path)
        # Absolute: the collection may be created long after this, by when the working directory is another.
        where = where if where == _IN_MEMORY else str(Path(where).absolute())
        super().__init__(stores_text=True, path=where, recall=recall)
        self._options, self._reranker, self._owned = given, reranker, collection is None
        if collection is not None:
            self._use(collection)
        elif embed_model is not None:
            self._use(reperio.open(self.path, embedder=LlamaIndexEmbedder(embed_model), **given))
        elif dimension is not None or read_only or self._exists():
            self._use(reperio.open(self.path, **given))

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

    def __getstate__(self) -> Never:
        # LlamaIndex would leave out what cannot be pickled, the collection with its scope.
        raise InvalidInput(
            f"a ReperioVectorStore cannot be pickled: pass its path, {self.path!r}, and its scope, and open it there,"
            " with read_only=True next to a writer"
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any], **_: Any) -> Self:
        """Refuse: what `to_dict` tells lacks the scope, and a store without it would see more than before."""
        raise InvalidInput(
            f"a ReperioVectorStore is not made from a dictionary: open ReperioVectorStore({data.get('path', 'path')!r})"
            " with the scope it had, or use persist() and from_persist_path(), which keep it"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes with their embeddings, in one commit; a node whose id is stored is replaced.

        Returns:
            The nodes' ids.

        Raises:
            InvalidInput: a node without embedding, or one that cannot be stored; none was. UnknownOption for options.

        Warns:
            ReperioWarning: the same text of the same document is stored under another id: the document is being
                inserted a second time, by an index that does not know this collection (see `storage_context`).
        """
        _refuse(kwargs, "add")
        if not nodes:
            return []
        chunks, vectors = to_chunks(nodes)
        collection = self._opened(len(vectors[0]))
        warn_of_repetition(collection, chunks)
        collection.add(chunks, vectors=vectors, batch_size=len(chunks))
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document, in one commit; none is no error."""
        _refuse(delete_kwargs, "delete")
        if self._collection is not None:
            # The record first: killed in between, it is the nodes that tell that the document is still there.
            Ledger(self._collection).forget([ref_doc_id])
            self._collection.delete(where=of_documents([ref_doc_id]))

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
        found = self._collection.get(where=where) if node_ids is None else self._collection.get(node_ids, where=where)
        if not include_embeddings or not found:
            return [from_chunk(chunk) for chunk in found]
        vectors = self._collection.vectors([chunk.id for chunk in found]).tolist()
        return [from_chunk(chunk, vector) for chunk, vector in zip(found, vectors, strict=True)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Find the nodes that answer best: exactly min(k, those that match), best first.

        Filters, doc_ids and node_ids must all hold. An empty node_ids restricts nothing (retrievers pass it always),
        an empty doc_ids matches nothing. Similarities are as in the table of `scores`, higher is better.

        Args:
            query: modes DEFAULT, SPARSE and TEXT_SEARCH (by words, no embedding needed), HYBRID (alpha 0 = words, 1 =
                vectors; hybrid_top_k results, of the best sparse_top_k by words), SEMANTIC_HYBRID (reranked), MMR.
            kwargs: a retriever's vector_store_kwargs: recall, candidates, mmr_threshold (wins over the query's),
                mmr_prefetch_factor or mmr_prefetch_k.

        Raises:
            InvalidInput: (a ValueError) a mode that is not offered; something missing, or without effect in the mode.
        """
        plan = to_plan(query, kwargs, self._reranker)
        where = self._restricted(query)
        if self._collection is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        if "mode" not in plan.options or plan.options["mode"] != "lexical":
            plan.options.setdefault("recall", self.recall)
        hits = self._collection.search(where=where, ids=query.node_ids or None, **plan.options)
        return VectorStoreQueryResult(
            nodes=[from_chunk(hit.chunk) for hit in hits],
            similarities=[to_similarity(hit.score, self._metric, dense=plan.dense) for hit in hits],
            ids=[hit.chunk.id for hit in hits],
        )

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

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`, in a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    # ── persisting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def persist(self, persist_path: str, fs: fsspec.AbstractFileSystem | None = None) -> None:
        """Write a pointer to the collection, which is on disk already; `reperio.Collection.backup` makes copies.

        The scope is written with it, and holds again when the store is loaded.

        Raises:
            InvalidInput: the collection is in memory.
        """
        if self.path == _IN_MEMORY:
            raise InvalidInput(
                "this store is in memory, and a pointer to it would lead nowhere; make it with path=…, or keep a copy: "
                "store.client.backup(path)"
            )
        write_pointer(str(persist_path), self.path, self._scope(), fs)

    @classmethod
    def from_persist_path(
        cls, persist_path: str, fs: fsspec.AbstractFileSystem | None = None, **options: Any
    ) -> ReperioVectorStore:
        """Open what `persist` wrote a pointer to, with the scope it had; *options* are those of the constructor.

        Raises:
            NotACollection: nothing is there, or what another store wrote.
            InvalidInput: a scope that is another than the one persisted.
        """
        pointer = read_pointer(str(persist_path), fs)
        scope = agreed_scope(pointer.scope, options.pop("scope", None), str(persist_path))
        return cls(pointer.path, scope=scope, **options)

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = "default",
        fs: fsspec.AbstractFileSystem | None = None,
        **options: Any,
    ) -> ReperioVectorStore:
        """Open the store that was in a storage context persisted to *persist_dir*, under *namespace* there."""
        name = f"{namespace}{_SEPARATOR}{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(f"{str(persist_dir).rstrip('/')}/{name}", fs, **options)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scope(self) -> dict[str, Any] | None:
        if self._collection is not None:
            return self._collection.scope
        given = self._options.get("scope")  # of a collection that is created when the first nodes come
        return None if given is None else to_dict(parse(given)) or None

    def _exists(self) -> bool:
        if self.path == _IN_MEMORY:
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

    def _restricted(self, query: VectorStoreQuery) -> Filter | None:
        wanted = [] if query.filters is None else [to_filter(query.filters)]
        if query.doc_ids is not None:
            wanted.append(of_documents(query.doc_ids))
        return all_of(wanted) if wanted else None


def _refuse(unknown: Mapping[str, Any], method: str) -> None:
    if unknown:
        raise unknown_option(method, next(iter(unknown)), ())
