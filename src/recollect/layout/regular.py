"""Open only regular files, and never through a link.

A directory made by others may hold a named pipe, a device or a link in the place of a file: opening it would wait for
ever, read without end, or reach a file outside. Whoever reads a file by a name that is fixed, or that another file
tells, opens it here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from recollect.errors import StorageFailed
from recollect.layout.writing import storage_errors

_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "a directory"),
    stat.S_IFLNK: (errno.ELOOP, "a link"),
    stat.S_IFIFO: (errno.EINVAL, "a named pipe"),
    stat.S_IFSOCK: (errno.EINVAL, "a socket"),
    stat.S_IFCHR: (errno.EINVAL, "a device"),
    stat.S_IFBLK: (errno.EINVAL, "a device"),
}


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file and return its descriptor.

    Args:
        path: path of the file.
        flags: as for `os.open`.
        follow: follow a link in the last place of the path. Only for a path that a person has typed.

    Raises:
        StorageFailed: it is not there, not regular, or may not be opened; ``errno`` says which.

    """
    # Without O_NONBLOCK, opening a named pipe waits for its other end, before there is anything to look at.
    more = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    with storage_errors(path, "open"):
        descriptor = os.open(path, flags | more)
        try:
            require_regular(os.fstat(descriptor).st_mode, path)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def require_regular(mode: int, path: Path) -> None:
    """Raise `StorageFailed` unless *mode*, of ``os.stat``, is that of a regular file."""
    if stat.S_ISREG(mode):
        return
    number, kind = _KINDS.get(stat.S_IFMT(mode), (errno.EINVAL, "no regular file"))
    failure = StorageFailed(f"cannot open {path}: it is {kind}, not a regular file; remove it, or choose another file")
    failure.errno = number
    raise failure


def read_regular(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """Return the content of a regular file.

    Args:
        path: path of the file.
        limit: the most bytes it may have.
        follow: as for `open_regular`.

    Raises:
        StorageFailed: as for `open_regular`, or it is longer than *limit* (``errno`` is EFBIG).

    """
    with storage_errors(path, "read"), open(open_regular(path, follow=follow), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        failure = StorageFailed(f"cannot read {path}: it has more than {limit:,} bytes, the most such a file may have")
        failure.errno = errno.EFBIG
        raise failure
    return content
