"""Files and directories that are there whole or not at all, durably, and what the file system refuses, in words."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reperio.errors import InvalidInput, StorageFailed

_LONG_PATH = 1000  # characters of a path in a message
_CURES = {
    errno.ENOSPC: "free some space and try again; what was acknowledged is safe",
    errno.EDQUOT: "raise the quota or free some space; what was acknowledged is safe",
    errno.EROFS: "the file system is read-only; open with read_only=True",
    errno.EACCES: "no permission; open with read_only=True, or as the owner",
    errno.EPERM: "not permitted; open with read_only=True, or as the owner",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "there is a link instead of the file, or links lead in a circle; remove it",
    errno.EMFILE: "this process has too many files open; close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open; close some, or raise its limit",
    errno.EISDIR: "there is a directory instead of the file; move it away",
    errno.ENOTDIR: "there is a file instead of the directory; move it away",
    errno.EFBIG: "the file size limit of this process or file system is reached; raise it",
}

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an `OSError` into `StorageFailed` that names the path and the cure."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageFailed):
            raise
        raise storage_failure(error, path, doing) from error


def storage_failure(error: OSError, path: Path, doing: str) -> StorageFailed:
    """Build the `StorageFailed` for an `OSError` met while *doing* something to *path*."""
    cure = _CURES.get(error.errno or 0, "check the file system")
    if doing == "create" and error.errno in _FORBIDDEN:
        cure = "you may not write there; choose a directory of your own, or have one made for you"
    name = str(path) if len(str(path)) <= _LONG_PATH else f"{str(path)[:_LONG_PATH]}…"
    failure = StorageFailed(f"cannot {doing} {name}: {error.strerror or error}; {cure}")
    failure.errno = error.errno
    return failure


def write_atomically(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace *path* so that a crash leaves the old content or the new, never a mixture.

    *mode* are its permissions; None for what the umask says.
    """
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        descriptor = create_file(fresh)
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
        sync_directory(path.parent)


def create_file(path: Path) -> int:
    """Make a new file for writing and return its descriptor; what is there by that name is removed.

    A killed writer may have left its file there, anybody else a link to a file of others: neither is written to.
    Who may use it, the umask says: under 002 the group may write, as a directory for several people needs.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    _adopt_owner(path)
    return descriptor


def make_directory(path: Path, *, exist_ok: bool = False, parents: bool = False) -> None:
    """Make a directory inside one of ours; the options are those of `Path.mkdir`."""
    path.mkdir(exist_ok=exist_ok, parents=parents)
    _adopt_owner(path)


def _adopt_owner(path: Path) -> None:
    """Give what root has made to whom the directory belongs: else its owner could not go on with it."""
    if os.geteuid() == 0:
        directory = path.parent.stat()
        if directory.st_uid != 0:
            with suppress(OSError):  # a file system without owners, or one on which root is nobody
                os.chown(path, directory.st_uid, directory.st_gid, follow_symlinks=False)


def require_path(path: Path) -> None:
    """Raise `InvalidInput` for a path that no file system takes."""
    if "\0" in str(path):
        raise InvalidInput(f"the path {str(path)!r:.200} holds NUL, which no path can; leave it out")


def require_outside(path: Path, purpose: str) -> None:
    """Raise `InvalidInput` for a path inside a collection or shards, whose next writer may take it for its own.

    Args:
        path: what is written.
        purpose: of a new path, for the message: "for the backup".
    """
    require_path(path)
    with storage_errors(path, "create"):
        # A link may lead in, and may lie in there itself.
        above = [*path.absolute().parents, *Path(os.path.realpath(path)).parents]
        within = next(
            (parent for parent in dict.fromkeys(above) if _is_collection(parent) or _is_sharded(parent)), None
        )
    if within is not None:
        what = "shards of" if _is_sharded(within) else "collection"
        raise InvalidInput(
            f"{path} is inside the {what} {within}, which may remove it; choose a path outside {purpose}"
        )


def _is_collection(folder: Path) -> bool:
    current = folder / "CURRENT"
    try:
        if not current.is_file():
            return False
        with open(current, "rb") as file:
            return file.read(4) == b"gen-"  # other databases have a CURRENT, too
    except OSError:
        return False


def _is_sharded(folder: Path) -> bool:
    try:  # both, since other programs have files of that name, too
        return (folder / "shards.json").is_file() and (folder / "shards").is_dir()
    except OSError:
        return False


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable, even if another process wrote it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory as far as that goes: nothing of a link or a file, and not what is nested too deep."""
    # rmtree opens whatever is at the path, and waits for ever for who writes to a pipe.
    with suppress(RecursionError, OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
