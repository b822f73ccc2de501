"""The directory of a collection: paths, CURRENT, atomic replacement, the writer's lock, the format version.

::

    kb/
      CURRENT                   the generation in use, one line, replaced atomically
      LOCK                      the writer's flock; its text names the holder
      gen-000001/
        collection.json         format version, metric, dimension, words, embedding contract: written once
        chunks.db               SQLite: the commit point
        vectors.f32             row r at byte r·d·4; vectors.f16, at byte r·d·2, where float16 was asked for
        index/snapshot-….faiss  derived, immutable
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from recollect.errors import (
    CollectionDamaged,
    CollectionExists,
    CollectionLocked,
    CollectionNotFound,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)

FORMAT_VERSION = 3
"""2: the database has a lexical index; 3: a ledger. What an older version has written is read as having none."""

Dtype: TypeAlias = Literal["float32", "float16"]
"""How a collection keeps its vectors; fixed when it is created."""

DTYPES: dict[Dtype, str] = {"float32": "f32", "float16": "f16"}
"""What there is to choose from, and the suffix of the file."""

Lexical: TypeAlias = Literal["porter", "unicode61", "trigram", "none"]
"""How texts are cut into words for lexical search; fixed when a collection is created."""

LEXICAL: tuple[Lexical, ...] = ("porter", "unicode61", "trigram", "none")
"""What there is to choose from."""

_GENERATION = re.compile(r"gen-(\d{6,})")
_CURES = {
    errno.ENOSPC: "free some space and try again; what was acknowledged is safe",
    errno.EDQUOT: "raise the quota or free some space; what was acknowledged is safe",
    errno.EROFS: "the file system is read-only; open with read_only=True",
    errno.EACCES: "no permission; open with read_only=True, or as the owner",
    errno.EPERM: "not permitted; open with read_only=True, or as the owner",
    errno.EFBIG: "the file size limit of this process or file system is reached; raise it",
}


@dataclass(frozen=True, slots=True)
class Generation:
    """The paths of one generation.

    Attributes:
        root: its directory.
        dtype: of its vectors, which names their file. CURRENT does not tell it, collection.json does.

    """

    root: Path
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:
        """The directory's name, as CURRENT holds it."""
        return self.root.name

    @property
    def settings(self) -> Path:
        """collection.json."""
        return self.root / "collection.json"

    @property
    def database(self) -> Path:
        """chunks.db."""
        return self.root / "chunks.db"

    @property
    def vectors(self) -> Path:
        """vectors.f32, or vectors.f16."""
        return self.root / f"vectors.{DTYPES[self.dtype]}"

    @property
    def index(self) -> Path:
        """The directory of snapshots."""
        return self.root / "index"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a collection."""

    root: Path

    @property
    def current(self) -> Path:
        """CURRENT."""
        return self.root / "CURRENT"

    @property
    def lock(self) -> Path:
        """LOCK."""
        return self.root / "LOCK"

    def is_collection(self) -> bool:
        """Say whether this is one; False when there is nothing yet, or an empty directory.

        Raises:
            NotACollection: when the path is something else; nothing is ever created inside it.
            CollectionDamaged: it has generations and no CURRENT.

        """
        if not self.root.exists() and not self.root.is_symlink():
            return False
        if not self.root.is_dir():
            raise NotACollection(f"{self.root} is a file, not a collection; choose another path")
        if self.current.exists():
            return True
        strangers = sorted(entry.name for entry in self.root.iterdir())
        if not strangers:
            return False
        if any(_GENERATION.fullmatch(name) for name in strangers):
            raise CollectionDamaged(f"{self.current} is missing; restore from a backup")
        raise NotACollection(
            f"{self.root} is no collection: it holds {', '.join(strangers[:3])}"
            f"{' …' if len(strangers) > 3 else ''} and no CURRENT file; choose an empty or new directory"
        )

    def require(self) -> None:
        """Raise `CollectionNotFound` or `NotACollection` unless a collection is here."""
        if not self.is_collection():
            raise CollectionNotFound(
                f"there is no collection at {self.root}; create it with recollect.open(path), or "
                "recollect ingest … --into path"
            )

    def read_current(self) -> Generation:
        """Return the generation that CURRENT names."""
        with storage_errors(self.current, "read"):
            name = self.current.read_text(encoding="ascii", errors="replace").strip()
        if not _GENERATION.fullmatch(name) or not (self.root / name).is_dir():
            raise CollectionDamaged(
                f"{self.current} names {name[:40]!r}, which is no generation here; restore from a backup"
            )
        return Generation(self.root / name)

    def write_current(self, generation: Generation) -> None:
        """Make *generation* the one in use, atomically and durably."""
        write_atomically(self.current, f"{generation.name}\n".encode())

    def next_generation(self) -> Generation:
        """Return the paths of the generation after the current one."""
        match = _GENERATION.fullmatch(self.read_current().name)
        assert match is not None  # read_current has checked it
        return Generation(self.root / f"gen-{int(match[1]) + 1:06d}")

    def retire(self, generation: Generation) -> None:
        """Remove a superseded generation: its name at once, so that nobody opens half of it, then its files."""
        retired = generation.root.with_name(f"{generation.name}.old")
        with contextlib.suppress(OSError):  # what cannot be removed now is left to the next writer
            generation.root.rename(retired)
        shutil.rmtree(retired, ignore_errors=True)

    def superseded(self) -> list[Generation]:
        """Return the whole generations that CURRENT no longer names."""
        current = self.read_current().name
        names = [entry.name for entry in self.root.iterdir() if _GENERATION.fullmatch(entry.name)]
        return [Generation(self.root / name) for name in names if name != current]

    def remove_leftovers(self) -> None:
        """Remove what a killed writer left: unfinished and superseded generations. Writers only."""
        current = self.read_current()
        for entry in self.root.iterdir():
            if entry.name != current.name and entry.name.startswith("gen-"):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.endswith(".new"):
                entry.unlink(missing_ok=True)
        for fresh in current.index.glob("*.new"):
            fresh.unlink(missing_ok=True)


FIRST_GENERATION = "gen-000001"


class WriterLock:
    """The exclusive right to write, held through ``flock`` until `release` or the end of the process.

    ``flock`` rather than a pid file: the kernel drops it with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with storage_errors(path, "lock"):
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            self._close()
            # A notebook's cell run twice: nobody looks for process 4711 who is process 4711.
            held = [lock._path.resolve() for lock in list(_held) if lock._descriptor is not None]
            cure = ", which is this one; use or close that handle" if path.resolve() in held else "; close it there"
            raise CollectionLocked(
                f"{path.parent} is open for writing in {holder}{cure}, or open with read_only=True to search beside it"
            ) from None
        _forget_in_children()
        _held.add(self)
        self._sign()

    def release(self) -> None:
        """Give the lock back; doing so twice is no error."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing alone leaves it to a child just being forked
            self._close()

    def forget(self) -> None:
        """Close this process's copy of the lock, in a forked child: else it outlives the parent in the child."""
        self._close()

    def _sign(self) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, orjson.dumps(note) + b"\n", 0)
        except OSError:
            pass  # the note only serves the error message of the next writer; the lock itself is held

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


@cache
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for lock in list(_held):
        lock.forget()


def _holder(descriptor: int) -> str:
    try:
        note = orjson.loads(os.pread(descriptor, 1000, 0))
        return f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "another process"


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
    failure = StorageFailed(f"cannot {doing} {path}: {error.strerror or error}; {cure}")
    failure.errno = error.errno
    return failure


def write_atomically(path: Path, content: bytes) -> None:
    """Replace *path* so that a crash leaves the old content or the new, never a mixture."""
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        with open(fresh, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_directory(destination: Path) -> Iterator[Path]:
    """Yield a temporary directory that takes the name *destination* when the block succeeds.

    It stands beside its destination, on the same file system. A crash leaves at most a directory named
    ``.NAME.creating-…``, which the next creation of the same path removes; the destination is either absent
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
    finally:
        os.close(guard)
        shutil.rmtree(fresh, ignore_errors=True)


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
    for entry in [entry for entry in parent.iterdir() if entry.name.startswith(prefix)]:
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry, ignore_errors=True)
        except BlockingIOError:
            pass  # a creation in progress
        finally:
            os.close(descriptor)


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write collection.json, durably, with the format version in front."""
    content = {"format_version": FORMAT_VERSION, **settings}
    write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_settings(path: Path) -> dict[str, Any]:
    """Read collection.json.

    Raises:
        UnsupportedFormat: written by a newer Recollect.
        CollectionDamaged: missing, or not what was written.

    """
    try:
        content = orjson.loads(path.read_bytes())
        version = content["format_version"]
    except FileNotFoundError:
        raise CollectionDamaged(f"{path} is missing; restore from a backup") from None
    except OSError as error:
        raise storage_failure(error, path, "read") from error
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise CollectionDamaged(f"{path} is not a settings file; restore from a backup") from None
    if not isinstance(version, int) or version < 1:
        raise CollectionDamaged(f"{path} has no format version but {version!r}; restore from a backup")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"{path.parent.parent} has format version {version}, and this Recollect reads up to "
            f"{FORMAT_VERSION}; upgrade with: pip install --upgrade recollect"
        )
    return dict(content)
