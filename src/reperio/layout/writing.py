"""Files and directories that are there whole or not at all, durably, and what the file system refuses, in words."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reperio.errors import CollectionExists, InvalidInput, ReperioError, StorageFailed

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
    name = str(path) if len(str(path)) <= _LONG_PATH else f"{str(path)[:_LONG_PATH]}…"
    failure = StorageFailed(f"cannot {doing} {name}: {error.strerror or error}; {cure}")
    failure.errno = error.errno
    return failure


def write_atomically(path: Path, content: bytes) -> None:
    """Replace *path* so that a crash leaves the old content or the new, never a mixture."""
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        descriptor = create_file(fresh)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
        sync_directory(path.parent)


def create_file(path: Path) -> int:
    """Make a new file for writing and return its descriptor; what is there by that name is removed.

    A killed writer may have left its file there, anybody else a link to a file of others: neither is written to.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def require_path(path: Path) -> None:
    """Raise `InvalidInput` for a path that no file system takes."""
    if "\0" in str(path):
        raise InvalidInput(f"the path {str(path)!r:.200} holds NUL, which no path can; leave it out")


def require_vacant(path: Path, purpose: str) -> None:
    """Refuse a path that is taken, by anything but an empty directory, or that lies inside a collection.

    Args:
        path: what is written.
        purpose: of a new path, for the message: "for the backup".

    Raises:
        CollectionExists: something is there.
        InvalidInput: it is inside a collection.
    """
    require_outside(path, purpose)
    with storage_errors(path, "create"):
        link = path.is_symlink()
        if link or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise CollectionExists(f"{path} already exists; choose a new path {purpose}")


def require_outside(path: Path, purpose: str) -> None:
    """Raise `InvalidInput` for a path inside a collection, whose next writer may take what is there for its own.

    Args:
        path, purpose: as of `require_vacant`.
    """
    require_path(path)
    with storage_errors(path, "create"):
        # A link may lead in, and may lie in there itself.
        above = [*path.absolute().parents, *Path(os.path.realpath(path)).parents]
        within = next((parent for parent in dict.fromkeys(above) if _is_collection(parent)), None)
    if within is not None:
        raise InvalidInput(
            f"{path} is inside the collection {within}, which may remove it; choose a path outside {purpose}"
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


@contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """Yield a temporary directory that takes the name *destination* when the block succeeds.

    It stands next to its destination, on the same file system. A crash leaves at most a directory named
    ``.NAME.creating-PID-HEX``, which the next creation of the same path removes; the destination is either absent
    or complete. An empty directory at the destination is replaced.

    Raises:
        CollectionExists: something was put at *destination* in the meantime.
    """
    with storage_errors(destination, "create"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        fresh, guard = _guarded_directory(destination)
    try:
        yield fresh
        with storage_errors(destination, "create"):
            sync_directory(fresh)
            _take_name(fresh, destination)
            sync_directory(destination.parent)
    except ReperioError as error:  # nobody finds the temporary directory any more
        error.args = (str(error).replace(str(fresh), str(destination)),)
        raise
    finally:
        os.close(guard)
        shutil.rmtree(fresh, ignore_errors=True)


def remove_tree(path: Path) -> None:
    """Remove a directory as far as that goes: nothing of a link or a file, and not what is nested too deep."""
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)


def _guarded_directory(destination: Path) -> tuple[Path, int]:
    """Make the temporary directory, flocked: that tells a creation in progress from one that was killed."""
    prefix = f".{destination.name}.creating-"
    _remove_stale(destination.parent, prefix)
    while True:
        fresh = destination.parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
        fresh.mkdir()
        try:
            guard = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another creation took it for stale, before the lock
        fcntl.flock(guard, fcntl.LOCK_EX)
        if fresh.exists():
            return fresh, guard
        os.close(guard)


def _take_name(fresh: Path, destination: Path) -> None:
    try:
        fresh.rename(destination)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise CollectionExists(f"{destination} already exists; choose a new path") from None
        raise


def _remove_stale(parent: Path, prefix: str) -> None:
    """Remove what killed creations have left: directories with names exactly as `_guarded_directory` makes them."""
    ours = re.compile(re.escape(prefix) + r"[1-9][0-9]{0,9}-[0-9a-f]{8}")
    for entry in [entry for entry in parent.iterdir() if ours.fullmatch(entry.name)]:
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile; or a file, a link or another user's directory, which is in nobody's way
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(entry)
        except BlockingIOError:
            pass  # a creation in progress
        finally:
            os.close(descriptor)
