"""The writer's lock: one process, and in it one handle, writes a collection."""

from __future__ import annotations

import fcntl
import os
import socket
import weakref
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import orjson

from recollect.errors import CollectionLocked
from recollect.layout.writing import storage_errors


class WriterLock:
    """The exclusive right to write, held through ``flock`` until `release` or the end of the process.

    ``flock`` rather than a pid file: the kernel drops it with the process, however that ends. A lock that nobody refers
    to any more is released: a collection that was opened and forgotten does not keep itself from being opened again.
    """

    def __init__(self, path: Path, *, beside: str = "or open with read_only=True to search beside it") -> None:
        self._path = path
        with storage_errors(path, "lock"):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            self._close()
            # A notebook's cell run twice: nobody looks for process 4711 who is process 4711.
            held = [lock._path.resolve() for lock in list(_held) if lock._descriptor is not None]
            cure = ", which is this one; use or close that handle" if path.resolve() in held else "; close it there"
            raise CollectionLocked(f"{path.parent} is open for writing in {holder}{cure}, {beside}") from None
        _forget_in_children()
        _held.add(self)
        self._forgotten = weakref.finalize(self, _release, self._descriptor)
        self._forgotten.atexit = False  # the end of the process does it; until then it is another callback's
        self._sign()

    def release(self) -> None:
        """Give the lock back; doing so twice is no error."""
        if self._descriptor is not None:
            self._forgotten.detach()
            descriptor, self._descriptor = self._descriptor, None
            _release(descriptor)

    def forget(self) -> None:
        """Close this process's copy of the lock, in a forked child: else it outlives the parent in the child."""
        self._forgotten.detach()
        self._close()

    def _sign(self) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, orjson.dumps(note) + b"\n", 0)
        except OSError:
            pass  # the note only serves the error message of the next writer; the lock itself is held

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _release(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone leaves it to a child just being forked
    os.close(descriptor)


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


@cache
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for lock in list(_held):
        lock.forget()


def _holder(descriptor: int) -> str:
    try:
        note = orjson.loads(os.pread(descriptor, 1000, 0))
        return f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "another process"
