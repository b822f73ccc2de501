"""Make a directory that is there whole or not at all.

Where its path is free, it is made next to it, and takes its name by one rename. Where an empty directory is there
already, that stays: it may be a mount point, which no rename replaces, have permissions that somebody has chosen, be
the only one that its owner may write to, or be reached through a link. So the content is made inside it, in
``.creating-PID-HEX``. When that is complete, one rename to ``.publishing-PID-HEX`` says so, and everything moves up,
`LAST` at the end. What is being made is of no account after a crash, and what is complete is moved up by whoever
comes next (docs/decisions/0022-creating-in-place.md).
"""

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

from reperio.errors import CollectionExists, ReperioError
from reperio.layout.regular import is_directory, is_there
from reperio.layout.writing import make_directory, remove_tree, require_outside, storage_errors, sync_directory

LAST = ("CURRENT", "manifest.json", "shards.json")
"""The files without which a collection, an export, and a sharded collection are none; so they get their names last."""

_VOLUME = "lost+found"  # the root of a fresh file system has it
_UNIQUE = r"[1-9][0-9]{0,9}-[0-9a-f]{8}"
_CREATING = re.compile(rf"\.creating-{_UNIQUE}")
_PUBLISHING = re.compile(rf"\.publishing-{_UNIQUE}")


@contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """Yield a temporary directory whose content is at *destination*, complete, when the block succeeds.

    It is on the same file system, next to a destination that is absent, and inside one that is an empty directory or a
    link to one. What a crash leaves at most, the next creation of the same path, or, inside it, the next writer,
    removes or completes.

    Raises:
        CollectionExists: something is at *destination*, or was put there in the meantime.
        StorageFailed: it cannot be made.
    """
    with storage_errors(destination, "create"):
        inside = destination.is_dir()
        if inside:
            finish_creation(destination)
            _require_free(destination)
            parent, prefix = Path(os.path.realpath(destination)), ".creating-"
        else:
            destination.parent.mkdir(parents=True, exist_ok=True)
            parent, prefix = destination.parent, f".{destination.name}.creating-"
        fresh, guard = _guarded_directory(parent, prefix, adopt=inside)
    try:
        yield fresh
        with storage_errors(destination, "create"):
            sync_directory(fresh)
            if inside:
                _publish(fresh, parent, destination)
            else:
                _take_name(fresh, destination)
                sync_directory(parent)
    except ReperioError as error:  # nobody finds the temporary directory any more
        error.args = (str(error).replace(str(fresh), str(destination)),)
        raise
    finally:
        os.close(guard)
        shutil.rmtree(fresh, ignore_errors=True)


def require_vacant(path: Path, purpose: str) -> None:
    """Refuse a path that is taken, by anything but an empty directory, or that lies inside a collection.

    Args:
        path: what is written.
        purpose: of a new path, for the message: "for the backup".

    Raises:
        CollectionExists: something is there.
        InvalidInput: it is inside a collection.
        StorageFailed: it cannot be looked at.
    """
    require_outside(path, purpose)
    with storage_errors(path, "create"):
        if path.is_dir():
            finish_creation(path)
            taken = bool(strangers_in(path))
        else:
            taken = is_there(path)
        if taken:
            raise CollectionExists(f"{path} already exists; choose a new path {purpose}")


def strangers_in(directory: Path) -> list[str]:
    """Return the names of what keeps a directory from being taken for empty, in order.

    Neither what a file system puts into its root, nor what creations of the same place have there or have left.
    """
    return sorted(entry.name for entry in list(directory.iterdir()) if not _is_of_no_account(entry))


def is_being_published(directory: Path) -> bool:
    """Say whether a complete creation is being moved up into a directory, or was when its process was killed."""
    return any(_PUBLISHING.fullmatch(entry.name) and is_directory(entry) for entry in directory.iterdir())


def finish_creation(directory: Path) -> bool:
    """Move up what a killed creation had completed in a directory, and say whether it is there now.

    Waits while another process does so. What cannot be moved for want of permission stays as it is.
    """
    if not (directory.is_dir() and is_being_published(directory)):
        return False
    with storage_errors(directory, "create"), _turn(directory):
        _settle(directory)
        return _is_complete(directory)


def remove_unfinished(directory: Path) -> None:
    """Remove what killed creations have left in the directory of a collection; those in progress stay."""
    if any(_CREATING.fullmatch(entry.name) or _PUBLISHING.fullmatch(entry.name) for entry in directory.iterdir()):
        with _turn(directory):
            _settle(directory)
        _remove_stale(directory, ".creating-")


def _is_of_no_account(entry: Path) -> bool:
    """Say whether an entry is a directory of a file system's own, or of a creation: no link to one, nor a file."""
    if entry.name != _VOLUME and not any(pattern.fullmatch(entry.name) for pattern in (_CREATING, _PUBLISHING)):
        return False
    return is_directory(entry) or not is_there(entry)  # others remove and rename theirs at any time


def _is_complete(directory: Path) -> bool:
    return any(is_there(directory / name) for name in LAST)


def _require_free(directory: Path) -> None:
    if strangers_in(directory):
        raise CollectionExists(f"{directory} already exists; choose a new path")


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Keep others from moving anything up in a directory meanwhile."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _publish(fresh: Path, directory: Path, destination: Path) -> None:
    """Move the content of a complete creation up, unless another was faster."""
    with _turn(directory):
        _settle(directory)
        if strangers_in(directory):
            raise CollectionExists(f"{destination} already exists; choose a new path")
        ready = fresh.with_name(fresh.name.replace("creating", "publishing", 1))
        fresh.rename(ready)
        sync_directory(directory)
        _move_up(ready)


def _settle(directory: Path) -> None:
    """Complete what a killed process was moving up: nobody else is at it, as this is our turn."""
    for entry in [entry for entry in directory.iterdir() if _PUBLISHING.fullmatch(entry.name)]:
        if not is_directory(entry):
            continue
        if _is_complete(directory):  # killed at the very end; or a doctor has made CURRENT again
            remove_tree(entry)
        else:
            _move_up(entry)


def _move_up(ready: Path) -> None:
    """Give everything its place, `LAST` at the end, so that a directory with it is complete."""
    directory = ready.parent
    names = sorted(os.listdir(ready), key=lambda name: (name in LAST, name))  # noqa: PTH208  # names are wanted
    for name in names:
        if is_there(directory / name):
            raise CollectionExists(f"{directory / name} is in the way; move it away, then try again")
        if name in LAST:
            sync_directory(directory)
        (ready / name).rename(directory / name)
    sync_directory(directory)
    with suppress(OSError):  # whoever has opened the collection meanwhile has removed it
        ready.rmdir()


def _guarded_directory(parent: Path, prefix: str, *, adopt: bool) -> tuple[Path, int]:
    """Make the temporary directory, flocked: that tells a creation in progress from one that was killed."""
    _remove_stale(parent, prefix)
    while True:
        fresh = parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
        if adopt:
            make_directory(fresh)
        else:
            fresh.mkdir()  # of whoever makes it: the directory that it is in is not ours
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
    ours = re.compile(re.escape(prefix) + _UNIQUE)
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
