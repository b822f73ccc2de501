"""Check the arguments of a `Collection`, and hand them to the rooms that do the work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias, overload

import numpy.typing as npt
from typing_extensions import Never, Self

from reperio import index
from reperio.arguments import (
    id_list,
    refuse_unknown,
    require_count,
    require_flag,
    require_page,
    require_recall,
    require_within,
    to_path,
)
from reperio.collection import examining, mending, reading
from reperio.collection.advising import to_factory, to_goal
from reperio.collection.backup import full
from reperio.collection.backup.incremental import backup_increment
from reperio.collection.describing import describe
from reperio.collection.handle.embedder import LazyEmbedder, resolve, texts_cut
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import to_filter
from reperio.collection.ledger import Records
from reperio.collection.search.answering import Asker, held_out
from reperio.collection.search.request import many_questions, one_question, to_request
from reperio.collection.twins import twin
from reperio.collection.upkeep.building import Order, build_index, cores, tune_index
from reperio.collection.write import deleting
from reperio.collection.write.adding import add
from reperio.errors import EmbedderFailed, IndexBuildFailed, InvalidInput, UnknownOption
from reperio.filters import Filter, to_dict
from reperio.layout import IN_MEMORY
from reperio.query_log.recording import QueryRecorder
from reperio.types import (
    AddResult,
    CheckReport,
    Chunk,
    CollectionInfo,
    Embedder,
    FloatMatrix,
    Fusion,
    Hit,
    IndexInfo,
    Mode,
    OriginInfo,
    Progress,
    Reranker,
)

Where: TypeAlias = "Mapping[str, Any] | Filter | None"

DEFAULT_RECALL = 0.95
DEFAULT_BATCH = 1000


class Collection:
    """Keep chunks, their vectors and an index in one directory. Use `reperio.open` to make one.

    Any number of threads may use one handle; searches run side by side, writes one after the other. Any number of
    handles, in any number of processes, may write: they take turns. After a fork, the child's copy of a handle opens
    itself again at its first use. Each method has a twin to be awaited: `asearch`, `aadd`, and so on.
    """

    def __init__(self, handle: Handle, embedder: LazyEmbedder, recorder: QueryRecorder | None = None) -> None:
        self._handle = handle
        self._embedder = embedder
        self._recorder = recorder
        self._asker = Asker(handle, recorder)

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
            CollectionReadOnly, CollectionClosed, EmbeddingContractError, MissingDependency.

        Where texts are longer than the model takes, a `ReperioWarning` says how many were cut, once per handle.
        """
        refuse_unknown(Collection.add, unknown)
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
        refuse_unknown(Collection.delete, unknown)
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
        """Choose, build and measure an index over all chunks, and put it in use.

        Searches and adds go on meanwhile. Rules rank the recipes (`reperio.advise` shows them). Each is measured on
        held-out queries against exact answers, and the first that reaches the recall, and sooner than exact search, is
        kept. A build that is killed goes on where it was when `optimize` is called again.

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
        self._handle.scope.refuse("optimize()")
        require_recall(recall)
        goal = to_goal(recall, prefer, memory)
        factory = to_factory(index, recall)
        with self._handle.traced("optimize"), self._handle.to_build() as generation:
            order = Order(goal, factory, held_out(self._handle, self._embedder, queries, generation.settled()))
            built = build_index(generation, order, workers=cores(), progress=progress)
            self._handle.publish(generation, built)
        return built.to_info()

    def tune(
        self, *, queries: Any | None = None, progress: Progress | None = None, **unknown: Never
    ) -> IndexInfo | None:
        """Measure the index in use again, with other queries or on another machine, and search by what was found.

        Args:
            queries, progress: as in `optimize`.

        Returns:
            The index with its operating points; None where every search is exact.

        Raises:
            IndexBuildFailed: the index is missing or damaged; `optimize` builds it again.
        """
        refuse_unknown(Collection.tune, unknown)
        self._handle.scope.refuse("tune()")
        with self._handle.traced("tune"), self._handle.to_build() as generation:
            asked = held_out(self._handle, self._embedder, queries, generation.settled())
            try:
                built = tune_index(generation, asked, progress=progress)
            except index.SnapshotUnusable as error:
                raise IndexBuildFailed(f"the index cannot be measured: {error}; optimize() rebuilds it") from error
            if built is None:
                return None
            self._handle.publish(generation, built)
        return built.to_info()

    def pull(self, *, progress: Progress | None = None, **unknown: Never) -> OriginInfo:
        """Take over what other hosts have committed at the origin up to now, and return what is known of it.

        Args:
            progress: called as ``progress("pull", chunks taken over, all)``.

        Raises:
            InvalidInput: the collection was opened without an origin.
            OriginUnavailable, OriginRefused, OriginNotFound, OriginDiverged: nothing was changed.
        """
        refuse_unknown(Collection.pull, unknown)
        self._handle.scope.refuse("pull()")
        with self._handle.traced("pull"):
            self._handle.origin.pull(progress)
        found = self.info().origin
        assert found is not None  # it was just pulled from
        return found

    def compact(self, *, progress: Progress | None = None, **unknown: Never) -> int:
        """Rewrite the collection without deleted and replaced chunks, and return how many rows were dropped.

        The new generation is built next to the old one and put in use in one step; until then both take disk space.
        Writes wait, searches go on, also in other processes.

        Raises:
            CollectionDamaged: a chunk is not what was stored, and is named; see `check`. The collection is as it was.
        """
        refuse_unknown(Collection.compact, unknown)
        self._handle.scope.refuse("compact()")
        with self._handle.traced("compact"):
            return self._handle.rewrite(None, progress)

    def reembed(self, embedder: Embedder | str, *, progress: Progress | None = None, **unknown: Never) -> None:
        """Embed every text again with another model, into a new generation that replaces the old in one step.

        Raises:
            InvalidInput: a chunk has no text. The collection is as it was.
            EmbedderFailed: the embedder raised; that error is the cause. The collection is as it was.
            CollectionDamaged: as for `compact`.
        """
        refuse_unknown(Collection.reembed, unknown)
        self._handle.scope.refuse("reembed()")
        self._handle.require_writable()
        fresh = resolve(embedder)
        cut = texts_cut(fresh)
        # In one turn: an add in between would meet new vectors and the old model.
        with self._handle.traced("reembed"), self._handle.maintaining(), self._handle.turn() as before:
            try:
                self._handle.rewrite(fresh, progress)
            except EmbedderFailed as error:
                error.args = (f"{error} [the collection is as it was]",)
                raise
            finally:  # a sync refused after CURRENT was replaced is an error, and the new generation is in use
                if self._handle.current() is not before:
                    self._embedder.replace(fresh, self._handle.generation.settings.contract)
        self._embedder.tell_cut(texts_cut(fresh) - cut)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        where: Where = None,
        mode: Mode = "dense",
        fusion: Fusion = "convex",
        weight: float = 0.5,
        candidates: int | None = None,
        lexical_candidates: int | None = None,
        reranker: Reranker | None = None,
        diversity: float | None = None,
        distinct: bool = False,
        min_score: float | None = None,
        ids: Iterable[str] | str | None = None,
        fresh: bool = False,
        **unknown: Never,
    ) -> list[Hit]:
        """Find the chunks that answer a question best.

        Returns exactly min(k, chunks that match) hits, best first, equal scores in the order of adding. Only
        *min_score*, *distinct*, and in lexical mode the words of the question, make it fewer.

        Args:
            query: a text; the collection's embedder embeds it.
            vector: a ready vector, shape (d,), instead of a text, or together with one whose words are needed.
            k: hits wanted, 1 to 10,000.
            recall: knn recall@k to aim at, in (0, 1]; above 0.999 the search is exact. Scores are exact always.
            where: only chunks whose metadata matches: a dictionary such as ``{"lang": "en", "year": {"$gte": 2023}}``,
                or a filter made with `reperio.field` (docs/filters.md).
            mode: "dense" (by vector), "lexical" (by words: BM25), or "hybrid": both, fused.
            fusion: how hybrid search fuses: "convex", the weighted sum of min-max scores, or "rrf", reciprocal ranks.
            weight: weight of the dense list in "convex", 0 to 1.
            candidates: rows retrieved, among which reranker and diversity choose; k or more. Default 5 · k where there
                is something to choose. Hybrid search fuses the best 100 of each list at least.
            lexical_candidates: most rows that hybrid search takes from the lexical list, 1 to 10,000; None for as many
                as from the dense one.
            reranker: orders the candidates by reading query and text together; see `Reranker`.
            diversity: 0 to 1: trade relevance for variety among the hits (maximal marginal relevance with
                lambda = 1 − diversity); None to leave the order alone. The score stays that of the retrieval. Not
                together with a reranker, whose order it would undo.
            distinct: keep only the best of chunks with the same text, apart from case and white space.
            min_score: leave out hits with a lower score.
            ids: only chunks with one of these ids, which match *where* as well; an id that is absent is no error, and
                with none at all nothing is found.
            fresh: ask the origin first, and take over what other hosts have written up to now. What this host has
                written is found in any case.

        Raises:
            InvalidInput: an option that cannot be, or that lacks a text or vector it needs.
            CollectionDamaged: a chunk found is not what was stored, by its checksum; it is named.
            RerankerFailed: the reranker did not give a score for each candidate.
        """
        if unknown:
            refuse_unknown(Collection.search, unknown)
        handle = self._handle
        handle.require_open()
        if fresh is not False:
            require_flag("fresh", fresh)
            handle.origin.refresh()
        request = to_request(
            k,
            recall,
            handle.scope.tree if where is None else handle.scope.narrowed(where),
            most=handle.limits.k,
            mode=mode,
            fusion=fusion,
            weight=weight,
            candidates=candidates,
            lexical_candidates=lexical_candidates,
            reranker=reranker,
            diversity=diversity,
            distinct=distinct,
            min_score=min_score,
            ids=None if ids is None else tuple(dict.fromkeys(id_list(ids))),
        )
        batch = one_question(query, vector, request, self._embedder, handle.limits)
        return self._asker.ask(batch, request, where)

    def search_many(
        self,
        queries: Sequence[str] | None = None,
        *,
        vectors: npt.ArrayLike | None = None,
        k: int = 10,
        recall: float = DEFAULT_RECALL,
        where: Where = None,
        mode: Mode = "dense",
        fusion: Fusion = "convex",
        weight: float = 0.5,
        candidates: int | None = None,
        lexical_candidates: int | None = None,
        reranker: Reranker | None = None,
        diversity: float | None = None,
        distinct: bool = False,
        min_score: float | None = None,
        ids: Iterable[str] | str | None = None,
        fresh: bool = False,
        **unknown: Never,
    ) -> list[list[Hit]]:
        """Answer many questions at once, on all cores and over one committed state, and return one list of hits each.

        Args:
            queries: texts.
            vectors: ready vectors, shape (n, d), instead of texts, or together with texts whose words are needed.
            k, recall, where, mode, fusion, weight, candidates, lexical_candidates, reranker, diversity, distinct,
                min_score, ids, fresh: as in `search`. The reranker gets the candidates of all questions in one call.
        """
        refuse_unknown(Collection.search_many, unknown)
        handle = self._handle
        handle.require_open()
        if fresh is not False:
            require_flag("fresh", fresh)
            handle.origin.refresh()
        request = to_request(
            k,
            recall,
            handle.scope.narrowed(where),
            most=handle.limits.k,
            mode=mode,
            fusion=fusion,
            weight=weight,
            candidates=candidates,
            lexical_candidates=lexical_candidates,
            reranker=reranker,
            diversity=diversity,
            distinct=distinct,
            min_score=min_score,
            ids=None if ids is None else tuple(dict.fromkeys(id_list(ids))),
        )
        batch = many_questions(queries, vectors, request, self._embedder, handle.limits)
        return self._asker.ask_many(batch, request, where)

    @overload
    def get(self, ids: str, *, where: Where = None) -> Chunk | None: ...  # type: ignore[overload-overlap]  # a str is one id, not an iterable of them

    @overload
    def get(self, ids: Iterable[str], *, where: Where = None) -> list[Chunk]: ...

    @overload
    def get(
        self, ids: None = None, *, where: Where = None, limit: int | None = None, offset: int = 0
    ) -> list[Chunk]: ...

    def get(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where = None,
        limit: int | None = None,
        offset: int = 0,
        **unknown: Never,
    ) -> Chunk | list[Chunk] | None:
        """Return chunks by id, or those that match a filter.

        The overloads tell type checkers what comes back: for one id a `Chunk`, or None where it is absent; for several
        ids, or without ids, a list.

        Args:
            ids: one id: its chunk, or None; several: those that exist, in the order asked for.
            where: only chunks that match, as in `search`; without ids in the order of adding, all without a filter.
            limit, offset: without ids: how many at most, and how many to pass over first.
        """
        refuse_unknown(Collection.get, unknown)
        if ids is None:
            self._handle.require_open()
            require_page(limit, offset)
            return reading.selected(self._handle, self._handle.scope.narrowed(where), limit=limit, offset=offset)
        if limit is not None or offset:
            raise InvalidInput("limit= and offset= are for get without ids; leave them out")
        wanted = id_list(ids)
        found = reading.among(self._handle, wanted, self._handle.scope.narrowed(where))
        if isinstance(ids, str):
            return found.get(ids)
        return [found[key] for key in wanted if key in found]

    def vectors(self, ids: Iterable[str] | str, **unknown: Never) -> FloatMatrix:
        """Return the vectors of chunks as they are compared: float32, shape (number of ids, d), in the order asked for.

        Under cosine they have length 1; those kept as float16 are rounded to that.

        Raises:
            InvalidInput: an id does not exist; the rows would no longer belong to the ids.
        """
        refuse_unknown(Collection.vectors, unknown)
        self._handle.require_open()
        return reading.vectors(self._handle, id_list(ids))

    def ids(self, *, where: Where = None, **unknown: Never) -> list[str]:
        """Return the ids of the chunks that match a filter, or of all, in the order of adding."""
        refuse_unknown(Collection.ids, unknown)
        self._handle.require_open()
        return reading.selected_ids(self._handle, self._handle.scope.narrowed(where))

    def __iter__(self) -> Iterator[Chunk]:
        """Go through all chunks of one committed state, in the order of adding.

        The iteration holds a read transaction, so that neither commits nor a compaction disturb it; meanwhile SQLite
        cannot shorten its write-ahead log.
        """
        return reading.everything(self._handle)

    def __contains__(self, chunk_id: object) -> bool:
        """Say whether a chunk with this id is there (within the scope), without reading it.

        Raises:
            InvalidInput: it is no id, and so could never be there.
        """
        if not isinstance(chunk_id, str):
            raise InvalidInput(
                f"`in` asks for an id, a string, not for a {type(chunk_id).__name__}: write chunk.id in kb"
            )
        self._handle.require_open()
        return reading.holds(self._handle, id_list(chunk_id)[0])

    def __len__(self) -> int:
        """Return the number of chunks, as `count` does."""
        return self.count()

    def __bool__(self) -> bool:
        """Return True, also of an empty collection: ``if kb:`` asks whether there is one."""
        return True

    def count(self, *, where: Where = None, **unknown: Never) -> int:
        """Return the number of chunks, or of those that match a filter."""
        refuse_unknown(Collection.count, unknown)
        self._handle.require_open()
        return reading.count(self._handle, self._handle.scope.narrowed(where))

    def info(self) -> CollectionInfo:
        """Describe the collection. Through a scope, leave out what tells how much others store."""
        return describe(self._handle)

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that answers depend on: metric, dimension, embedder, prompts, and the like.

        Under "canaries" are the cosines of the contract's canary texts to each other, which tell a model from others.
        """
        self._handle.require_open()
        return examining.fingerprint(self._handle)

    def sample_queries(self, number: int, **unknown: Never) -> FloatMatrix:
        """Return at most *number* held-out queries, float32 (n, d), always the same ones of the same chunks.

        They are those that `optimize` was given, else stored vectors displaced from where they are stored.

        Raises:
            InvalidInput: the collection is empty.
        """
        refuse_unknown(Collection.sample_queries, unknown)
        require_count("number", number)
        self._handle.scope.refuse("sample_queries()")
        return examining.sample_queries(self._handle, int(number))

    def check(self, *, fix: bool = False, progress: Progress | None = None, **unknown: Never) -> CheckReport:
        """Read everything and verify it: database, checksums of text, metadata and vector, settings, index.

        Never raises for damage: the report names each problem with its cure.

        Args:
            fix: mend what is wrong. A bad index is built again. Any other damage is answered with a new generation that
                keeps every chunk that is whole, with its vector; what is not is listed in the report's ``lost``, and
                the damaged files stay in the directory as ``damaged-gen-…`` until you remove them. Writes wait.
            progress: called as ``progress("mend", chunks kept, rows looked at)``.

        Raises:
            CollectionReadOnly: *fix* through a read-only handle.
            CollectionDamaged: *fix*, and no chunk can be read any more; nothing was changed.
            StorageFailed: there is no room for the new generation; the collection is as it was.
        """
        refuse_unknown(Collection.check, unknown)
        self._handle.scope.refuse("check()")
        with self._handle.traced("check"):
            return mending.mend(self._handle, progress) if fix else mending.check_now(self._handle)

    def backup(
        self,
        destination: str | os.PathLike[str],
        *,
        incremental: bool = False,
        keep: int | None = None,
        **unknown: Never,
    ) -> None:
        """Write a copy as of one commit; adds may go on meanwhile. `reperio.restore` brings it back, verified.

        Args:
            destination: a new directory, which then opens like any collection; with *incremental* a folder of backups,
                to which one is added.
            incremental: write only what no backup in the folder holds: new vectors, changed pages of the database.
            keep: of incremental backups: remove all but so many, the newest, and what only the others needed.

        Everything but the index is verified first: what is damaged would not restore, and is not backed up.

        Raises:
            CollectionDamaged: something is not what was stored; nothing was written, no backup removed.
            CollectionExists: something is there already.
            InvalidInput: the destination is inside a collection, which may remove it.
            NotACollection: *incremental*, and the folder holds something else than backups.
            CollectionLocked: *incremental*, and another backup is being written there.
            StorageFailed: nothing is left there; backups from before are as they were.
        """
        refuse_unknown(Collection.backup, unknown)
        self._handle.scope.refuse("backup()")
        if keep is not None and not incremental:
            raise InvalidInput("keep= is for incremental=True: other backups have a directory each, to be removed")
        target = to_path("destination", destination).absolute()
        with self._handle.traced("backup"):
            if incremental:
                self._handle.copying(lambda generation, session: backup_increment(generation, session, target, keep))
            else:
                self._handle.copying(lambda generation, session: full.backup(generation, session, target))

    def records(self, space: str) -> Records:
        """Return a small ledger that is kept with the collection: keys with a JSON value, a group, and a time.

        For what a program must remember about what it has stored, such as which documents are up to date, so that no
        second database can be lost or go astray.

        Args:
            space: a name of the caller's, of at most 1,024 characters; what is in one space is seen in no other.
        """
        self._handle.require_open()
        return Records(self._handle, space)

    # ── the handle ───────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Finish a build that is due, and release the files; doing so twice is no error.

        Nothing is lost without it. Where Python ends first, it waits for an index build under way, for at most ten
        seconds, and daemon threads can begin no other.
        """
        self._handle.close()
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Never:
        if self._path == IN_MEMORY:
            raise InvalidInput(
                "a Collection in memory is this process's alone; give it a path to use it in another one"
            )
        raise InvalidInput(
            f"a Collection cannot be pickled, as for another process: pass its path, {self._path!r}, and open it there "
            "with reperio.open(path)"
        )

    def __repr__(self) -> str:
        mode = "closed" if self._handle.closed else "read-only" if self._handle.read_only else "read-write"
        return f"<reperio.Collection {self._path!r} ({mode})>"

    @property
    def scope(self) -> dict[str, Any] | None:
        """The filter that this handle is confined to, as a dictionary that `open` takes; None for the whole."""
        tree = self._handle.scope.tree
        return None if tree is None else to_dict(tree)

    @property
    def embedder(self) -> Embedder | None:
        """The embedder, loaded and checked against the contract; None where vectors are brought ready-made.

        Raises:
            EmbeddingContractError, EmbedderFailed, MissingDependency: it cannot be had.
        """
        self._handle.require_open()
        return self._embedder.get(self._handle.settings())

    @property
    def _path(self) -> str:
        return self._handle.name

    # ── for event loops ──────────────────────────────────────────────────────────────────────────────────────────────

    aadd, adelete = twin(add, writes=True), twin(delete, writes=True)
    apull = twin(pull, writes=True)
    aoptimize, atune = twin(optimize, writes=True), twin(tune, writes=True)
    acompact, areembed = twin(compact, writes=True), twin(reembed, writes=True)
    acheck, abackup, aclose = twin(check, writes=True), twin(backup), twin(close, writes=True)
    asearch, asearch_many, aget, avectors = twin(search), twin(search_many), twin(get), twin(vectors)
    aids, acount, ainfo = twin(ids), twin(count), twin(info)


def handle_of(collection: Collection) -> Handle:
    """Return what a collection stands on, for the rooms above that copy or export all of it."""
    return collection._handle
