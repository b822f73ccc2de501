"""Take turns with a golden set: what one process reads, changes and writes, no other writes in between."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.layout import storage_errors


@contextmanager
def turn(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Keep other processes and threads from changing a golden set during the block, and yield where it really is.

    The lock is on its folder: the file itself is replaced by each write, and a file next to it would be left behind.

    Raises:
        InvalidInput: the file is not to be written to.
        StorageFailed: its folder cannot be read.
    """
    target = Path(os.path.realpath(to_path("path", path)))  # a link stays a link
    with storage_errors(target.parent, "open"):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with storage_errors(target.parent, "lock"):
            fcntl.flock(folder, fcntl.LOCK_EX)
        _require_writable(target)
        yield target
    finally:
        os.close(folder)


def _require_writable(path: Path) -> None:
    """Refuse a file that is read-only: replacing it needs no permission of its own, and its owner meant something."""
    if path.exists() and not (os.access(path, os.W_OK) and path.stat().st_mode & 0o222):
        raise InvalidInput(f"{path} is read-only; allow writing with chmod u+w, or name another golden set")
