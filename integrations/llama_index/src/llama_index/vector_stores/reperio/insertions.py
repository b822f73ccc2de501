"""Let two writers refresh the same documents at once, as if one had done so after the other.

LlamaIndex asks for a document's hash, deletes its nodes or finds none, embeds the new ones, and adds them. Embedding
may take minutes, so nobody is kept out meanwhile, and two may both have found nothing. So each writer's question
is remembered. Where it was told that a document has no nodes, or has deleted them, any that are there when it adds its
own are another writer's. They are deleted in the turn in which its own are stored: the later insertion replaces the
earlier one. The earlier one, if it has more nodes to come, finds its own gone, and stores no more.

Rejected: keeping others out from question to insertion (nothing says whether an insertion will follow), and ids made of
text and place (a node's neighbours name its id before it gets here).
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from reperio import Chunk, Collection
from reperio.errors import warn_caller

from llama_index.vector_stores.reperio.conversion.documents import RESERVED
from llama_index.vector_stores.reperio.conversion.filters import of_documents

_MOST = 100_000  # documents that one writer may have asked for and not stored yet; the oldest are forgotten
_BLOCK = 1000  # documents asked for at once


class Writer:
    """A thread or task that asks for hashes and adds nodes."""

    def __init__(self, owner: object) -> None:
        self.owner = weakref.ref(owner)


_writer: ContextVar[Writer | None] = ContextVar("llama_index_reperio_writer", default=None)


def begin() -> None:
    """Make the thread or task that runs now a writer of its own; those that it starts from here on belong to it."""
    try:
        owner: Any = asyncio.current_task() or threading.current_thread()
    except RuntimeError:  # no loop runs in this thread
        owner = threading.current_thread()
    known = _writer.get()
    if known is None or known.owner() is not owner:
        _writer.set(Writer(owner))


@dataclass(slots=True)
class Insertion:
    """The state of one document for one writer.

    Attributes:
        absent: the writer was told that it has no nodes, or has deleted them.
        nodes: ids of the nodes that the writer has stored since.
        replaced: another writer has deleted some of these.
    """

    absent: bool
    nodes: set[str] = field(default_factory=set)
    replaced: bool = False


class Insertions:
    """The documents that each writer of one store has asked for, and is about to store."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[Writer, dict[str, Insertion]] = weakref.WeakKeyDictionary()

    def asked(self, doc_id: str, *, absent: bool) -> None:
        """Remember what this writer was told of a document."""
        writer = _writer.get()
        if writer is None:
            return
        known = self._of.setdefault(writer, {})
        known.pop(doc_id, None)
        known[doc_id] = Insertion(absent)
        if len(known) > _MOST:
            del known[next(iter(known))]

    def deleted(self, doc_id: str) -> None:
        """Remember that this writer has deleted the nodes of a document; without a question before, nothing."""
        if doc_id in self._known():
            self.asked(doc_id, absent=True)

    def begun(self, doc_ids: Iterable[str]) -> dict[str, Insertion]:
        """Return those of the documents that this writer knows to have had no nodes before its own."""
        known = self._known()
        return {each: known[each] for each in doc_ids if each in known and known[each].absent}

    def replaced(self, collection: Collection, doc_ids: Iterable[str]) -> set[str]:
        """Return those of the documents of which another writer has deleted nodes that this one had stored."""
        begun = {doc_id: each for doc_id, each in self.begun(doc_ids).items() if each.nodes}
        stored = _stored(collection, list(begun))
        for doc_id, insertion in begun.items():
            insertion.replaced |= not insertion.nodes <= stored.get(doc_id, {}).keys()
        return {doc_id for doc_id, insertion in begun.items() if insertion.replaced}

    def end(self, doc_ids: Iterable[str]) -> None:
        """Forget documents: they are stored whole, and their hashes are recorded."""
        known = self._known()
        for doc_id in doc_ids:
            known.pop(doc_id, None)

    def _known(self) -> dict[str, Insertion]:
        writer = _writer.get()
        return {} if writer is None else self._of.get(writer, {})


def settle(collection: Collection, begun: Mapping[str, Insertion], chunks: Sequence[Chunk]) -> set[str]:
    """Delete the nodes that others have stored of documents that are being inserted; inside a turn of the collection.

    Args:
        collection: an open one.
        begun: the documents, as `Insertions.begun` returns them.
        chunks: nodes that are about to be stored.

    Returns:
        The documents of which nothing more must be stored, since a later insertion has replaced this one.

    Warns:
        ReperioWarning: the nodes that are replaced were of another version of their document.
    """
    given: dict[str, set[str | None]] = {}
    for chunk in chunks:
        own = chunk.metadata[RESERVED]
        given.setdefault(own["doc_id"], set()).add(own["doc_hash"])
    ids = {chunk.id for chunk in chunks}
    stored = _stored(collection, list(begun))
    foreign: list[str] = []
    others: list[str] = []
    for doc_id, insertion in begun.items():
        there = stored.get(doc_id, {})
        insertion.replaced |= not insertion.nodes <= there.keys()
        if insertion.replaced:
            continue
        theirs = there.keys() - insertion.nodes - ids
        foreign += theirs
        if {there[each] for each in theirs} - given[doc_id]:
            others.append(doc_id)
    if foreign:
        collection.delete(ids=foreign)
    if others:
        warn_caller(
            f"another writer has stored {len(others)} documents, {others[0]!r} among them, in another version while "
            "they were being refreshed here; this version, which comes later, replaces it"
        )
    return {doc_id for doc_id, insertion in begun.items() if insertion.replaced}


def _stored(collection: Collection, doc_ids: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return, per document, the ids of its nodes, and of each the hash that it has of the document."""
    found: dict[str, dict[str, str | None]] = {}
    for first in range(0, len(doc_ids), _BLOCK):
        for chunk in collection.get(where=of_documents(doc_ids[first : first + _BLOCK])):
            own = chunk.metadata[RESERVED]
            found.setdefault(own["doc_id"], {})[chunk.id] = own["doc_hash"]
    return found
