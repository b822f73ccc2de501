"""Whether a file is the one that was read before: by what the file system says of it, else by its content."""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from pathlib import Path

from reperio.errors import InvalidInput
from reperio.layout import open_regular, reason

_BLOCK = 1 << 20
_SETTLED_NS = 2_000_000_000


def stat_of(path: Path) -> list[int] | None:
    """Return what changes whenever a file is written: its size, times and inode; None where they may yet be the same.

    A file system's clock ticks coarsely. A file that was written within its last tick can be written again without
    another time, so what changed less than two seconds ago is known by its content alone.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED_NS:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def hash_of(path: Path) -> str:
    """Return a hash of a file's content; of a text the same with either kind of line ends.

    Raises:
        InvalidInput: the file cannot be read.
    """
    digest = blake2b(digest_size=16)
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            block = file.read(_BLOCK)
            binary = b"\0" in block[:8192]  # as git tells them apart
            while block:
                if not binary:
                    # A pair of CR and LF must not be cut in two.
                    while block.endswith(b"\r") and (more := file.read(1)):
                        block += more
                    block = block.replace(b"\r\n", b"\n")
                digest.update(block)
                block = file.read(_BLOCK)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {reason(error)}; allow it, or leave the file out") from error
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 where it is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116  # follows links, as reading does
    except OSError:
        return 0
