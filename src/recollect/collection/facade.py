"""The collection: what users hold. It checks arguments, and hands on to the rooms that do the work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy.typing as npt
from typing_extensions import Never, Self

from recollect import index
from recollect.collection import checking, transfer
from recollect.collection.arguments import (
    id_list,
    refuse_unknown,
    require_count,
    require_k,
    require_recall,
    to_factory,
    to_goal,
)
from recollect.collection.batches import batches
from recollect.collection.describing import describe
from recollect.collection.embedding import LazyEmbedder, resolve
from recollect.collection.handle import Handle
from recollect.collection.maintenance import Order, build_index, cores, tune_index
from recollect.collection.preparing import check_chunks, prepare
from recollect.collection.retrieving import retrieve_many, retrieve_one
from recollect.contract import Settings, embed
from recollect.errors import IndexBuildFailed, InvalidInput
from recollect.types import (
    AddResult,
    CheckReport,
    Chunk,
    CollectionInfo,
    Embedder,
    FloatMatrix,
    Hit,
    IndexInfo,
    Progress,
)
from recollect.vectors import to_matrix, to_query

DEFAULT_RECALL = 0.95
DEFAULT_BATCH = 1000


class Collection:
    """Chunks, their vectors and an index, in one directory. Made by `recollect.open`, not directly.

    Any number of threads may use one handle; searches run side by side, writes one after the other. A handle does not
    survive a fork: open the collection again in the child.
    """

    def __init__(self, handle: Handle, embedder: LazyEmbedder) -> None:
        self._handle = handle
        self._embedder = embedder

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        chunks: Iterable[Chunk],
        *,
        vectors: Any | None = None,
        batch_size: int = DEFAULT_BATCH,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> AddResult:
        """Store chunks; those whose id is already stored are replaced.

        A batch is durable when it is acknowledged: when ``progress`` is called for it, and all of them when `add`
        returns. A chunk whose text is unchanged keeps its vector and is not embedded again; one of which nothing
        changed costs nothing.

        Args:
            chunks: any iterable of `Chunk`, of any length; it is consumed batch by batch.
            vectors: ready vectors, one per chunk: an array (n, d) or an iterable of vectors, floats. Without them the
                collection's embedder embeds the texts.
            batch_size: chunks per commit.
            progress: called as ``progress("add", chunks durable so far, total or None)``.

        Raises:
            InvalidChunk, InvalidVectors: the batch in question is not stored, those before it are.
            StorageFailed: likewise.
            CollectionReadOnly, CollectionClosed, EmbedderFailed, EmbeddingContractError, MissingDependency.

        """
        refuse_unknown(Collection.add, unknown)
        require_count("batch_size", batch_size)
        self._handle.require_writable()
        total = len(chunks) if isinstance(chunks, Sized) else None
        result, done = AddResult(), 0
        for batch, part in batches(chunks, vectors, batch_size):
            try:
                result += self._add_batch(batch, part, done)
            except InvalidInput as error:
                if done:
                    raise type(error)(f"{error} [the {done} chunks of the batches before are stored]") from error
                raise
            done += len(batch)
            if progress is not None:
                progress("add", done, total)
        return result

    def delete(self, *, ids: Iterable[str] | str, **unknown: Never) -> int:
        """Delete chunks by id, durably; return how many there were. An id that is absent is no error."""
        refuse_unknown(Collection.delete, unknown)
        self._handle.require_writable()
        wanted = id_list(ids)
        with self._handle.writing:
            self._handle.require_writable()
            store = self._handle.followed().store
            rows = [chunk.row for chunk in store.existing(wanted).values()]
            store.delete(rows)
        return len(rows)

    def optimize(
        self,
        recall: float = DEFAULT_RECALL,
        *,
        index: str | None = None,
        memory: int | str | None = None,
        prefer: str = "latency",
        queries: Any | None = None,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> IndexInfo | None:
        """Choose, build and measure an index over all chunks and put it in use; searches and adds go on meanwhile.

        Rules rank the recipes (`recollect.advise` shows them); each is measured on held-out queries against exact
        answers, and the first that reaches the recall, and sooner than exact search, is kept. A build that is
        killed goes on where it was when `optimize` is called again.

        Args:
            recall: knn recall@10 to be reached by `search`; above 0.999 the collection goes without an index.
            index: None for the best; "hnsw", "exact", or any FAISS factory string, which is then kept when the
                collection grows.
            memory: most that the index may take in memory: bytes, or a string like "2GiB". None for no limit.
            prefer: "latency" of single queries, "throughput" of many at once, or least "memory" and time to build.
            queries: held-out queries to measure with, as users ask them: texts, or vectors (n, d), at least 30; a
                thousand suffice. They are kept, and used again when the index is rebuilt. Without them stored vectors
                serve, which flatter an index.
            progress: called per block with the stages "train", "index" and "tune".

        Returns:
            The index now in use; None for exact search, recommended for small collections.

        Raises:
            InvalidInput: an impossible goal; the message names the nearest possible one.
            IndexBuildFailed, StorageFailed, MissingDependency: the index before stays in use.

        """
        refuse_unknown(Collection.optimize, unknown)
        require_recall(recall)
        goal = to_goal(recall, prefer, memory)
        factory = to_factory(index, recall)
        self._handle.require_writable()
        with self._handle.building:
            self._handle.require_writable()
            generation = self._handle.followed()
            order = Order(goal, factory, self._held_out(queries, generation.settings))
            record = build_index(generation, order, writing=self._handle.writing, workers=cores(), progress=progress)
            self._handle.maintainer.forget()
        return record.to_info() if record else None

    def tune(
        self, *, queries: Any | None = None, progress: Progress | None = None, **unknown: Never
    ) -> IndexInfo | None:
        """Measure the index in use again, with other queries or on another machine, and search by what was found.

        Args:
            queries, progress: as in `optimize`.

        Returns:
            The index with its operating points; None where every search is exact.

        Raises:
            IndexBuildFailed: the index is missing or damaged; `optimize` builds it anew.

        """
        refuse_unknown(Collection.tune, unknown)
        self._handle.require_writable()
        with self._handle.building:
            self._handle.require_writable()
            generation = self._handle.followed()
            held_out = self._held_out(queries, generation.settings)
            try:
                record = tune_index(generation, held_out, writing=self._handle.writing, progress=progress)
            except index.SnapshotUnusable as error:
                raise IndexBuildFailed(f"the index cannot be measured: {error}; optimize() builds it anew") from error
        return record.to_info() if record else None

    def compact(self, *, progress: Progress | None = None, **unknown: Never) -> int:
        """Write the collection anew without deleted and replaced chunks; return how many rows were dropped.

        The new generation is built beside the old one and put in use in one step; it needs the space meanwhile. Writes
        wait, searches go on, also in other processes.
        """
        refuse_unknown(Collection.compact, unknown)
        return self._handle.rewrite(None, progress)

    def reembed(self, embedder: Embedder | str, *, progress: Progress | None = None, **unknown: Never) -> None:
        """Embed every text again with another model, into a new generation that replaces the old in one step.

        Raises:
            InvalidInput: a chunk has no text. The collection is as it was.

        """
        refuse_unknown(Collection.reembed, unknown)
        self._handle.require_writable()
        fresh = resolve(embedder)
        self._handle.rewrite(fresh, progress)
        self._embedder.replace(fresh, self._handle.generation.settings.contract)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        **unknown: Never,
    ) -> list[Hit]:
        """Find the chunks nearest to a question.

        Returns exactly min(k, chunks stored) hits, best first, equal scores in the order of adding.

        Args:
            query: a text; the collection's embedder embeds it.
            vector: or a ready vector, shape (d,).
            k: hits wanted, 1 to 10,000.
            recall: knn recall@k to aim at, in (0, 1]; above 0.999 the search is exact. Scores are exact always.

        """
        if unknown:
            refuse_unknown(Collection.search, unknown)
        require_k(k)
        require_recall(recall)
        self._handle.require_open()
        if (query is None) == (vector is None):
            raise InvalidInput("search takes a text or vector=, one of the two")
        if query is not None:
            asked = [_question(query)]
            return retrieve_one(self._handle, lambda settings: self._embedded(asked, settings), k, recall)
        return retrieve_one(
            self._handle,
            lambda settings: to_query(vector, dimension=settings.dimension, metric=settings.metric),
            k,
            recall,
        )

    def search_many(
        self,
        queries: Sequence[str] | None = None,
        *,
        vectors: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        **unknown: Never,
    ) -> list[list[Hit]]:
        """Answer many questions at once, on all cores and over one committed state; one list of hits each.

        Args:
            queries: texts.
            vectors: or ready vectors, shape (n, d).
            k, recall: as in `search`.

        """
        refuse_unknown(Collection.search_many, unknown)
        require_k(k)
        require_recall(recall)
        self._handle.require_open()
        if (queries is None) == (vectors is None):
            raise InvalidInput("search_many takes texts or vectors=, one of the two")
        if queries is not None:
            if isinstance(queries, str):
                raise InvalidInput("search_many takes a list of texts; for one text use search")
            asked = [_question(query) for query in queries]
            return retrieve_many(self._handle, lambda settings: self._embedded(asked, settings), k, recall)
        return retrieve_many(
            self._handle,
            lambda settings: to_matrix(vectors, dimension=settings.dimension, metric=settings.metric, what="vectors"),
            k,
            recall,
        )

    @overload
    def get(self, ids: str) -> Chunk | None: ...  # type: ignore[overload-overlap]  # a str is one id, not an iterable of them

    @overload
    def get(self, ids: Iterable[str]) -> list[Chunk]: ...

    def get(self, ids: str | Iterable[str]) -> Chunk | list[Chunk] | None:
        """Return the chunk with an id, or None; for several ids those that exist, in the order asked for."""
        wanted = id_list(ids)
        _, session = self._handle.session()
        with session:
            found = {key: stored.to_chunk() for key, stored in session.get(wanted).items()}
        if isinstance(ids, str):
            return found.get(ids)
        return [found[key] for key in wanted if key in found]

    def __iter__(self) -> Iterator[Chunk]:
        """Go through all chunks of one committed state, in the order of adding.

        The iteration holds a read transaction, so that neither commits nor a compaction disturb it; meanwhile SQLite
        cannot shorten its write-ahead log.
        """
        _, session = self._handle.session()
        with session:
            for block in session.scan_all():
                yield from (stored.to_chunk() for stored in block)

    def count(self) -> int:
        """Return the number of chunks."""
        _, session = self._handle.session()
        with session:
            return session.state.live

    def info(self) -> CollectionInfo:
        """Describe the collection."""
        return describe(self._handle)

    def check(self) -> CheckReport:
        """Read everything and verify it: database, checksums of text, metadata and vector, settings, index.

        Never raises for damage: the report names each problem with its cure.
        """
        generation, session = self._handle.session()
        with session:
            return checking.check(generation, session)

    def backup(self, destination: str | os.PathLike[str], **unknown: Never) -> None:
        """Write a copy as of one commit to a new directory; it opens like any collection. Adds may go on meanwhile.

        Raises:
            CollectionExists: something is there already.
            StorageFailed: nothing is left there.

        """
        refuse_unknown(Collection.backup, unknown)
        generation, session = self._handle.session()
        with session:
            transfer.backup(generation, session, Path(destination))

    # ── the handle ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Finish a build that is due, and release the files and the writer's lock; doing so twice is no error."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        mode = "closed" if self._handle.closed else "read-only" if self._handle.read_only else "read-write"
        return f"<recollect.Collection {self._path!r} ({mode})>"

    @property
    def embedder(self) -> Embedder | None:
        """What embeds texts here, loaded and checked against the contract; None where vectors are brought ready-made.

        Raises:
            EmbeddingContractError, EmbedderFailed, MissingDependency: it cannot be had.

        """
        self._handle.require_open()
        return self._embedder.get(self._handle.followed().settings)

    @property
    def _path(self) -> str:
        return str(self._handle.root.root)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add_batch(self, batch: list[Chunk], vectors: Any | None, first: int) -> AddResult:
        checked = check_chunks(batch, first)
        with self._handle.writing:
            self._handle.require_writable()
            generation = self._handle.followed()
            settings, store = generation.settings, generation.store
            matrix: FloatMatrix | None = None
            embedder: Embedder | None = None
            if vectors is not None:
                matrix = to_matrix(
                    vectors, dimension=settings.dimension, metric=settings.metric, what="vectors", first=first
                )
            else:
                embedder = self._embedder.get(settings)
            prepared = prepare(checked, matrix, store=store, embedder=embedder, metric=settings.metric, first=first)
            if prepared.chunks:
                store.put(prepared.chunks, prepared.matrix, prepared.replaced)
        self._handle.maintainer.consider()
        return prepared.result

    def _held_out(self, queries: Any | None, settings: Settings) -> FloatMatrix | None:
        """Return held-out queries as vectors: texts are embedded, vectors checked."""
        if queries is None:
            return None
        if isinstance(queries, str):
            raise InvalidInput("queries takes a list of texts, or vectors")
        if isinstance(queries, Sequence) and queries and isinstance(queries[0], str):
            found = self._embedded([_question(query) for query in index.drawn(queries)], settings)
        else:
            found = to_matrix(queries, dimension=settings.dimension, metric=settings.metric, what="queries")
        if len(found) < index.FEWEST_QUERIES:
            raise InvalidInput(
                f"{len(found)} held-out queries say too little about recall: bring at least {index.FEWEST_QUERIES}, "
                "better a thousand; or none, to tune with stored vectors"
            )
        return found

    def _embedded(self, queries: list[str], settings: Settings) -> FloatMatrix:
        embedder = self._embedder.get(settings)
        if embedder is None:
            raise InvalidInput(
                "this collection has no embedder: search by vector=, or open it with embedder= (a model's name or "
                "path, or an Embedder)"
            )
        return embed(embedder, queries, settings.metric, queries=True)


def _question(query: Any) -> str:
    if not isinstance(query, str) or not query.strip():
        raise InvalidInput(f"the query is {query!r}; pass a text that is not empty, or vector=")
    return query
