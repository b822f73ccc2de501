"""Hold the open files of a collection: the generation in use, the lock of the writer, and the index's maintainer."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias, TypeVar

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration, View
from reperio.collection.handle.clock import Clock
from reperio.collection.handle.scope import Scope
from reperio.collection.handle.telemetry import Telemetry
from reperio.collection.upkeep import rewriting
from reperio.collection.upkeep.building import Built, cores, publish, remove_older
from reperio.collection.upkeep.maintainer import Maintainer
from reperio.embedding.contract import Settings
from reperio.errors import (
    CollectionClosed,
    CollectionDamaged,
    CollectionError,
    CollectionReadOnly,
    EmbeddingContractError,
    InvalidVectors,
    StorageFailed,
)
from reperio.printable import logger
from reperio.store import Outdated, Session, supersede
from reperio.types import HEAVY, Embedder, Limits, Progress
from reperio.vectors import StoredMatrix

Result = TypeVar("Result")
_log = logger("reperio.collection")
_LAST_SECONDS = 10.0  # that the end of Python waits for builds under way
_AT_ONCE = nullcontext()
REPLACED = (CollectionError, FileNotFoundError, InvalidVectors, EmbeddingContractError)
"""Errors of a read whose generation may have been replaced by one of another model or dimension."""

Signature: TypeAlias = "tuple[int, int, int, int]"
"""The identity of a CURRENT file: device, inode, and when it was written and moved."""


class Handle:
    """Hold what all calls of one `Collection` share.

    Args:
        root: the directory.
        lock: the writer's; None for a reader.
        auto_optimize: build and extend the index in the background.
        scope: what may be seen and written through it.
        trust_index: False: a reader reads no index, a writer forgets the one it finds and builds its own.
        limits: how much one call may ask for.
        telemetry: instruments of OpenTelemetry; None for none.

    Attributes:
        root: the directory, as the user named it.
        files: the same, without links where it is written to: what is locked.
        generation: the one in use, as far as this handle has looked; `current` looks again.
        writing: held while the store is written.
        building: held while an index is built or the collection rewritten; taken before *writing*.
        clock: times what goes into the ledger.
    """

    def __init__(
        self,
        root: layout.Layout,
        *,
        lock: layout.WriterLock | None,
        auto_optimize: bool,
        scope: Scope,
        trust_index: bool = True,
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.root = root
        self.telemetry = telemetry
        self.scope = scope
        self._trust_index = trust_index
        self.limits = limits or Limits()
        self._heavy = threading.BoundedSemaphore(self.limits.heavy or max(2, cores()))
        self.read_only = lock is None
        self.closed = False
        self.writing = threading.RLock()
        self.clock = Clock()
        self._lock = lock
        self.files = root if lock is None else layout.Layout(lock.directory)
        self._current = self.files.current  # joined once: each call asks for it
        self._reader: Handle | None = None  # of what is at the path, where that is no longer what is locked
        self._process = os.getpid()
        self._ending = False  # Python is
        self._following = threading.RLock()  # as the others: Ctrl-C at the end of a `with` may leave it held
        self._looked = -math.inf
        self._signature, self.generation = self._open_current()
        self._reading = self.generation
        if not trust_index and not self.read_only:
            self.generation.forget_index()  # from here on every index here is this writer's own
        self.maintainer = Maintainer(
            lambda: self.generation, self.publish, enabled=auto_optimize and not self.read_only
        )
        self.building = self.maintainer.building
        if not self.read_only:
            _WRITERS.add(self)

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

        The writer, in this process or another, may put another generation in use at any time. Open files of the old
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

        A reader learns here that the writer has put another one in use, or somebody another collection. A writer that
        has lost its place to another collection goes on as a reader of that one.

        Args:
            max_age: seconds for which what was found last may be returned, at the price of reading a clock; 0 to look
                in any case.
        """
        if max_age:
            now = time.monotonic()
            if now - self._looked <= max_age:
                return self._reading
            self._looked = now
        if self._lock is None or self._lock.is_in_place():
            self._reading = self.updated()
        else:
            self._reading = self._outside().current()
        return self._reading

    def owned(self) -> OpenGeneration:
        """Return the generation to write to: the one that CURRENT names in the locked directory.

        That the lock is still the one at the path, each transaction proves.

        Raises:
            CollectionReadOnly, CollectionClosed: this may not write.
        """
        self.require_writable()
        return self.updated()

    def commit(self, attempt: Callable[[OpenGeneration], Result]) -> Result:
        """Return what *attempt* returns, which writes, and call it again where another writer has committed before it.

        Args:
            attempt: reads the state of the generation it is given, prepares, and writes with ``seen=`` that state.
        """
        with self.writing:
            while True:
                try:
                    return attempt(self.owned())
                except Outdated:
                    continue

    def _outside(self) -> Handle:
        """Return a reader of what is at the path, where that is not what this writer has locked."""
        with self._following:
            if self._reader is None:
                try:
                    self._reader = Handle(
                        self.root,
                        lock=None,
                        auto_optimize=False,
                        scope=self.scope,
                        trust_index=self._trust_index,
                        limits=self.limits,
                        telemetry=self.telemetry,
                    )
                except CollectionError as error:
                    self.require_place()  # a path that leads nowhere
                    raise CollectionClosed(f"{self.root.root} was moved or replaced: {error}") from error
                _log.warning(
                    "%s is no longer what this handle has locked: searches go on in what is there now, and nothing can "
                    "be written until it is closed and opened again",
                    self.root.root,
                )
            return self._reader

    def updated(self) -> OpenGeneration:
        """Return the generation that CURRENT names in the files of this handle, and use it from now on.

        A writer finds another one in use, too: after its own `replace` was interrupted (Ctrl-C, a failing sync) when
        CURRENT was replaced already. Writing to the old one would lose it.
        """
        if self._current_signature() != self._signature:
            with self._following:
                if self._current_signature() != self._signature:
                    self.require_place()  # else that is the CURRENT of another collection
                    old = self.generation
                    signature, self.generation = self._open_current()
                    self._signature = signature
                    if self._reading is old:
                        self._reading = self.generation
                    old.close()
        return self.generation

    @property
    def last_read(self) -> OpenGeneration:
        """The generation that was read from last."""
        return self._reading

    def rewrite(self, embedder: Embedder | None, progress: Progress | None) -> int:
        """Put a new generation in use, without what was deleted, and return how many rows were dropped."""
        self.require_buildable(waiting=True)
        with self.building, self.writing:
            self.require_buildable()
            old = self.owned()
            self.replace(old, lambda target: rewriting.rewrite(old, target, embedder=embedder, progress=progress))
            return old.store.state.rows - old.store.state.live

    def replace(self, old: OpenGeneration, write: Callable[[layout.Generation], Result]) -> Result:
        """Put a new generation in use instead of *old*, which is removed, and return what *write* returns.

        Nobody commits to the old one from before it is copied until CURRENT names the new one.

        Args:
            old: the generation in use; *building* and *writing* are held.
            write: writes the new one, whole and durably, to the paths that it is given.
        """
        target = self.files.next_generation()
        with old.store.hold():
            written = write(target)
            old.store.require_permitted()
            self.files.write_current(target)
        _log.info("%s: %s in use instead of %s", self.root.root, target.name, old.paths.name)
        self.updated()
        supersede(old.paths)
        self.files.retire(old.paths)
        return written

    def publish(self, generation: OpenGeneration, built: Built) -> None:
        """Put an index in use; *building* is held."""
        with self.writing:
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
            raise CollectionClosed(f"{self.root.root} was closed through this handle; open it again")
        if self._process != os.getpid():
            raise CollectionClosed(
                f"this handle to {self.root.root} belongs to process {self._process}, which forked this one; "
                "open the collection again in the child"
            )

    def require_writable(self) -> None:
        """Raise `CollectionReadOnly` for a reader, and what `require_open` raises."""
        self.require_open()
        if self.read_only:
            raise CollectionReadOnly(f"{self.root.root} was opened with read_only=True; open it without, to write")

    def require_place(self) -> None:
        """Raise `CollectionClosed` where the lock is not the one at the path: all that is written without it."""
        if self._lock is not None:
            self._lock.require_in_place()

    def require_buildable(self, *, waiting: bool = False) -> None:
        """Raise `CollectionClosed` in a thread that would not live to end a build, and as `require_place`.

        And what `require_writable` raises.
        """
        self.require_writable()
        self.require_place()
        if self._ending and threading.current_thread() is not threading.main_thread():
            if waiting:  # without a lock. An error at once would be printed while Python ends, which may abort it
                time.sleep(_LAST_SECONDS)
            raise CollectionClosed(
                f"{self.root.root}: Python is ending, and a build in another thread would not be finished; join the "
                "thread first, or close the collection"
            )

    def close(self, *, finish: bool = True) -> None:
        """Finish a build that is due, and release the files and the lock. Doing so twice is no error."""
        if self.closed or self._process != os.getpid():
            return
        self.maintainer.close(finish=finish)
        with self.building, self.writing:
            self.closed = True
            self.generation.close()
            if self._reader is not None:
                self._reader.close()
            if self._lock is not None:
                self._lock.release()

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

    def _open_current(self) -> tuple[Signature, OpenGeneration]:
        """Open the generation that CURRENT names, and read CURRENT again if it changed meanwhile.

        Without links: a link that is switched later leads none of its paths into another collection.
        """
        while True:
            signature = self._current_signature()
            try:
                generation = self._open(layout.Layout(Path(os.path.realpath(self.files.root))).read_current())
            except (CollectionDamaged, CollectionClosed, StorageFailed):
                if self._current_signature() == signature:
                    raise
                continue
            if self._current_signature() == signature:
                return signature, generation
            generation.close()

    def _open(self, paths: layout.Generation) -> OpenGeneration:
        return OpenGeneration(
            paths,
            Settings.read(paths.settings),
            read_only=self.read_only,
            trust_index=self._trust_index or not self.read_only,
            idle=self.limits.idle,
            watch=self.telemetry.read if self.telemetry is not None else None,
            permit=_nothing if self._lock is None else self._lock.require_in_place,
            on_unusable=lambda: self.maintainer.rebuild(),
        )

    def _current_signature(self) -> Signature:
        try:
            status = self._current.stat()
        except FileNotFoundError:
            self.require_place()
            raise CollectionDamaged(f"{self._current} is missing; restore from a backup") from None
        except OSError as error:
            raise layout.storage_failure(error, self._current, "look at") from error
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


_WRITERS: weakref.WeakSet[Handle] = weakref.WeakSet()


@atexit.register
def _rest_all() -> None:
    """Let no daemon thread, the builder or a user's, build an index when Python ends without `close`.

    FAISS writes files through a callback into Python: in a thread that is stopped during it, that aborts the process (1
    of 120 ends during builds). Nothing is lost by it, but it leaves a core dump. SQLite, in C, is stopped unharmed.
    """
    until = time.monotonic() + _LAST_SECONDS
    for handle in _writers():
        handle.rest(until)


def _writers() -> list[Handle]:
    while True:
        try:
            return list(_WRITERS)
        except RuntimeError:  # a daemon thread opens or drops one meanwhile
            continue


def _nothing() -> None:
    """Permit what a reader does: it does not write."""
