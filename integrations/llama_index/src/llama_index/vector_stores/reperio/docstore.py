"""The document store that belongs to a vector store: what LlamaIndex must remember of documents, in the collection.

A document counts as stored while nodes of it are. So ``refresh_ref_docs`` and the pipelines' strategies see in every
process, and whoever deleted something by whatever way, what really is there; see `ledger`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import fsspec
from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore.types import DEFAULT_PERSIST_PATH, BaseDocumentStore, RefDocInfo
from reperio import Chunk, Collection, InvalidInput, Record, Records

from llama_index.vector_stores.reperio.conversion.documents import RESERVED, from_chunk, to_chunk
from llama_index.vector_stores.reperio.conversion.filters import of_documents
from llama_index.vector_stores.reperio.insertions import Insertions, begin
from llama_index.vector_stores.reperio.ledger import Ledger
from llama_index.vector_stores.reperio.persisting import write_json


@dataclass(slots=True)
class Early:
    """What a document store was told before there was a collection, in memory until the first nodes are added.

    Attributes:
        hashes: of documents, by id; `from_documents` tells them first.
        nodes: by id; a hierarchy of nodes is often kept before its leaves are indexed.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, BaseNode] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.hashes or self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; nodes as the collection will keep them, without embeddings."""
        chunks = [to_chunk(node) for node in self.nodes.values()]
        return {
            "hashes": dict(self.hashes),
            "nodes": [[chunk.id, chunk.text, dict(chunk.metadata)] for chunk in chunks],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Early:
        """Return what `to_dict` has told of.

        Raises:
            InvalidInput: it was not.
        """
        try:
            return cls(dict(told["hashes"]), {each[0]: from_chunk(Chunk(*each)) for each in told["nodes"]})
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"this dictionary was not made by ReperioVectorStore.to_dict: early is {told!r:.80} ({error!s:.80})"
            ) from None


class CollectionHolder(Protocol):
    """An object that has a collection, or will: a `ReperioVectorStore`, which this module cannot import.

    Attributes:
        path: directory of the collection.
        client: open collection; None as long as there is none.
        early: what must be kept once there is one.
        insertions: documents that are being refreshed.
    """

    path: str

    @property
    def early(self) -> Early:
        """Return what must be kept."""

    @property
    def insertions(self) -> Insertions:
        """Return the documents that are being refreshed."""

    @property
    def client(self) -> Collection | None:
        """Return the open collection."""


class ReperioDocumentStore(BaseDocumentStore):
    """Documents, nodes and hashes, in the collection of a `ReperioVectorStore`.

    Every node that the collection holds can be had here too. Others that are added (whole documents of a pipeline,
    parent nodes) are kept next to them, where no search finds them.

    Args:
        vector_store: before its collection exists, what is added here is in memory; with the first nodes that are added
            there it is stored.
    """

    def __init__(self, vector_store: CollectionHolder) -> None:
        self._store = vector_store

    def keep_early(self) -> None:
        """Store what was told before there was a collection. The vector store calls it when it has added nodes."""
        early, collection = self._store.early, self._store.client
        if collection is None:
            return
        hashes, early.hashes = early.hashes, {}
        if hashes:
            Ledger(collection).note(hashes, early=True)
        nodes, early.nodes = early.nodes, {}
        if nodes:
            self.add_documents(list(nodes.values()))

    def persist(self, persist_path: str = DEFAULT_PERSIST_PATH, fs: fsspec.AbstractFileSystem | None = None) -> None:
        """Write an empty document store: this one is in the collection, and the file must exist to get that far."""
        write_json(str(persist_path), {}, fs)

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def docs(self) -> dict[str, BaseNode]:
        """All nodes by id, those of the collection and those next to it."""
        collection = self._store.client
        if collection is None:
            return dict(self._store.early.nodes)
        self.keep_early()
        found = {chunk.id: from_chunk(chunk) for chunk in collection}
        return found | {record.key: _to_node(record) for record in _nodes(collection).list()}

    def add_documents(
        self, docs: Sequence[BaseNode], allow_update: bool = True, batch_size: int = 1, store_text: bool = True
    ) -> None:
        """Keep nodes or documents, and their hashes; those that the collection holds are not kept twice.

        Args:
            docs: their embeddings are not kept.
            allow_update: False to refuse ids that are there.
            batch_size: LlamaIndex's; everything is kept in two commits.
            store_text: False to keep the hashes alone.

        Raises:
            InvalidInput: (a ValueError) an id that is there.
        """
        del batch_size
        if not docs:
            return
        for node in docs:
            if not isinstance(node, BaseNode):
                raise InvalidInput(f"docs has a {type(node).__name__}; pass a list of documents or nodes")
        if not allow_update:
            self._refuse_known(docs)
        collection = self._store.client
        if collection is None:
            if store_text:
                self._store.early.nodes |= {node.node_id: node for node in docs}
            else:
                self._store.early.hashes |= {node.node_id: node.hash for node in docs}
            return
        self.keep_early()
        replaced = self._store.insertions.replaced(collection, [node.node_id for node in docs])
        docs = [node for node in docs if node.node_id not in replaced]
        chunks = [to_chunk(node) for node in docs]
        if store_text:
            held = {chunk.id: chunk for chunk in collection.get([chunk.id for chunk in chunks])}
            same = [chunk.id for chunk in chunks if held.get(chunk.id) == chunk]
            beside = [chunk for chunk in chunks if held.get(chunk.id) != chunk]
            _nodes(collection).delete(same)
            _nodes(collection).put(
                [chunk.id for chunk in beside],
                values=[{"text": chunk.text, "metadata": dict(chunk.metadata)} for chunk in beside],
                groups=[_document(chunk) for chunk in beside],
            )
        documents = {chunk.id: chunk.metadata[RESERVED]["doc_id"] for chunk in chunks}
        Ledger(collection).note({node.node_id: node.hash for node in docs}, documents)

    def get_document(self, doc_id: str, raise_error: bool = True) -> BaseNode | None:
        """Return a node or document.

        Raises:
            InvalidInput: (a ValueError) it is not there, unless *raise_error* is False: then None.
        """
        collection = self._store.client
        if collection is not None:
            self.keep_early()
            (record,) = _nodes(collection).get([doc_id])
            if record is not None:
                return _to_node(record)
            chunk = collection.get(doc_id)
            if chunk is not None:
                return from_chunk(chunk)
        elif doc_id in self._store.early.nodes:
            return self._store.early.nodes[doc_id]
        if raise_error:
            raise InvalidInput(f"there is no document or node {doc_id!r} in {self._store.path}")
        return None

    def document_exists(self, doc_id: str) -> bool:
        """Say whether `get_document` returns something."""
        return self.get_document(doc_id, raise_error=False) is not None

    def delete_document(self, doc_id: str, raise_error: bool = True) -> None:
        """Delete what is kept of a node or document next to the collection; its nodes are the vector store's to delete.

        Raises:
            InvalidInput: (a ValueError) nothing is known of it, unless *raise_error* is False.
        """
        collection = self._store.client
        known = self._store.early.nodes.pop(doc_id, None) is not None
        if collection is not None:
            held = collection.get(doc_id) is not None or collection.count(where=of_documents([doc_id])) > 0
            known = _nodes(collection).delete([doc_id]) + self._ledger(collection).forget([doc_id]) > 0 or held
        if raise_error and not known:
            raise InvalidInput(f"there is no document or node {doc_id!r} in {self._store.path}")

    # ── hashes ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def set_document_hash(self, doc_id: str, doc_hash: str) -> None:
        """Record the hash of a document."""
        self.set_document_hashes({doc_id: doc_hash})

    def set_document_hashes(self, doc_hashes: dict[str, str]) -> None:
        """Record the hashes of documents, by id; not of those that another writer has replaced since (`insertions`)."""
        collection = self._store.client
        if collection is None:
            self._store.early.hashes |= doc_hashes
        elif doc_hashes:
            ledger = self._ledger(collection)
            with collection.turn():
                replaced = self._store.insertions.replaced(collection, doc_hashes)
                current = {doc_id: given for doc_id, given in doc_hashes.items() if doc_id not in replaced}
                ledger.note(current)
            self._store.insertions.end(current)

    def get_document_hash(self, doc_id: str) -> str | None:
        """Return the hash of a document while nodes of it are stored, else None."""
        begin()
        return self._hash(doc_id)

    def _hash(self, doc_id: str) -> str | None:
        found = None if self._store.client is None else self._ledger(self._store.client).hash(doc_id)
        self._store.insertions.asked(doc_id, absent=found is None)
        return found

    def get_all_document_hashes(self) -> dict[str, str]:
        """Return the ids of all documents of which nodes are stored, by hash.

        Of several that are equal, the first has the hash for its key, and each other one the hash with its id: a
        pipeline that deletes what it was not given goes by the ids, and must see all of them.
        """
        if self._store.client is None:
            return {}
        found: dict[str, str] = {}
        for doc_id, current in self._ledger(self._store.client).hashes().items():
            found[current if current not in found else f"{current} of {doc_id}"] = doc_id
        return found

    # ── documents and their nodes ────────────────────────────────────────────────────────────────────────────────────

    def get_ref_doc_info(self, ref_doc_id: str) -> RefDocInfo | None:
        """Return the nodes of a document, in the collection and next to it; None when there is none."""
        collection = self._store.client
        if collection is None:
            return None
        chunks = collection.get(where=of_documents([ref_doc_id]))
        beside = [_to_chunk(record) for record in _nodes(collection).list(groups=[ref_doc_id])]
        return _infos([*chunks, *beside]).get(ref_doc_id)

    def get_all_ref_doc_info(self) -> dict[str, RefDocInfo]:
        """Return what `get_ref_doc_info` does, for all documents."""
        collection = self._store.client
        if collection is None:
            return {}
        return _infos([*collection, *map(_to_chunk, _nodes(collection).list())])

    def delete_ref_doc(self, ref_doc_id: str, raise_error: bool = True) -> None:
        """Delete what is kept of a document and its nodes next to the collection; see `delete_document`."""
        if self._store.client is not None:
            nodes = _nodes(self._store.client)
            kept = [record.key for record in nodes.list(groups=[ref_doc_id])]
            if nodes.delete(kept) + self._ledger(self._store.client).forget(kept):
                raise_error = False
        self.delete_document(ref_doc_id, raise_error=raise_error)

    # ── without holding up the event loop ────────────────────────────────────────────────────────────────────────────

    async def async_add_documents(
        self, docs: Sequence[BaseNode], allow_update: bool = True, batch_size: int = 1, store_text: bool = True
    ) -> None:
        """`add_documents`, in a thread."""
        await asyncio.to_thread(self.add_documents, docs, allow_update, batch_size, store_text)

    async def aget_document(self, doc_id: str, raise_error: bool = True) -> BaseNode | None:
        """`get_document`, in a thread."""
        return await asyncio.to_thread(self.get_document, doc_id, raise_error)

    async def adelete_document(self, doc_id: str, raise_error: bool = True) -> None:
        """`delete_document`, in a thread."""
        await asyncio.to_thread(self.delete_document, doc_id, raise_error)

    async def adocument_exists(self, doc_id: str) -> bool:
        """`document_exists`, in a thread."""
        return await asyncio.to_thread(self.document_exists, doc_id)

    async def aset_document_hash(self, doc_id: str, doc_hash: str) -> None:
        """`set_document_hash`, in a thread."""
        await asyncio.to_thread(self.set_document_hash, doc_id, doc_hash)

    async def aset_document_hashes(self, doc_hashes: dict[str, str]) -> None:
        """`set_document_hashes`, in a thread."""
        await asyncio.to_thread(self.set_document_hashes, doc_hashes)

    async def aget_document_hash(self, doc_id: str) -> str | None:
        """`get_document_hash`, in a thread."""
        begin()
        return await asyncio.to_thread(self._hash, doc_id)

    async def aget_all_document_hashes(self) -> dict[str, str]:
        """`get_all_document_hashes`, in a thread."""
        return await asyncio.to_thread(self.get_all_document_hashes)

    async def aget_ref_doc_info(self, ref_doc_id: str) -> RefDocInfo | None:
        """`get_ref_doc_info`, in a thread."""
        return await asyncio.to_thread(self.get_ref_doc_info, ref_doc_id)

    async def aget_all_ref_doc_info(self) -> dict[str, RefDocInfo]:
        """`get_all_ref_doc_info`, in a thread."""
        return await asyncio.to_thread(self.get_all_ref_doc_info)

    async def adelete_ref_doc(self, ref_doc_id: str, raise_error: bool = True) -> None:
        """`delete_ref_doc`, in a thread."""
        await asyncio.to_thread(self.delete_ref_doc, ref_doc_id, raise_error)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ledger(self, collection: Collection) -> Ledger:
        """Return the ledger, with what was told before there was a collection."""
        self.keep_early()
        return Ledger(collection)

    def _refuse_known(self, docs: Sequence[BaseNode]) -> None:
        for node in docs:
            if self.document_exists(node.node_id):
                raise InvalidInput(f"{node.node_id!r} is there already; pass allow_update=True to replace it")


def _nodes(collection: Collection) -> Records:
    return collection.records("llama_index/nodes")


def _to_chunk(record: Record) -> Chunk:
    value: dict[str, Any] = record.value
    return Chunk(record.key, value["text"], value["metadata"])


def _to_node(record: Record) -> BaseNode:
    return from_chunk(_to_chunk(record))


def _document(chunk: Chunk) -> str | None:
    """Return the document that a node belongs to; None for what is a document itself."""
    own = chunk.metadata.get(RESERVED)
    return None if own is None or own["doc_id"] == chunk.id else str(own["doc_id"])


def _infos(chunks: Sequence[Chunk]) -> dict[str, RefDocInfo]:
    found: dict[str, RefDocInfo] = {}
    for chunk in chunks:
        document = _document(chunk)
        if document is None:
            continue
        info = found.setdefault(document, RefDocInfo(metadata=from_chunk(chunk).metadata))
        if chunk.id not in info.node_ids:
            info.node_ids.append(chunk.id)
    return found
