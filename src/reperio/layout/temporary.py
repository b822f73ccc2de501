"""Make directories in memory that go with their process, however it ends.

At its end, Python removes them. Where it cannot (SIGKILL, or SIGTERM, which the program may have left as it is), a
shell does that, which waits for the end of a pipe that this process alone holds. If that was killed as well, the next
process that makes such a directory removes it: nobody has its lock any more (docs/decisions/0014-in-memory.md).
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from reperio.forks import ForkSafeLock
from reperio.layout.regular import open_regular
from reperio.layout.writing import storage_errors

IN_MEMORY = ":memory:"
"""Passed instead of a path."""

_SHARED_MEMORY = Path("/dev/shm")
_ENOUGH = 1 << 30  # bytes free there: a container has 64 MiB by default, which a few thousand chunks fill
_PREFIX = "reperio-memory-"
_LOCK = "alive"
# In the background of a shell that ends at once: the program has no child that it does not know, and a signal to its
# process group does not reach it. A shell gives what is in the background an empty input: hence another number.
# A service manager may end it with the program: it goes on until its work is done.
_WATCH = 'exec 3<&0; (trap "" TERM HUP INT; read _ <&3; exec rm -rf -- "$1") &'


class PrivateDirectory:
    """A directory for one collection in memory; only this process's user may enter it.

    Raises:
        StorageFailed: it cannot be made.

    Attributes:
        path: the directory; it is not there yet, as a collection makes it.
    """

    def __init__(self) -> None:
        home = _home()
        self.path = home.path / f"kb-{next(home.numbers)}"
        self._end = weakref.finalize(self, _remove, self.path, os.getpid())
        self._end.atexit = False  # then all go together, after builds under way

    def close(self) -> None:
        """Remove it; a forked child leaves it to the parent. Doing so twice is no error."""
        self._end()


class _Home:
    """The directory of all private directories of this process, its lock and its watcher."""

    def __init__(self) -> None:
        parent = _parent()
        self.process = os.getpid()
        self.numbers = itertools.count(1)
        with storage_errors(parent, "create"):
            _sweep(parent)
            made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
            self._lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.path = parent / made.name[1:]
            made.rename(self.path)  # with its lock held: nobody takes it for a dead one's
            status = self.path.lstat()
            self._identity = status.st_dev, status.st_ino
        self._pipe = self._watch()

    def _watch(self) -> int:
        reading, writing = os.pipe()
        try:
            subprocess.run(
                ["/bin/sh", "-c", _WATCH, "sh", str(self.path)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": "/usr/bin:/bin"},
                start_new_session=True,
                check=False,
            )
        except OSError:  # no shell: the next process sweeps
            pass
        finally:
            os.close(reading)
        return writing

    def is_there(self) -> bool:
        """Say whether it is still the directory that was made: others clean up, too."""
        try:
            found = self.path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def leave(self) -> None:
        """Let go of pipe and lock in a forked child: they tell of the parent's life."""
        for descriptor in (self._pipe, self._lock):
            with suppress(OSError):
                os.close(descriptor)


_homes: list[_Home] = []


_making = ForkSafeLock()


def _home() -> _Home:
    with _making:
        if not _homes or not _homes[-1].is_there():
            _homes.append(_Home())
        return _homes[-1]


def _parent() -> Path:
    """Return a file system in memory with room, or the directory for temporary files."""
    with suppress(OSError):
        room = os.statvfs(_SHARED_MEMORY)
        if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) and room.f_bavail * room.f_frsize >= _ENOUGH:
            return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    """Remove what processes of this user have left that nobody could clean up after."""
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if entry.name.startswith(_PREFIX)]
    for entry in found:
        with suppress(OSError):
            if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                continue
            lock = open_regular(Path(entry.path) / _LOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(lock)


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


@atexit.register  # at import: so it runs after what is registered later, as the wait for builds under way
def _remove_all() -> None:
    for home in _homes:
        _remove(home.path, home.process)


def _forked() -> None:
    for home in _homes:
        home.leave()
    _homes.clear()


os.register_at_fork(after_in_child=_forked)
