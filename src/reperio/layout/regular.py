"""Open only regular files, and never through a link.

A directory made by others may hold a named pipe, a device or a link instead of a file: opening it would wait for
ever, read without end, or reach a file outside. Code that reads a file by a name that is fixed, or that another file
tells, opens it here.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from reperio.errors import StorageFailed
from reperio.layout.writing import create_file, require_path, storage_errors, storage_failure

_BLOCK = 1 << 20
_KINDS = {
    stat.S_IFDIR: (errno.EISDIR, "a directory"),
    stat.S_IFLNK: (errno.ELOOP, "a link"),
    stat.S_IFIFO: (errno.EINVAL, "a named pipe"),
    stat.S_IFSOCK: (errno.EINVAL, "a socket"),
    stat.S_IFCHR: (errno.EINVAL, "a device"),
    stat.S_IFBLK: (errno.EINVAL, "a device"),
}


def open_regular(path: Path, flags: int = os.O_RDONLY, *, mode: int = 0o644, follow: bool = False) -> int:
    """Open a regular file and return its descriptor.

    Args:
        path: path of the file.
        flags: as for `os.open`.
        mode: permissions of a file that is created.
        follow: follow a link in the last place of the path. Only for a path that a person has typed.

    Raises:
        StorageFailed: it is not there, not regular, or may not be opened; ``errno`` says which.
        InvalidInput: the path holds NUL.
    """
    # Without O_NONBLOCK, opening a named pipe waits for its other end, before there is anything to look at.
    more = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    require_path(path)
    with storage_errors(path, "open"):
        descriptor = os.open(path, flags | more, mode)
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
        too_long = os.fstat(file.fileno()).st_size > limit
        content = b"" if too_long else file.read()  # with a length, Python would set that much aside at once
    if too_long or len(content) > limit:
        failure = StorageFailed(f"cannot read {path}: it has more than {limit:,} bytes, the most such a file may have")
        failure.errno = errno.EFBIG
        raise failure
    return content


def copy_regular(source: Path, target: Path) -> None:
    """Copy the content of a regular file to a new file, durably; neither is reached through a link.

    Raises:
        StorageFailed: as for `open_regular`, or the target cannot be written.
    """
    with (
        open(open_regular(source), "rb") as old,
        storage_errors(target, "write"),
        open(create_file(target), "wb") as new,
    ):
        shutil.copyfileobj(old, new, _BLOCK)
        new.flush()
        os.fsync(new.fileno())


def reason(error: OSError) -> str:
    """Return why a file could not be read, for a message that names the file itself."""
    cause = error.__cause__ if isinstance(error, StorageFailed) else error
    return (isinstance(cause, OSError) and cause.strerror) or str(error)


def is_regular(path: Path) -> bool:
    """Say whether a regular file is at the path itself, not at the end of a link."""
    return stat.S_ISREG(_mode(path))


def is_directory(path: Path) -> bool:
    """Say whether a directory is at the path itself, not at the end of a link."""
    return stat.S_ISDIR(_mode(path))


def is_there(path: Path) -> bool:
    """Say whether anything is at the path, be it a link that leads nowhere."""
    return _mode(path) != 0


def require_absent_or_regular(path: Path) -> None:
    """Raise `StorageFailed` for anything at the path but a regular file."""
    mode = _mode(path)
    if mode:
        require_regular(mode, path)


def require_absent_or_directory(path: Path) -> None:
    """Raise `StorageFailed` for anything at the path but a directory: a link to one, too, would lead elsewhere."""
    mode = _mode(path)
    if mode and not stat.S_ISDIR(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), (0, "a file"))[1]
        failure = StorageFailed(f"cannot open {path}: it is {kind}, not a directory; move it away")
        failure.errno = errno.ENOTDIR
        raise failure


def _mode(path: Path) -> int:
    """Return the mode of what is at the path, 0 where nothing is."""
    try:  # not by storage_errors, which takes longer than the call: opening a collection asks a dozen times
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except ValueError:  # of a NUL, which no system call takes
        require_path(path)
        raise
    except OSError as error:
        raise storage_failure(error, path, "look at") from error
