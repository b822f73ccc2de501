"""Let processes take turns: a lock on a file, which the kernel drops with the process, however that ends.

``flock`` rather than a pid file, which a killed process would leave behind. The kernel locks the file, not its path.
Where a link is switched, a directory moved or restored, or the file removed, a process that comes later locks another
file, and both would write. So a turn begins with the proof that the file at the path is the one that is locked.

``flock`` is not fair: whoever asks again at once after letting go gets it again. So there is a queue of one: the lock
of a byte beyond the end of the file, which everybody needs first. Whoever has just had a turn finds it taken and waits.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import struct
import time
import weakref
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import orjson

from reperio.errors import CollectionClosed, CollectionLocked, StorageFailed
from reperio.layout.identity import OpenFile
from reperio.layout.regular import open_regular
from reperio.layout.writing import storage_failure
from reperio.printable import one_line

_ATTEMPTS = 10  # to lock a file that others remove or replace at that very moment
_NOTE = 512  # bytes for the text that names the holder; the mark of the turns follows
_MARK = struct.Struct("<Q?")  # turns that have ended, and whether one is under way
_NEXT = 1024  # where whoever is next says who it is
_QUEUE = 1 << 30  # the byte that whoever is next has locked
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2), 64 bits
_SHORTEST, _LONGEST, _BEHIND = 0.0001, 0.002, 0.001  # seconds between two looks: of the next, and of those behind it


class FileLock:
    """The exclusive right to change something, taken with `acquire` and given back with `release`.

    One thread at a time may use it: its owner has a lock for its threads. A lock that nobody refers to any more is
    released: a collection that was opened and forgotten does not keep others out.

    Args:
        path: path of the file, which is made where it is missing; the last part of its directory may be a link.
        purpose: what it is held for, for the message of who waits in vain.
        cure: what the user can do while another process has it, for the same message.

    Attributes:
        directory: the directory that is locked, without links: what is written through it stays in it.
        held: it is ours now.
        lasting: it is kept beyond the end of a turn, until `close`.
        found: the mark as it was when the turn began: that of the last `release` where nobody had a turn in between.
        unclean: the turn before ours did not end well: its process was killed during it, or an error ended it.
    """

    def __init__(self, path: Path, *, purpose: str, cure: str) -> None:
        self._path = path
        self._name = str(path)
        self._purpose = purpose
        self._cure = cure
        self._file: _LockedFile | None = None
        self._gone: _LockedFile | None = None
        self._turns = 0
        self.directory = path.parent
        self.found = b""
        self.held = self.lasting = self.unclean = False
        _forget_in_children()
        _LOCKS.add(self)

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock of the file at the path, and wait for it if need be.

        Args:
            timeout: seconds to wait for others; 0 to try once.

        Raises:
            CollectionLocked: another process, or another handle of this one, has it for longer.
            StorageFailed: the file cannot be made, opened or written.
        """
        try:
            for _ in range(_ATTEMPTS):
                known = self._file
                file = self._take(timeout)
                directory = self.directory if file is known else Path(os.path.realpath(self._path.parent))
                if file.is_at(self._name) and (file is known or file.is_at(str(directory / self._path.name))):
                    self.directory, self.held = directory, True
                    self._begin(file)
                    return
                self._file = None  # closed when a search that reads its mark has done so
        except BaseException as error:  # Ctrl-C, too: nothing must stay locked with nobody who knows
            self._give_back()
            if isinstance(error, OSError) and not isinstance(error, StorageFailed):
                raise storage_failure(error, self._path, "lock") from error
            raise
        raise CollectionLocked(
            f"{self._path} is removed or replaced again and again while it is locked; end what does so, then try again"
        )

    def release(self, *, clean: bool = True) -> bytes:
        """End a turn: give the lock back, unless it is lasting, and return the mark as of then.

        Doing so twice is no error, and ends what Ctrl-C has cut short.

        Args:
            clean: the turn has come to its end; else the next one is told.
        """
        file = self._file
        if not self.held or file is None:
            return b""
        if not file.lock():  # it was given back already, and others have it by now
            self.held = False
            return b""
        self._turns = (self._turns + 1) % (1 << 64)  # whatever number strangers have written
        mark = _MARK.pack(self._turns, not clean)
        if not self.lasting:
            with suppress(OSError):  # then it says that a turn is under way, which only costs time
                os.pwrite(file.number, mark, _NOTE)
            file.unlock()
            self.held = False
        return mark

    def mark(self) -> bytes:
        """Return what is different after each turn; nothing while one is under way, or where the file is not known.

        One system call: each search asks whether another process has written since. That the file is still the one at
        the path, `look` says, less often.
        """
        file = self._file
        if file is None or file is self._gone:
            return b""
        if self.lasting:
            return _MARK.pack(self._turns, False)  # nobody else has turns
        mark = os.pread(file.number, _MARK.size, _NOTE)
        return mark if mark[-1:] == b"\0" else b""

    def look(self) -> None:
        """Learn that the file was removed or replaced, so that its mark says nothing any more."""
        file = self._file  # another thread may be about to lock a new one
        if file is not None and not file.is_at(self._name):
            self._gone = file

    def is_in_place(self) -> bool:
        """Say whether it is held, and the path still leads to the file that is locked."""
        return self.held and self._file is not None and self._file.is_at(self._name)

    def require_in_place(self) -> None:
        """Raise `CollectionClosed` where another process could have the lock at the path."""
        if not self.is_in_place():
            raise CollectionClosed(
                f"{self._path.parent} is no longer what this handle has locked: it was moved or replaced, its link was "
                "switched, or its file LOCK was removed; nothing was written. Close this handle and open the "
                "collection again"
            )

    def close(self) -> None:
        """Give the lock back and close the file."""
        self.lasting = False
        self.release()
        self._file = None

    def forget(self) -> None:
        """Close this process's copy of the file, in a forked child: else it outlives the parent in the child."""
        file, self._file, self.held, self.lasting = self._file, None, False, False
        if file is not None:
            OpenFile.close(file)  # unlocking it would be for the parent, too

    def _give_back(self) -> None:
        file = self._file
        if file is not None and not self.lasting:
            with suppress(OSError):
                file.leave_queue()
                file.unlock()
        self.held = self.lasting

    def _take(self, timeout: float) -> _LockedFile:
        """Return the file at the path, locked."""
        file, deadline, pause = self._opened(), 0.0, _SHORTEST
        is_next = said = False
        while True:
            if not is_next and file.queue():
                is_next = True
            if is_next and file.lock():
                file.leave_queue()
                return file
            now = time.monotonic()
            deadline = deadline or now + timeout
            if now >= deadline:
                file.leave_queue()
                raise self._refusal(file, is_next=is_next)
            if is_next and not said:  # for those who wait in vain behind this one
                said = True
                os.pwrite(file.number, self._note(), _NEXT)
            time.sleep(pause if is_next else _BEHIND * (0.5 + random.random()))
            pause = min(_LONGEST, pause * 1.1)
            if not file.is_at(self._name):  # nobody can get the file at the path by waiting for this one
                file.leave_queue()
                self._file = None
                file, is_next, said = self._opened(), False, False

    def _opened(self) -> _LockedFile:
        """Return the file, which is known to this object before it is locked: then it can always be given back."""
        if self._file is None:
            self._file = _LockedFile(open_regular(self._path, os.O_RDWR | os.O_CREAT))
            self._adopt_owner(self._file)
        return self._file

    def _adopt_owner(self, file: _LockedFile) -> None:
        """Give a file that was just made to whom the directory belongs: made by root, it would keep its owner out."""
        if os.fstat(file.number).st_size == 0:
            directory = self._path.parent.stat()
            with suppress(PermissionError):
                os.fchmod(file.number, directory.st_mode & 0o666)
                os.fchown(file.number, directory.st_uid, directory.st_gid)

    def _begin(self, file: _LockedFile) -> None:
        """Say in the file who has it, and that a turn is under way."""
        # A new file begins with a number that no file at this path has had: a mark never means two states.
        self.found = found = os.pread(file.number, _MARK.size, _NOTE)
        self._turns, self.unclean = _MARK.unpack(found) if len(found) == _MARK.size else (time.time_ns(), False)
        os.pwrite(file.number, self._note() + _MARK.pack(self._turns, True), 0)

    def _note(self) -> bytes:
        note = orjson.dumps({"pid": os.getpid(), "host": _host(), "since": int(time.time()), "for": self._purpose})
        return note.ljust(_NOTE - 1)[: _NOTE - 1] + b"\n"

    def _refusal(self, file: _LockedFile, *, is_next: bool) -> CollectionLocked:
        found = os.pread(file.number, _NEXT + _NOTE, 0)
        if not is_next and file.lock():  # nobody has it, and whoever is next does not go on: a stopped process, say
            file.unlock()
            holder = _told(found[_NEXT:], "which is next and does not go on")
        else:
            holder = _told(found[:_NOTE])
        told, ours = holder or ("another process", False)
        cure = "use or close that handle, or wait for its call to end" if ours else self._cure
        return CollectionLocked(f"{self._path.parent} is locked by {told}; {cure}")


def _told(text: bytes, purpose: str = "") -> tuple[str, bool] | None:
    """Return who has written a note, in words, and whether that is this process; None where strangers have."""
    try:
        note = orjson.loads(text)
        pid, host, since = int(note["pid"]), one_line(str(note["host"]))[:100], int(note["since"])
        told = datetime.fromtimestamp(since, timezone.utc).isoformat()
        purpose = purpose or one_line(str(note["for"]))[:100]
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return None
    ours = pid == os.getpid() and host == _host()  # a notebook's cell run twice
    which = " (this one, through another handle)" if ours else ""
    return f"process {pid} on {host}{which}, {purpose}, since {told}", ours


class _LockedFile(OpenFile):
    """An open file with its two locks, which it loses when it is closed."""

    def close(self) -> None:
        if self.number >= 0:
            with suppress(OSError):
                self.unlock()
        super().close()

    def lock(self) -> bool:
        try:
            fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        fcntl.flock(self.number, fcntl.LOCK_UN)  # closing alone leaves it to a child just being forked

    def queue(self) -> bool:
        # Of the open file, not of the process: it would be lost when any file of that name is closed here.
        try:
            fcntl.fcntl(self.number, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _QUEUE, 1, 0))
        except OSError as error:
            if not isinstance(error, (BlockingIOError, PermissionError)):  # EAGAIN or EACCES
                raise
            return False
        return True

    def leave_queue(self) -> None:
        fcntl.fcntl(self.number, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _QUEUE, 1, 0))


@cache
def _host() -> str:
    return socket.gethostname()


_LOCKS: weakref.WeakSet[FileLock] = weakref.WeakSet()


@cache
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for lock in list(_LOCKS):
        lock.forget()
