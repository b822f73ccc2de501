"""Take turns with the other writers of a collection, and with those that build indexes or rewrite it."""

from __future__ import annotations

import errno
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, _GeneratorContextManager, contextmanager
from types import GeneratorType
from typing import Any, Protocol, TypeAlias, TypeVar

from reperio import layout
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.handle.in_use import InUse
from reperio.collection.handle.origin import HandleOrigin
from reperio.errors import InvalidInput, StorageFailed

Yielded = TypeVar("Yielded")


class Locks:
    """The two locks of a collection that is written: for a commit, and for building an index or rewriting it all.

    Args:
        root: the directory.
        timeout: seconds to wait for another process.
        exclusive: keep the first for as long as the handle is open, so that no other handle writes.

    Attributes:
        writers: held for each commit, or for as long as the handle is open.
        lease: held while an index is built or the collection rewritten; whoever has it may wait for a turn.
    """

    def __init__(self, root: layout.Layout, *, timeout: float, exclusive: bool) -> None:
        self.timeout = timeout
        self.exclusive = exclusive
        purpose = "which has opened it with exclusive=True" if exclusive else "which is writing"
        cure = "wait, or end that process; searches go on meanwhile, also through read_only=True"
        self.writers = layout.FileLock(root.lock, purpose=purpose, cure=cure)
        self.lease = layout.FileLock(
            root.maintenance, purpose="which is building an index or rewriting it", cure="wait, or end that process"
        )
        if exclusive:
            self.writers.acquire(timeout)
            self.writers.lasting = True

    def close(self) -> None:
        """Give both back."""
        self.lease.close()
        self.writers.close()


class Owner(Protocol):
    """A handle, as far as its turns need it; each member is `Handle`'s."""

    closed: bool
    origin: HandleOrigin

    def require_writable(self) -> None:
        """Raise where it cannot be written through."""
        ...

    def require_buildable(self, *, waiting: bool = False) -> None:
        """Raise where no build can begin."""
        ...

    @property
    def building(self) -> RLock:
        """The lock of its threads under which indexes are built."""
        ...


class Turns:
    """The turns of one handle: blocks in which nobody else writes, or builds.

    Args:
        handle: whose turns these are.
        root: the directory.
        locks: by which writers take turns; None for a reader.
        in_use: the generation of the handle.

    Attributes:
        writing: held by the thread that has its turn: those of one handle write one after the other.
    """

    def __init__(self, handle: Owner, root: layout.Layout, locks: Locks | None, in_use: InUse) -> None:
        self._handle = handle
        self._in_use = in_use
        self._locks = locks
        self._locked, self._locked_current = root.root, root.current  # joined once: each turn asks for it
        self.writing = threading.RLock()
        self._thread_of_user: int | None = None  # the one in `of_user`
        self._turns = Nesting(self._mend_turn, lambda: self.writing)
        self._maintenance = Nesting(self._mend_maintenance, lambda: handle.building)

    def begin_in_child(self, locks: Locks | None) -> None:
        """Go on in a forked child, with locks of its own."""
        self._locks, self.writing = locks, threading.RLock()

    def turn(self, wait: bool) -> AbstractContextManager[OpenGeneration]:
        """Return the block of `Handle.turn`."""
        return self._turns.block(lambda own: self._turn(wait, own))

    @contextmanager
    def of_user(self) -> Iterator[None]:
        """Keep other writers out during a block of the user: see `Collection.turn`."""
        self._handle.require_writable()
        self._handle.origin.refresh()
        with self.turn(wait=True):
            if self._handle.origin.held is not None:
                self._handle.origin.require_own()
            before, self._thread_of_user = self._thread_of_user, threading.get_ident()
            try:
                yield
            finally:
                self._thread_of_user = before

    @contextmanager
    def _turn(self, wait: bool, own: Own) -> Iterator[OpenGeneration]:
        begun = time.monotonic()
        with self.writing:
            if self._handle.closed:  # by another thread meanwhile
                self._handle.require_writable()
            assert self._locks is not None  # of a writer
            locks, outermost, clean = self._locks, self._turns.is_outermost(own), False
            if outermost:
                self._mend_turn()
            try:
                if locks.exclusive:
                    locks.writers.require_in_place()
                elif outermost:
                    self._acquire(locks.writers, locks.timeout - (time.monotonic() - begun) if wait else 0.0)
                if locks.writers.directory is not self._locked:
                    self._locked = locks.writers.directory
                    self._locked_current = self._locked / self._locked_current.name
                generation = self._in_use.follow(self._locked_current, taking=outermost)
                if outermost and generation.store.catch_up(locks.writers.found, suspect=locks.writers.unclean):
                    self._handle.origin.find(generation)
                yield generation
                clean = True
            finally:
                if outermost:
                    self._end_turn(locks.writers.release(clean=clean), clean=clean)

    def _mend_turn(self) -> None:
        """End a turn whose own end Ctrl-C has cut short, so that it keeps nobody out."""
        locks = self._locks
        if locks is not None and (self._in_use.kept is not None or (locks.writers.held and not locks.writers.lasting)):
            self._end_turn(locks.writers.release(clean=False), clean=False)

    def _mend_maintenance(self) -> None:
        if self._locks is not None:
            self._locks.lease.release(clean=False)

    def _acquire(self, lock: layout.FileLock, timeout: float) -> None:
        self._in_use.require_there()  # no file is made in what is no collection
        try:
            lock.acquire(timeout)
        except StorageFailed as error:
            if error.errno == errno.ENOENT:  # the directory has gone since: this says so
                self._in_use.require_there()
            raise

    def _end_turn(self, mark: bytes, *, clean: bool) -> None:
        used, self._in_use.kept = self._in_use.kept, None
        if used is None:
            return
        if clean:
            used.store.known_at(mark)
        if used is not self._in_use.generation:
            used.close()  # another thread has found another collection at the path meanwhile

    def require_none(self) -> None:
        """Refuse what waits for a build while this thread has its turn: a build ends by a turn, so both would wait."""
        if self._turns.is_inside() and not self._maintenance.is_inside():
            raise InvalidInput(
                "inside `with collection.turn()` no index is built, nothing is rewritten or taken over from an origin "
                "that was embedded again, and nothing is closed; do that before or after the block"
            )

    def require_none_of_user(self) -> None:
        """Refuse the same in a turn of the user alone: during a commit of its own a signal handler may close."""
        if self._thread_of_user == threading.get_ident():
            self.require_none()

    def maintaining(self, wait: bool) -> AbstractContextManager[None]:
        """Return the block of `Handle.maintaining`."""
        self.require_none()
        return self._maintenance.block(lambda own: self._maintain(wait, own))

    @contextmanager
    def _maintain(self, wait: bool, own: Own) -> Iterator[None]:
        self._handle.require_buildable(waiting=wait)
        assert self._locks is not None  # of a writer
        lease = self._locks.lease
        with self._handle.building:
            self._handle.require_buildable()
            outermost = self._maintenance.is_outermost(own)
            if outermost:
                self._mend_maintenance()
            try:
                if outermost:
                    self._acquire(lease, self._locks.timeout if wait else 0.0)
                yield
            finally:
                if outermost:
                    lease.release()


class Nesting:
    """Tells whether a block runs inside another one of its kind, also after Ctrl-C has cut the end of one short.

    A flag or a count would stay as the interrupted end has left it. A generator that has ended, in whatever way, has no
    frame any more. For blocks of one thread at a time.

    Args:
        mend: called when an outermost block is gone; ends what its own end has not.
        lock: returns the lock that is held within the blocks. Where another thread has it by then, that one mends.
    """

    def __init__(self, mend: Callable[[], object], lock: Callable[[], RLock]) -> None:
        self._mend = mend
        self._lock = lock
        self._thread = 0
        self._outermost: weakref.ref[Any] | None = None

    def block(self, begin: Callable[[Own], _GeneratorContextManager[Yielded]]) -> _GeneratorContextManager[Yielded]:
        """Return the block that *begin* makes; it asks `is_outermost` with what it is given."""
        own: Own = []
        block = begin(own)
        own.append(weakref.ref(block.gen, self._gone))
        return block

    def is_outermost(self, own: Own) -> bool:
        """Say whether a block is inside no other; if so, the next ones are inside of it until it has ended."""
        if self.is_inside():
            return False
        self._outermost, self._thread = own[0], threading.get_ident()
        return True

    def is_inside(self) -> bool:
        """Say whether this thread is in a block of this kind now."""
        generator = None if self._outermost is None else self._outermost()
        # One of another thread has just given the lock back, and may not have ended yet.
        alive = isinstance(generator, GeneratorType) and generator.gi_frame is not None
        return alive and self._thread == threading.get_ident()

    def _gone(self, which: weakref.ref[Any]) -> None:
        lock = self._lock()
        if which is self._outermost and lock.acquire(blocking=False):
            try:
                if which is self._outermost:  # no other thread has begun a block meanwhile
                    self._mend()
            finally:
                lock.release()


RLock: TypeAlias = Any
"""A `threading.RLock`, whose type has no public name before Python 3.13."""

Own: TypeAlias = "list[weakref.ref[Any]]"
"""The generator of one block, once it is made."""
