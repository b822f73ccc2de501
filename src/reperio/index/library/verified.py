"""Remember which index files were read whole and found to be what was recorded: done once, not at each open.

What is remembered is the state of a file on this machine since it was started: device, inode, length, times of its last
change, and the SHA-256 that it had. Whatever writes to a file moves the time at which its inode was changed (ctime),
which no call can set. It is kept where the user keeps caches, never in a collection: a directory made by others cannot
vouch for itself. Where it cannot be kept, or must not be (`REPERIO_VERIFY`), each open reads the file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path

VARIABLE = "REPERIO_VERIFY"
"""Environment variable. Unset, empty or "once": as described above. Anything else, as "always": remember nothing."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SETTLED = 2.0  # seconds since a file was changed: a change within one tick of the clock leaves no trace
_MOST = 1024  # files remembered; beyond it the older half is forgotten
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_verified(status: os.stat_result, sha256: str) -> bool:
    """Say whether the file with this status was found to have this SHA-256.

    Args:
        status: of the open file that is about to be used.
        sha256: hexadecimal.
    """
    name = _name(status, sha256)
    with _directory() as directory:
        if name is None or directory is None:
            return False
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    return False


def remember(status: os.stat_result, sha256: str) -> None:
    """Note that the file with this status has this SHA-256; nothing happens where that cannot be kept.

    Args:
        status: of the open file, before it was read and after.
        sha256: what was computed of all its bytes.
    """
    name = _name(status, sha256)
    if name is None or time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
        return
    with _directory(create=True) as directory, contextlib.suppress(OSError):
        if directory is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=directory))
            _forget_older(directory)


def same(before: os.stat_result, after: os.stat_result) -> bool:
    """Say whether nothing has changed a file between two looks at it."""
    return _state(before) == _state(after)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _name(status: os.stat_result, sha256: str) -> str | None:
    """Return the name of the note; None where nothing is to be remembered."""
    boot = _boot()
    if boot is None or os.environ.get(VARIABLE, "once") not in ("", "once"):
        return None
    text = " ".join(map(str, (1, boot, *_state(status), sha256)))
    return blake2b(text.encode(), digest_size=20).hexdigest()


@cache
def _boot() -> str | None:
    """Return what tells this run of this machine from all others; None where the system does not say."""
    # After a start of the machine all is verified again: what a power cut or a failing disk has done shows then.
    try:
        return _BOOT.read_text().strip() or None
    except OSError:
        return None


def _place() -> Path | None:
    """Return the directory of the notes, by the XDG specification; None where the user has none."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # who this user is, nothing says
            return None
    return base / "reperio" / "verified" if base.is_absolute() else None


@contextlib.contextmanager
def _directory(*, create: bool = False) -> Iterator[int | None]:
    """Yield a descriptor of the directory of the notes; None unless it is this user's, and nobody else may write it."""
    place, number = _place(), None
    with contextlib.suppress(OSError):
        if place is not None and create:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place is not None:
            number = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if number is None:
        yield None
        return
    try:
        found = os.fstat(number)
        yield number if found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_MAY_WRITE else None
    finally:
        os.close(number)


def _forget_older(directory: int) -> None:
    names = os.listdir(directory)
    if len(names) <= _MOST:
        return
    age = {name: os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns for name in names}
    for name in sorted(names, key=age.__getitem__)[: len(names) // 2]:
        os.unlink(name, dir_fd=directory)
