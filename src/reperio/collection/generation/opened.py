"""Open one generation: its store, and the view that searches run over."""

from __future__ import annotations

import mmap
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reperio import index, layout
from reperio.collection.generation.masks import Masks
from reperio.embedding.contract import Contract, Settings
from reperio.errors import CollectionDamaged, CollectionError, warn_caller
from reperio.filters import Filter
from reperio.filters.columns.columns import Columns
from reperio.index import IndexDescription, Norms, ReadAhead, Searcher, SnapshotUnusable, Target
from reperio.printable import one_line
from reperio.store import Session, SnapshotEntry, State, Store
from reperio.types import Rows
from reperio.vectors import StoredMatrix, mapping_of

# Seconds from the first search until a large graph is loaded: a process that asks one question, as the command line
# does, is gone by then. And how often the thread that waits looks whether Python ends.
_ONE_QUESTION, _A_MOMENT = 0.25, 0.02


@dataclass(frozen=True, slots=True)
class View:
    """One committed state, ready to be searched. Never changed: a newer state is a new view.

    Attributes:
        seq: the commit.
        tombstone: number of the last tombstone in it.
        snapshot: name of the index that the state names; the searcher may still be the one before.
        target: what is searched.
        masks: the same, under filters.
        mapped: the file that the vectors are mapped from; None without any.
    """

    seq: int
    tombstone: int
    snapshot: str | None
    target: Target
    masks: Masks
    mapped: mmap.mmap | None

    def is_there(self) -> bool:
        """Say whether the file of vectors has its length: touching what others have cut off ends the process.

        A call to the system, a microsecond at most: worth it before each search, not between its steps.
        """
        return self.mapped is None or self.mapped.size() >= len(self.mapped)


class OpenGeneration:
    """The files of one generation, opened by a reader or by the writer.

    Args:
        paths: where it is.
        settings: of the collection.
        read_only: for a reader.
        trust_index: False: read no index file that another process has written.
        idle: database connections kept open between searches.
        watch: called with how many chunks a search has found in memory, and how many it has not.
        turns: lock that a writer holds for each commit; None where nobody else knows of the files yet.
        on_unusable: called when the recorded index turns out to be missing or damaged.

    Attributes:
        latest: the newest view that a session has seen, None before the first; `Store.fetch_at` tells whether it still
            is the newest.
    """

    def __init__(
        self,
        paths: layout.Generation,
        settings: Settings,
        *,
        read_only: bool,
        trust_index: bool = True,
        idle: int = 64,
        watch: Callable[[int, int], None] | None = None,
        turns: layout.FileLock | None = None,
        on_unusable: Callable[[], None] = lambda: None,
    ) -> None:
        self.paths = replace(paths, dtype=settings.dtype)
        self.paths.require_plain()
        self.settings = settings
        self.store = Store(self.paths, settings.dimension, read_only=read_only, idle=idle, watch=watch, turns=turns)
        self._columns = Columns()
        self.trust_index = trust_index
        self._on_unusable = on_unusable
        self._lock = threading.Lock()
        self.latest: View | None = None
        self._closed = threading.Event()
        self._mapped: StoredMatrix | None = None
        self._adopted: dict[str, Searcher] = {}

    def begin(self) -> tuple[Session, View]:
        """Begin a session, with the view of the very commit it reads. The caller ends it (``with session:``)."""
        while True:
            session = self.store.session().begin()
            try:  # not an ExitStack, which costs a fifth of a `get`
                view = self._view_at(session)
                if view is not None:
                    self.store.require_there(view.target.matrix)
                    return session, view
            except BaseException as error:
                session.__exit__(type(error), error, error.__traceback__)
                raise
            session.__exit__(None, None, None)

    def begin_reading(self) -> tuple[OpenGeneration, Session, StoredMatrix]:
        """Begin a session here, with the vectors of its commit, mapped. The caller ends it (``with session:``)."""
        session = self.store.session().begin()
        try:
            return self, session, self.matrix_of(session)
        except BaseException as error:
            session.__exit__(type(error), error, error.__traceback__)
            raise

    def matrix_of(self, session: Session) -> StoredMatrix:
        """Return the vectors of the session's commit, mapped; without loading the index."""
        view, rows = self.latest, session.state.rows
        for mapped in (self._mapped, None if view is None else view.target.matrix):
            if mapped is not None and len(mapped) >= rows:
                self.store.require_there(mapped)
                return mapped[:rows]
        mapped = self._mapped = self.store.map(rows)
        return mapped  # not what another thread has put there since, for fewer rows

    def matching(self, tree: Filter | None, session: Session) -> Rows:
        """Return the live rows that match a filter in the session's commit, in order; without loading the index."""
        rows = session.state.rows
        view = self.latest
        known = view if view is not None and view.seq <= session.state.seq else None
        bits, _ = self._allowed(known, session)
        if tree is not None:
            matching = self._columns.evaluate(tree, session, rows)
            bits = matching if bits is None else bits & matching
        if bits is None:
            return np.arange(rows)
        return np.flatnonzero(np.unpackbits(bits, count=rows, bitorder="little"))

    def settled(self) -> Settings:
        """Return the settings with the embedding contract, which the first `add` by text may have recorded meanwhile.

        A collection created by its dimension alone has none until then. The file is read again as long as there is
        none, so this is for callers that embed, copy or describe, not for a search by vector.
        """
        if self.settings.contract is None:
            with self._lock:
                if self.settings.contract is None:
                    found = Settings.read(self.paths.settings)
                    self.settings = replace(self.settings, contract=found.contract)
        return self.settings

    def keep_contract(self, contract: Contract) -> None:
        """Record durably who makes the vectors. The writer calls it before it commits the first of them.

        A crash in between leaves a contract and no chunk made under it, never a chunk without its contract.
        """
        self.store.require_permitted()
        with self._lock:
            settings = replace(self.settings, contract=contract)
            layout.write_settings(self.paths.settings, settings.to_json())
            self.settings = settings

    def among(self, tree: Filter, session: Session, rows: Sequence[int]) -> list[int]:
        """Return those of *rows*, live in the session's commit, that match; chunks of the others are not read.

        Without rows the columns are read as well: whether there are any must not show in how long it takes.
        """
        bits = self._columns.evaluate(tree, session, session.state.rows)
        return [row for row in rows if row >> 3 < len(bits) and bits[row >> 3] >> (row & 7) & 1]

    def adopt(self, name: str, searcher: Searcher) -> None:
        """Keep an index that this process has just built, so that it is not loaded again once recorded."""
        self._adopted = {name: searcher}

    def forget_index(self) -> None:
        """Do without the recorded index, and remove its files unread, with what interrupted builds have left."""
        self.store.use_snapshot(None)
        self._adopted = {}
        self.require_directory()
        with layout.storage_errors(self.paths.index, "clear"):
            shutil.rmtree(self.paths.index / layout.BUILDING, ignore_errors=True)
            index.remove_others(self.paths.index)

    def close(self) -> None:
        """Close the store; views in use stay valid until they are dropped."""
        self._closed.set()
        self.store.close()
        self.latest = self._mapped = None
        self._adopted = {}
        self._columns = Columns()

    def _view_at(self, session: Session) -> View | None:
        """Return the view of the session's commit; None when another thread has already moved beyond it."""
        view = self.latest
        if view is None or view.seq < session.state.seq:
            with self._lock:
                view = self.latest
                if view is None or view.seq < session.state.seq:
                    view = self.latest = self._advanced(view, session)
        return view if view.seq == session.state.seq else None

    def _advanced(self, old: View | None, session: Session) -> View:
        state = session.state
        matrix = old.target.matrix if old and len(old.target.matrix) == state.rows else self.store.map(state.rows)
        allowed, tombstone = self._allowed(old, session)
        searcher = old.target.searcher if old else None
        if state.snapshot != (old.snapshot if old else None):
            searcher = self._searcher(session.snapshot(), searcher)
        norms = old.target.norms if old else Norms()  # rows of a generation never change
        ahead = old.target.ahead if old else ReadAhead()
        target = Target(matrix, self.settings.metric, state.live, allowed, searcher, norms, ahead)
        masks = Masks(target, state.seq, self._columns)
        return View(state.seq, tombstone, state.snapshot, target, masks, mapping_of(matrix))

    def _allowed(self, old: View | None, session: Session) -> tuple[npt.NDArray[np.uint8] | None, int]:
        state: State = session.state
        if state.live == state.rows:
            return None, 0
        fresh = session.tombstones(after=old.tombstone if old else 0)
        bits = np.full((state.rows + 7) // 8, 0xFF, dtype=np.uint8)
        if old is not None and old.target.allowed is not None:
            # Bits beyond the old state's rows are set in its last byte, so whole bytes can be taken over.
            bits[: len(old.target.allowed)] = old.target.allowed
        rows = np.array([row for _, row in fresh] or np.empty(0, dtype=np.int64))
        if rows.dtype != np.int64 or (rows < 0).any() or (rows >= state.rows).any():
            raise CollectionDamaged(f"{self.paths.database}: tombstones of rows that are not; restore from a backup")
        np.bitwise_and.at(bits, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
        return bits, fresh[-1][0] if fresh else (old.tombstone if old else 0)

    def _searcher(self, found: SnapshotEntry | None, old: Searcher | None) -> Searcher | None:
        if found is None:
            return None
        if found.name in self._adopted:
            return self._adopted[found.name]
        if old is None:
            first = self._load(found, soon=True)
            if first is not None and first.waits:
                threading.Thread(target=self._swap_later, args=(found,), name="reperio-load").start()
            return first
        # The index before still answers rightly, with a longer tail: nobody waits for the new one.
        threading.Thread(target=self._swap, args=(found,), name="reperio-load").start()
        return old

    def _swap_later(self, found: SnapshotEntry) -> None:
        # Not a daemon: Python waits for it. A native call that returned while Python ends would abort the process.
        until = time.monotonic() + _ONE_QUESTION
        while time.monotonic() < until:
            if self._closed.wait(_A_MOMENT) or not threading.main_thread().is_alive():
                return
        if index.symphony_is_installed():  # only now: the import takes longer than the first answer
            self._swap(found)

    def _swap(self, found: SnapshotEntry) -> None:
        searcher = self._load(found)
        with self._lock:
            view = self.latest
            if view is not None and view.snapshot == found.name:
                target = replace(view.target, searcher=searcher)
                self.latest = replace(view, target=target, masks=Masks(target, view.seq, self._columns))

    def _load(self, found: SnapshotEntry, *, soon: bool = False) -> Searcher | None:
        """Load a recorded index; warn, and do without, when it cannot be trusted.

        Args:
            found: what is recorded.
            soon: leave out what takes long; the searcher then `waits` for it.
        """
        if not self.trust_index:
            return None
        try:
            description = IndexDescription.from_json(found.description)
            if description.exact:
                return None
            settings = self.settings
            loaded = index.read(
                description,
                self.paths.index,
                dimension=settings.dimension,
                metric=settings.metric,
                shared=True,
                soon=soon,
            )
            return description.to_searcher(loaded)
        except SnapshotUnusable as error:
            if self.is_current(found.name):
                warn_caller(
                    one_line(
                        f"the index of {self.paths.root.parent} cannot be used: {error}. Searches are exact (slower, "
                        "right) until a writer has rebuilt it; optimize() does so at once"
                    )
                )
                self._on_unusable()
            return None

    def is_current(self, name: str) -> bool:
        """Say whether an index is the one in use by now."""
        # A writer may have replaced the index or the whole generation, and removed the file, since our session began.
        try:
            with self.store.session() as session:
                return session.state.snapshot == name
        except CollectionError:
            return False

    def require_directory(self) -> None:
        """Make the directory of indexes where it is missing: all in it is derived, and copies may leave it out."""
        with layout.storage_errors(self.paths.index, "create"):
            if not layout.is_there(self.paths.index):
                layout.make_directory(self.paths.index)
                layout.sync_directory(self.paths.root)

    def remove_unrecorded(self) -> None:
        """Remove indexes that a killed writer has written and not recorded, or replaced and not removed.

        Nobody else may be building one.
        """
        with self.store.session() as session:
            found = session.snapshot()
        with layout.storage_errors(self.paths.index, "clear"):
            index.remove_others(self.paths.index, index.files_of(found.name, found.description) if found else ())

    def description(self) -> IndexDescription | None:
        """Return the description of the index in use; None where there is none, or it cannot be read."""
        with self.store.session() as session:
            found = session.snapshot()
        try:
            return IndexDescription.from_json(found.description) if found else None
        except SnapshotUnusable:
            return None

    def vectors(self) -> StoredMatrix:
        """Map the vectors of all rows that this handle's last write has committed."""
        return self.store.map(self.store.state.rows)
