"""Hold what all calls of a collection share: the generation in use, the turns of its writers, the maintainer."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration, View
from reperio.collection.handle.clock import Clock
from reperio.collection.handle.in_use import InUse
from reperio.collection.handle.origin import HandleOrigin
from reperio.collection.handle.process import HANDLES
from reperio.collection.handle.scope import Scope
from reperio.collection.handle.telemetry import Telemetry
from reperio.collection.handle.turns import Locks, Turns
from reperio.collection.replica.replica import Replica
from reperio.collection.upkeep import rewriting
from reperio.collection.upkeep.building import Built, cores, publish, remove_older
from reperio.collection.upkeep.maintainer import Maintainer
from reperio.embedding.contract import Settings
from reperio.errors import (
    CollectionClosed,
    CollectionError,
    CollectionReadOnly,
    EmbeddingContractError,
    InvalidVectors,
)
from reperio.forks import ForkSafeLock
from reperio.printable import logger
from reperio.store import Outdated, Session, supersede
from reperio.types import HEAVY, Embedder, Limits, Progress
from reperio.vectors import StoredMatrix

Result = TypeVar("Result")
_log = logger("reperio.collection")
_FORK_SECONDS = 1.0  # that a fork waits for a commit under way
_PATIENCE_AT_THE_END = 10.0  # seconds that a thread is kept from beginning a build, while Python ends
_AT_ONCE = nullcontext()
REPLACED = (CollectionError, FileNotFoundError, InvalidVectors, EmbeddingContractError)
"""Errors of a read whose generation may have been replaced by one of another model or dimension."""


class Handle:
    """Hold what all calls of one `Collection` share.

    Args:
        root: the directory.
        locks: by which writers take turns; None for a reader.
        auto_optimize: build and extend the index in the background.
        scope: what may be seen and written through it.
        trust_index: False: a reader reads no index, a writer forgets the one it finds and builds its own.
        limits: how much one call may ask for.
        telemetry: instruments of OpenTelemetry; None for none.
        replica: the way to the origin that the collection follows; None without one.
        private: the directory of a collection in memory, which goes when this is closed.

    Attributes:
        root: the directory, as the user named it.
        name: the same as a text, or what was passed instead of it.
        origin: the origin of the collection, if it has one.
        clock: times what goes into the ledger.
    """

    def __init__(
        self,
        root: layout.Layout,
        *,
        locks: Locks | None,
        auto_optimize: bool,
        scope: Scope,
        trust_index: bool = True,
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
        replica: Replica | None = None,
        private: layout.PrivateDirectory | None = None,
    ) -> None:
        self.root = root
        self._private = private
        self.name = str(root.root) if private is None else layout.IN_MEMORY
        self.origin = HandleOrigin(self, replica, locks.timeout if locks is not None else 0.0)
        self.telemetry = telemetry
        self.scope = scope
        self._trust_index = trust_index
        self.limits = limits or Limits()
        self._heavy = threading.BoundedSemaphore(self.limits.heavy or max(2, cores()))
        self.read_only = locks is None
        self.closed = False
        self.clock = Clock()
        self._locks = locks
        self._process = os.getpid()
        self._disturbed = False  # a fork came while it was in use: the child cannot use it
        self._auto_optimize = auto_optimize
        self._ending = False  # Python is
        self._looked = -math.inf
        self._paused = False
        self._in_use = InUse(root.current, self._open, in_memory=private is not None)
        self._turns = Turns(self, root, locks, self._in_use)
        self.maintainer = self._new_maintainer()
        HANDLES.add(self)
        if not self.read_only and not trust_index:
            with self.maintaining(), self.turn() as generation:
                generation.forget_index()  # from here on every index here is this writer's own

    @property
    def generation(self) -> OpenGeneration:
        """The generation in use, as far as this handle has looked; `current` looks again."""
        return self._in_use.generation

    def keep_replaced(self, keeps: Callable[[OpenGeneration, OpenGeneration], bool]) -> None:
        """Ask *keeps*, with a generation and the one that has replaced it, whether to leave the old one open.

        What is open stays readable though its files are gone. The caller closes it.
        """
        self._in_use.keeps = keeps

    def begin(self) -> tuple[OpenGeneration, Session, View]:
        """Begin a session with the view of its commit, which the caller ends (``with session:``)."""
        return self.on_current(lambda generation: (generation, *generation.begin()))

    def session(self) -> tuple[OpenGeneration, Session]:
        """Begin a session that searches nothing, and therefore loads no index. The caller ends it."""
        return self.on_current(lambda generation: (generation, generation.store.session().begin()))

    def reading(self) -> tuple[OpenGeneration, Session, StoredMatrix]:
        """Begin a session that searches nothing, with the vectors of its commit. The caller ends it.

        Both at once: when another process replaces the generation, its files are removed a moment later, and only what
        is open by then can still be read.
        """
        return self.on_current(OpenGeneration.begin_reading)

    def settings(self) -> Settings:
        """Return the settings of the generation in use as they are on disk: see `OpenGeneration.settled`."""
        return self.on_current(OpenGeneration.settled)

    def copying(self, copy: Callable[[OpenGeneration, Session], Result]) -> Result:
        """Return what *copy* returns, which reads files by name, and call it again when these were removed."""

        def begin(generation: OpenGeneration) -> Result:
            with generation.store.session() as session:
                return copy(generation, session)

        return self.on_current(begin)

    def on_current(self, read: Callable[[OpenGeneration], Result], *, first: OpenGeneration | None = None) -> Result:
        """Return what *read* returns for the generation that CURRENT names, and try again where that was replaced.

        Another process, or thread, may put another generation in use at any time. Open files of the old
        one stay readable, but their names are gone.

        Args:
            read: reads from the generation that it is given.
            first: generation to try first, without looking at CURRENT; None to look.

        Raises:
            CollectionClosed: this handle was closed.
        """
        self.require_open()
        generation = first or self.current()
        while True:
            try:
                return read(generation)
            except REPLACED:
                newest = self.newer_than(generation)
                if newest is None:
                    raise
                generation = newest

    def newer_than(self, generation: OpenGeneration) -> OpenGeneration | None:
        """Return the generation that has replaced *generation*; None where it is in use, or this handle is closed."""
        newest = generation if self.closed else self.current()
        return None if newest is generation else newest

    def current(self, *, max_age: float = 0.0) -> OpenGeneration:
        """Return the generation to read from: the one that CURRENT names, at the path, from now on.

        A handle learns here that another process has put another one in use, or somebody another collection.

        Args:
            max_age: seconds for which what was found last may be returned, at the price of reading a clock; 0 to look
                in any case.
        """
        if max_age:
            now = time.monotonic()
            if now - self._looked <= max_age:
                return self._in_use.generation
            self._looked = now
        if self._locks is not None:
            self._locks.writers.look()
        return self._in_use.follow()

    def turn(self, *, wait: bool = True) -> AbstractContextManager[OpenGeneration]:
        """Return the block in which no other process and no other thread writes; it yields the generation to write to.

        It is the one that CURRENT names in the directory that is locked, and knows the state that is committed there.
        Within a turn of the same thread this is that turn.

        Args:
            wait: for others, as long as the timeout says.

        Raises:
            CollectionReadOnly, CollectionClosed: this may not write.
            CollectionLocked: another process has had its turn for longer than the timeout.
        """
        self.require_writable()
        return self._turns.turn(wait)

    def turn_of_user(self) -> AbstractContextManager[None]:
        """Keep other writers out during a block of the user: see `Collection.turn`."""
        return self._turns.of_user()

    def require_no_turn(self) -> None:
        """Raise where this thread is in a turn of the user; during a commit a signal handler may close."""
        self._turns.require_none_of_user()

    def maintaining(self, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the block in which nobody else builds an index here or rewrites the collection; others go on writing.

        Args:
            wait: for others, as long as for a turn.

        Raises:
            CollectionReadOnly, CollectionClosed: this may not write, or Python is ending.
            CollectionLocked: another process is at it.
        """
        return self._turns.maintaining(wait)

    @contextmanager
    def to_build(self, *, wait: bool = True) -> Iterator[OpenGeneration]:
        """Yield the generation to build an index for, `maintaining` it, with all that was committed when that began.

        Args:
            wait: for the builds of others; their commits are waited for in any case.
        """
        with self.maintaining(wait=wait):
            with self.turn() as generation:
                pass  # what others have committed is known now
            yield generation

    def commit(self, attempt: Callable[[OpenGeneration], Result]) -> Result:
        """Return what *attempt* returns, which writes, and call it again where another writer has committed before it.

        Args:
            attempt: reads the state of the generation it is given, prepares, and writes with ``seen=`` that state.
        """
        if self.origin.replica is not None:
            return self.origin.commit(attempt)
        with self.turn() as generation:
            if self.origin.held is not None:
                self.origin.require_own()
            while True:
                try:
                    return attempt(generation)
                except Outdated:  # by one that does not take turns
                    continue

    def rewrite(self, embedder: Embedder | None, progress: Progress | None) -> int:
        """Put a new generation in use, without what was deleted, and return how many rows were dropped."""
        with self.maintaining(), self.turn() as old:
            if embedder is not None:
                self.origin.require_own()
                if self.origin.replica is not None:
                    self.origin.reembed(embedder, progress)
                    return 0
            self.replace(old, lambda target: rewriting.rewrite(old, target, embedder=embedder, progress=progress))
            return old.store.state.rows - old.store.state.live

    def replace(self, old: OpenGeneration, write: Callable[[layout.Generation], Result]) -> Result:
        """Put a new generation in use instead of *old*, which is removed, and return what *write* returns.

        Nobody commits to the old one from before it is copied until CURRENT names the new one.

        Args:
            old: the generation in use, in a turn, while nobody else builds.
            write: writes the new one, whole and durably, to the paths that it is given.
        """
        files = layout.Layout(old.paths.root.parent)
        target = files.next_generation()
        with old.store.hold():
            written = write(target)
            old.store.require_permitted()
            files.write_current(target)
        _log.info("%s: %s in use instead of %s", self.root.root, target.name, old.paths.name)
        self._in_use.follow(files.current)
        supersede(old.paths)
        files.retire(old.paths)
        return written

    def publish(self, generation: OpenGeneration, built: Built) -> None:
        """Put an index in use, which was built for a generation by `maintaining` it.

        Raises:
            CollectionClosed: another collection is at the path by now.
        """
        with self.turn() as current:
            if current is not generation:
                raise CollectionClosed(
                    f"{self.root.root} was replaced while an index was built for what was there; begin it again"
                )
            publish(generation, built)
        remove_older(generation, built)
        self.maintainer.forget()

    def traced(self, operation: str) -> AbstractContextManager[None]:
        """Return the context manager that a call runs in, for telemetry: see `Telemetry.operation`."""
        return _AT_ONCE if self.telemetry is None else self.telemetry.operation(operation)

    def admitted(self, rows: int) -> AbstractContextManager[object]:
        """Return the context manager that a search for so many rows runs in: heavy ones take turns."""
        return _AT_ONCE if rows < HEAVY else self._heavy

    def require_open(self) -> None:
        """Raise `CollectionClosed` after `close`, and in a forked child."""
        if self.closed:
            raise CollectionClosed(f"{self.name} was closed through this handle; open it again")
        if self._process != os.getpid():
            self._open_in_child()

    def require_writable(self) -> None:
        """Raise `CollectionReadOnly` for a reader, and what `require_open` raises."""
        self.require_open()
        if self.read_only:
            raise CollectionReadOnly(f"{self.root.root} was opened with read_only=True; open it without, to write")

    def require_buildable(self, *, waiting: bool = False) -> None:
        """Raise what `require_writable` does, and `CollectionClosed` in a thread that would not live to end a build."""
        self.require_writable()
        if self._ending and threading.current_thread() is not threading.main_thread():
            if waiting:  # without a lock. An error at once would be printed while Python ends, which may abort it
                time.sleep(_PATIENCE_AT_THE_END)
            raise CollectionClosed(
                f"{self.root.root}: Python is ending, and a build in another thread would not be finished; join the "
                "thread first, or close the collection"
            )

    def close(self, *, finish: bool = True) -> None:
        """Finish a build that is due, and release the files and the lock. Doing so twice is no error."""
        if self.closed:
            return
        if self._process != os.getpid():  # nothing was opened in this child yet
            self.closed = True
            return
        self.origin.stop_following()
        self.maintainer.close(finish=finish and self._private is None)  # an index that goes with it helps nobody
        with self.building, self._turns.writing:
            self.closed = True
            self.generation.close()
            if self._locks is not None:
                self._locks.close()
        self.origin.close()
        if self._private is not None:
            self._private.close()

    def before_fork(self) -> None:
        """Close the database until `after_fork`: see `Store.suspend`. What is in use is waited for, for a moment."""
        if self.closed or self._process != os.getpid():
            return
        writing = self._turns.writing.acquire(timeout=_FORK_SECONDS)
        if writing and self._in_use.kept is not None:  # of this very thread: a callback of the user forks
            self._turns.writing.release()
            writing = False
        self._disturbed = not (writing and self.generation.store.suspend())
        self._paused = writing

    def after_fork(self) -> None:
        """Go on in the parent."""
        if self.closed or self._process != os.getpid():
            return
        self.generation.store.resume()
        if self._paused:
            self._paused = False
            self._turns.writing.release()

    def require_undisturbed(self) -> None:
        """Raise `CollectionClosed` in a child that was forked while this was being read or written."""
        if self._disturbed:
            raise CollectionClosed(
                f"{self.root.root} was being read or written by process {self._process} when that forked this one; "
                "open it again here, or fork when no call and no iteration is under way"
            )

    def _open_in_child(self) -> None:
        """Open everything again, in a child that was forked from the process that had opened it."""
        with _CHILD:
            if self._process == os.getpid():
                return
            where = self.root.root
            self.require_undisturbed()
            if self._locks is not None and self._locks.exclusive:
                raise CollectionClosed(
                    f"{where} was opened with exclusive=True by process {self._process}, which forked this one; open "
                    "it without, or close it there first and open it again here"
                )
            if self._locks is not None:
                self._locks = Locks(self.root, timeout=self._locks.timeout, exclusive=False)
            self._turns.begin_in_child(self._locks)
            self._heavy = threading.BoundedSemaphore(self.limits.heavy or max(2, cores()))
            self.clock, self._paused = Clock(), False
            self._in_use.open_again()
            self.maintainer = self._new_maintainer()
            self._process = os.getpid()
            self.origin.begin_in_child()

    def _new_maintainer(self) -> Maintainer:
        return Maintainer(
            lambda: self.generation,
            lambda: self.to_build(wait=False),
            self.publish,
            enabled=self._auto_optimize and not self.read_only,
        )

    @property
    def building(self) -> threading.RLock:
        """The lock of this handle's threads under which indexes are built and the collection is rewritten."""
        return self.maintainer.building

    def rest(self, until: float) -> None:
        """Wait for a build under way, and let no thread but the main one begin another: Python is ending.

        Writes and searches go on: other callbacks of `atexit` may wait for threads that still have some to do.

        Args:
            until: when to give up, as `time.monotonic` has it.
        """
        if self.closed or self._process != os.getpid():
            return
        self._ending = True
        self.maintainer.stop()
        if self.building.acquire(timeout=max(0.0, until - time.monotonic())):
            self.building.release()
        else:
            _log.warning("%s: Python ends during a build; close() waits for it", self.root.root)

    def _open(self, paths: layout.Generation) -> OpenGeneration:
        return OpenGeneration(
            paths,
            Settings.read(paths.settings),
            read_only=self.read_only,
            trust_index=self._trust_index or not self.read_only,
            idle=self.limits.idle,
            watch=self.telemetry.read if self.telemetry is not None else None,
            turns=None if self._locks is None else self._locks.writers,
            on_unusable=lambda: self.maintainer.rebuild(),
        )


_CHILD = ForkSafeLock()
