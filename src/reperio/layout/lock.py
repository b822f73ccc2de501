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

from reperio.errors import CollectionClosed, CollectionLocked
from reperio.layout.identity import identity
from reperio.layout.regular import open_regular
from reperio.layout.writing import storage_errors

_ATTEMPTS = 10  # to lock a file that others remove or replace at that very moment


class WriterLock:
    """The exclusive right to write, held through ``flock`` until `release` or the end of the process.

    ``flock`` rather than a pid file: the kernel drops it with the process, however that ends. A lock that nobody refers
    to any more is released: a collection that was opened and forgotten does not keep itself from being opened again.

    The kernel locks the file, not its path. Where a link is switched, a directory moved or restored, or the file
    removed, a process that comes later locks another file, and both may write. So every commit asks
    `require_in_place` first.

    Args:
        path: path of the file; the last part of its directory may be a link.
        meanwhile: what the user can do while another process has the lock, for the message.

    Attributes:
        directory: the directory that is locked, without links: what is written through it stays in it.
    """

    def __init__(self, path: Path, *, meanwhile: str = "or open with read_only=True to search meanwhile") -> None:
        self._path = path
        self._name = str(path)
        self._meanwhile = meanwhile
        self.directory = path.parent
        with storage_errors(path, "lock"):
            self._descriptor: int | None = self._acquired()
        _forget_in_children()
        _held.add(self)
        self._forgotten = weakref.finalize(self, _release, self._descriptor)
        self._forgotten.atexit = False  # the end of the process does it; until then it is another callback's
        self._sign()

    def is_in_place(self) -> bool:
        """Say whether the path still leads to the file that is locked. Costs one look-up."""
        try:  # not by `identity`: each commit and each search asks
            status = os.lstat(self._name)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def require_in_place(self) -> None:
        """Raise `CollectionClosed` where another process could have the lock at the path."""
        if not self.is_in_place():
            raise CollectionClosed(
                f"{self._path.parent} is no longer what this handle has locked: it was moved or replaced, its link was "
                "switched, or its file LOCK was removed; nothing was written. Close this handle and open the "
                "collection again"
            )

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

    def _acquired(self) -> int:
        """Lock the file at the path, the one that is there when that is done, and return its descriptor."""
        for _ in range(_ATTEMPTS):
            descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
            except BlockingIOError:
                raise self._refusal(descriptor) from None
            except OSError:
                os.close(descriptor)
                raise
            self.directory = Path(os.path.realpath(self._path.parent))
            self._identity = (status.st_dev, status.st_ino)
            if self.is_in_place() and identity(str(self.directory / self._path.name)) == self._identity:
                return descriptor
            os.close(descriptor)
        raise CollectionLocked(
            f"{self._path} is removed or replaced again and again while it is locked; end what does so, then try again"
        )

    def _refusal(self, descriptor: int) -> CollectionLocked:
        holder = _holder(descriptor)
        os.close(descriptor)
        # A notebook's cell run twice: naming our own process as the holder would lead nowhere.
        held = [lock._path.resolve() for lock in list(_held) if lock._descriptor is not None]
        cure = ", which is this one; use or close that handle" if self._path.resolve() in held else "; close it there"
        return CollectionLocked(f"{self._path.parent} is open for writing in {holder}{cure}, {self._meanwhile}")

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
