"""Keep which documents are stored, and in which version, for refresh and the strategies of pipelines.

The nodes themselves are the truth: each names its document and the hash that this had when it was split. So a document
whose nodes are gone, by whatever way, is not stored; one that was added without a document store is. A record beside
them says what hash the framework gave a document, and of which nodes it said so. It is needed where a transformation
changes a document before it is split, or leaves nodes without a source hash, and it tells that an insertion came to its
end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llama_index.core.schema import NodeRelationship
from reperio import Chunk, Collection, Records

from llama_index.vector_stores.reperio.conversion.documents import RESERVED
from llama_index.vector_stores.reperio.conversion.filters import of_documents

_NEXT = NodeRelationship.NEXT.value
_BLOCK = 1000  # documents asked for at once


@dataclass(slots=True)
class Stored:
    """Facts about one document that its nodes carry.

    Attributes:
        hashes: of the document, as the nodes have it; more than one where versions are mixed.
        nodes: their ids.
        following: ids of the nodes that come after one of them.
    """

    hashes: set[str | None] = field(default_factory=set)
    nodes: list[str] = field(default_factory=list)
    following: set[str] = field(default_factory=set)

    @property
    def hash(self) -> str | None:
        """The one hash; empty where they differ, None where the nodes have none."""
        return next(iter(self.hashes)) if len(self.hashes) == 1 else ""

    @property
    def whole(self) -> bool:
        """False where a node's successor is missing, as after an insertion that was killed between two batches."""
        return self.following <= set(self.nodes)


def stored_documents(chunks: Iterable[Chunk]) -> dict[str, Stored]:
    """Return the documents that *chunks* belong to, by id; chunks that are no nodes belong to none."""
    found: dict[str, Stored] = {}
    for chunk in chunks:
        own = chunk.metadata.get(RESERVED)
        if own is None:
            continue
        stored = found.setdefault(own["doc_id"], Stored())
        stored.hashes.add(own["doc_hash"])
        stored.nodes.append(chunk.id)
        following = own["node"].get("relationships", {}).get(_NEXT)
        if isinstance(following, Mapping):
            stored.following.add(following["node_id"])
    return found


class Ledger:
    """The hashes of a collection's documents.

    Args:
        collection: an open one.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._records: Records = collection.records("llama_index/hashes")

    def note(
        self, hashes: Mapping[str, str], documents: Mapping[str, str] | None = None, *, early: bool = False
    ) -> None:
        """Record the hashes that the framework gives to ids.

        Args:
            hashes: by id.
            documents: of ids that are nodes: the document that each belongs to.
            early: they were told before any node was stored, and so say nothing of those that are there now.
        """
        belongs = {doc_id: (documents or {}).get(doc_id, doc_id) for doc_id in hashes}
        stored = {} if early else self._stored(list(belongs.values()))
        values = [
            {"hash": given, "document": belongs[doc_id], "nodes": _hash(stored.get(belongs[doc_id]))}
            for doc_id, given in hashes.items()
        ]
        self._records.put(list(hashes), values=values)

    def hash(self, doc_id: str) -> str | None:
        """Return the hash of a document as it is stored; None when no node of it is.

        Where that cannot be told (an insertion broke off, two versions are mixed), the answer is a string that equals
        no hash, so that the document is replaced.
        """
        (record,) = self._records.get([doc_id])
        value = None if record is None else record.value
        document = doc_id if value is None else value["document"]
        return _current(doc_id, value, self._stored([document]).get(document))

    def hashes(self) -> dict[str, str]:
        """Return the hashes of all documents that are stored, by id. Reads all chunks."""
        stored = stored_documents(self._collection)
        values = {record.key: record.value for record in self._records.list()}
        found: dict[str, str] = {}
        for doc_id in dict.fromkeys([*stored, *values]):
            value = values.get(doc_id)
            current = _current(doc_id, value, stored.get(doc_id if value is None else value["document"]))
            if current is not None:
                found[doc_id] = current
        return found

    def forget(self, doc_ids: Sequence[str]) -> int:
        """Delete the records of these ids; return how many there were."""
        return self._records.delete(doc_ids)

    def forget_all(self) -> None:
        """Delete all records."""
        self._records.delete([record.key for record in self._records.list()])

    def _stored(self, documents: list[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        distinct = list(dict.fromkeys(documents))
        for first in range(0, len(distinct), _BLOCK):
            found |= stored_documents(self._collection.get(where=of_documents(distinct[first : first + _BLOCK])))
        return found


def _hash(stored: Stored | None) -> str | None:
    return None if stored is None else stored.hash


def _current(doc_id: str, value: Mapping[str, str | None] | None, stored: Stored | None) -> str | None:
    if stored is None:
        return None
    if value is not None and value["nodes"] == stored.hash:
        return value["hash"]
    # The record is of other nodes than these, or was made before there were any.
    return stored.hash if stored.hash and stored.whole else f"unknown:{doc_id}"
