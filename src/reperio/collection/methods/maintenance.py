"""Build an index, rewrite, verify and copy a collection, and follow its origin."""

from __future__ import annotations

import os
from typing import Any

from typing_extensions import Never

from reperio import index
from reperio.arguments import refuse_unknown, require_recall, to_path
from reperio.collection import mending
from reperio.collection.advising import to_factory, to_goal
from reperio.collection.backup import full
from reperio.collection.backup.incremental import backup_increment
from reperio.collection.describing import describe
from reperio.collection.handle.embedder import LazyEmbedder, resolve, texts_cut
from reperio.collection.handle.handle import Handle
from reperio.collection.methods.naming import methods_of_collection
from reperio.collection.methods.twins import twin
from reperio.collection.search.answering import held_out
from reperio.collection.search.request import DEFAULT_RECALL
from reperio.collection.upkeep.building import Order, build_index, cores, tune_index
from reperio.errors import EmbedderFailed, IndexBuildFailed, InvalidInput
from reperio.index import to_device
from reperio.types import CheckReport, Embedder, IndexInfo, OriginInfo, Progress


@methods_of_collection
class Maintenance:
    """The methods that keep a collection quick, small, whole, safe, and up to date."""

    _handle: Handle
    _embedder: LazyEmbedder

    def optimize(
        self,
        recall: float = DEFAULT_RECALL,
        *,
        index: str | None = None,
        memory: int | str | None = None,
        prefer: str = "latency",
        queries: Any | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        **unknown: Never,
    ) -> IndexInfo | None:
        """Choose, build and measure an index over all chunks, and put it in use.

        Searches and adds go on meanwhile. Rules rank the recipes (`reperio.advise` shows them). Each is measured on
        held-out queries against exact answers, and the first that reaches the recall, and sooner than exact search, is
        kept. A build that is killed goes on where it was when `optimize` is called again.

        Args:
            recall: knn recall@10 to be reached by `search`; above 0.999 the collection goes without an index.
            index: None for the best; "symphonyqg", "hnsw", "cagra" (built by a card), "exact", or any FAISS factory
                string, kept when the collection grows.
            memory: most that the index may take in memory: bytes, or a string like "2GiB". None for no limit, but a
                graph comes first up to 4 GiB (SymphonyQG) or 8 GiB (FAISS) only.
            prefer: "latency" of single queries, "throughput" of many at once, or least "memory" and time to build.
            queries: held-out queries to measure with, as users ask them: texts, or vectors (n, d), at least 30; a
                thousand suffice. They are kept, and used again when the index is rebuilt. Without them stored vectors
                serve, which flatter an index.
            device: what to build with: the "cpu"; a graphics card, "gpu"; or "auto", a card if FAISS and CUDA have one.
                The index opens on any machine, with a card or without.
            progress: called per block with the stages "train", "index", "graph" and "answers", per setting with "tune".

        Returns:
            The index now in use; None for exact search, recommended for small collections.

        Raises:
            InvalidInput: an impossible goal; the message names the nearest possible one.
            DeviceUnavailable: *device* is "gpu", and there is no card that can be used.
            IndexBuildFailed, StorageFailed, MissingDependency: the index before stays in use.
        """
        refuse_unknown(Maintenance.optimize, unknown)
        self._handle.scope.refuse("optimize()")
        require_recall(recall)
        goal = to_goal(recall, prefer, memory)
        factory, on = to_factory(index, recall), to_device(device)
        with self._handle.traced("optimize"), self._handle.to_build() as generation:
            asked = held_out(self._handle, self._embedder, queries, generation.settled())
            built = build_index(generation, Order(goal, factory, asked, device=on), workers=cores(), progress=progress)
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
        refuse_unknown(Maintenance.tune, unknown)
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
        refuse_unknown(Maintenance.pull, unknown)
        self._handle.scope.refuse("pull()")
        with self._handle.traced("pull"):
            self._handle.origin.pull(progress)
        found = describe(self._handle).origin
        assert found is not None  # it was just pulled from
        return found

    def compact(self, *, progress: Progress | None = None, **unknown: Never) -> int:
        """Rewrite the collection without deleted and replaced chunks, and return how many rows were dropped.

        The new generation is built next to the old one and put in use in one step; until then both take disk space.
        Writes wait, searches go on, also in other processes.

        Raises:
            CollectionDamaged: a chunk is not what was stored, and is named; see `check`. The collection is as it was.
        """
        refuse_unknown(Maintenance.compact, unknown)
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
        refuse_unknown(Maintenance.reembed, unknown)
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
        refuse_unknown(Maintenance.check, unknown)
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
        refuse_unknown(Maintenance.backup, unknown)
        self._handle.scope.refuse("backup()")
        if keep is not None and not incremental:
            raise InvalidInput("keep= is for incremental=True: other backups have a directory each, to be removed")
        target = to_path("destination", destination).absolute()
        with self._handle.traced("backup"):
            if incremental:
                self._handle.copying(lambda generation, session: backup_increment(generation, session, target, keep))
            else:
                self._handle.copying(lambda generation, session: full.backup(generation, session, target))

    aoptimize, atune = twin(optimize, writes=True), twin(tune, writes=True)
    acompact, areembed = twin(compact, writes=True), twin(reembed, writes=True)
    acheck, abackup, apull = twin(check, writes=True), twin(backup), twin(pull, writes=True)
