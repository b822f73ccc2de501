"""Tell whether a path still leads to the directory that was opened.

A path is only a name: a link may be switched, a directory moved away and another one restored in its place, while
handles to the old one are open. What is opened by the same path then belongs to another collection.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from reperio.errors import CollectionClosed

Identity: TypeAlias = "tuple[int, int] | None"
"""Device and inode; None where nothing is there, or nobody may look."""


def identity(path: str) -> Identity:
    """Return what is at a path, itself and not what it leads to where that is a link.

    Args:
        path: as text, which is looked up more quickly than a `Path`: each commit does so.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class OpenFile:
    """A file that is open, and closed when nobody refers to it any more.

    So nobody can write to its number after another file has got that, though a signal handler lets go of it.

    Args:
        number: its descriptor.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        status = os.fstat(number)
        self._identity = (status.st_dev, status.st_ino)

    def is_at(self, name: str) -> bool:
        """Say whether a path leads to this file, itself and not through a link."""
        return identity(name) == self._identity

    def close(self) -> None:
        """Close it; doing so twice is no error."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def __del__(self) -> None:
        self.close()


class Opened:
    """A file or directory as it was when it was opened, to be compared with what is at its path.

    It is kept open, so that no other file gets the number of its inode meanwhile. Only as a place, which opens nothing:
    SQLite would lose its locks on a file that the same process opens and closes.

    Args:
        path: where it is. What is absent has no identity, and must stay absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._identity: Identity = None
        self._released: Callable[[], object] = lambda: None
        with contextlib.suppress(OSError):  # reading it reports why it is not there
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            status = os.fstat(descriptor)
            self._identity = (status.st_dev, status.st_ino)
            self._released = release = weakref.finalize(self, os.close, descriptor)
            release.atexit = False

    def is_in_place(self) -> bool:
        """Say whether the path leads to what was opened."""
        return identity(self._name) == self._identity

    def require(self) -> None:
        """Raise `CollectionClosed` where the path leads to something else, or nowhere."""
        if not self.is_in_place():
            raise CollectionClosed(
                f"{self._path.parent} is no longer what was opened: it was moved, removed or replaced; nothing was "
                "written. Close this handle and open the collection again"
            )

    def close(self) -> None:
        """Let go of the file; doing so twice is no error."""
        self._released()
