"""Store and delete chunks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from typing_extensions import Never

from reperio.arguments import id_list, refuse_unknown, require_count, require_within
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where, to_filter
from reperio.collection.methods.naming import methods_of_collection
from reperio.collection.methods.twins import twin
from reperio.collection.write import deleting
from reperio.collection.write.adding import add
from reperio.errors import InvalidInput, UnknownOption
from reperio.types import AddResult, Chunk, Progress

DEFAULT_BATCH = 1000


@methods_of_collection
class Writing:
    """The methods that store and delete chunks."""

    _handle: Handle
    _embedder: LazyEmbedder

    def add(
        self,
        chunks: Iterable[Chunk],
        *,
        vectors: Any | None = None,
        batch_size: int = DEFAULT_BATCH,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> AddResult:
        """Store chunks, and replace those whose id is already stored.

        A batch is durable when it is acknowledged: when ``progress`` is called for it, and all of them when `add`
        returns. A chunk whose text is unchanged keeps its vector and is not embedded again; one of which nothing
        changed costs nothing.

        Args:
            chunks: any iterable of `Chunk`, of any length; it is consumed batch by batch.
            vectors: ready vectors, one per chunk: an array (n, d) or an iterable of vectors, floats. Without them the
                collection's embedder embeds the texts.
            batch_size: chunks per commit; fewer where their texts have 33 million characters together.
            progress: called as ``progress("add", chunks durable so far, total or None)``.

        Raises:
            InvalidChunk, InvalidVectors: the batch in question is not stored, those before it are.
            StorageFailed, EmbedderFailed: likewise; what the embedder raised is the cause.
            CollectionReadOnly, CollectionClosed, EmbeddingContractError, MissingDependency: as their names say.

        Where texts are longer than the model takes, a `ReperioWarning` says how many were cut, once per handle.
        """
        refuse_unknown(Writing.add, unknown)
        require_count("batch_size", batch_size)
        require_within("batch_size", batch_size, self._handle.limits.batch, "batch")
        self._handle.require_writable()
        with self._handle.traced("add"):
            return add(self._handle, self._embedder, chunks, vectors, batch_size, progress)

    def delete(
        self, *given: Never, ids: Iterable[str] | str | None = None, where: Where = None, **unknown: Never
    ) -> int:
        """Delete chunks, durably and in one commit, and return how many there were.

        Args:
            ids: of the chunks; one that is absent is no error.
            where: whatever matches a filter, as in `search`; with *ids*, those of them that match. Alone, an empty
                filter is refused: it would delete everything.
        """
        refuse_unknown(Writing.delete, unknown)
        if given:  # what is lost must be named
            raise UnknownOption("delete takes keywords alone: delete(ids=['a', …]), delete(where={…}), or both")
        self._handle.require_writable()
        with self._handle.traced("delete"):
            if ids is not None:
                return deleting.delete_among(self._handle, id_list(ids), self._handle.scope.narrowed(where))
            if where is None:
                raise InvalidInput("delete takes ids=, where=, or both")
            if to_filter(where) is None:
                raise InvalidInput("where matches everything; to delete all chunks pass ids=collection.ids()")
            tree = self._handle.scope.narrowed(where)
            assert tree is not None  # not empty
            return deleting.delete(self._handle, tree)

    def turn(self) -> AbstractContextManager[None]:
        """Return a block in which no other thread, handle or process writes: what is read in it is true until its end.

            with kb.turn():
                if kb.get("a") is None:
                    kb.add([Chunk("a", "…")])

        Searches of others go on. Each `add` and `delete` inside is durable at once, also where the block fails later.
        Keep it short, and await nothing in it: it is of one thread, and other writers wait up to their lock timeout.

        With an origin it begins with what other hosts have committed; these are not kept out.

        Raises:
            CollectionReadOnly, CollectionClosed: this handle may not write.
            CollectionLocked: another process has had its turn for longer than the timeout.
            InvalidInput: inside, for what builds an index, rewrites or closes the collection.
        """
        return self._handle.turn_of_user()

    aadd, adelete = twin(add, writes=True), twin(delete, writes=True)
