"""The two locks by which the writers of a collection take turns."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import _GeneratorContextManager
from types import GeneratorType
from typing import Any, TypeAlias, TypeVar

from reperio import layout

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
        generator = None if self._outermost is None else self._outermost()
        # One of another thread has just given the lock back, and may not have ended yet.
        alive = isinstance(generator, GeneratorType) and generator.gi_frame is not None
        if alive and self._thread == threading.get_ident():
            return False
        self._outermost, self._thread = own[0], threading.get_ident()
        return True

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
