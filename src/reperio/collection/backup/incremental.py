"""Add a backup to a folder of incremental backups."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reperio import index
from reperio.arguments import require_count
from reperio.collection.backup.full import require_whole
from reperio.collection.backup.repository import Backup, Repository
from reperio.collection.generation.opened import OpenGeneration
from reperio.layout import QUERIES, copy_regular, is_directory, storage_errors
from reperio.printable import logger
from reperio.store import Session, forget_snapshot
from reperio.types import Problem

_log = logger("reperio.collection")
_DATABASE, _SETTINGS = "chunks.db", "collection.json"
_SCRATCH = ".database-"
_LEFT = re.compile(re.escape(_SCRATCH) + "[a-z0-9_]{8}")  # as tempfile names it


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup in a folder of incremental ones.

    Attributes:
        number: 1 for the first; later ones are newer. Also 1 for a backup that has a directory of its own.
        time: UTC, ISO 8601; for a backup that has a directory of its own, when its files were last written.
        chunks: number of chunks in it.
        bytes: size of its files when restored.
        written: bytes that it was the first to need; None where they were not counted.
        problems: what is damaged in it, where that was looked for.
        lost: chunks and records that were not whole in it and left out when it was restored, one line each.
    """

    number: int
    time: str
    chunks: int
    bytes: int
    written: int | None = None
    problems: tuple[Problem, ...] = ()
    lost: tuple[str, ...] = ()


def backup_increment(generation: OpenGeneration, session: Session, destination: Path, keep: int | None) -> BackupInfo:
    """Add a backup of the session's commit to a folder of backups; what is there already is not written again.

    Args:
        generation, session: what to back up.
        destination: the folder; made if absent.
        keep: number of newest backups to keep; None to remove none.

    Raises:
        InvalidInput: *keep* is no count, or the folder is inside a collection.
        CollectionDamaged: something is not what was stored; nothing was written or removed.
        NotACollection: the folder holds something else.
        CollectionLocked: another backup is being written there.
        StorageFailed: the backups before are as they were.
    """
    if keep is not None:
        require_count("keep", keep)
    require_whole(generation, session)
    with opened(destination, writable=True) as repository, storage_errors(destination, "write"):
        _remove_scratch(destination)
        with tempfile.TemporaryDirectory(dir=destination, prefix=_SCRATCH) as scratch:
            session.copy_to(Path(scratch) / _DATABASE)
            if not generation.trust_index:
                forget_snapshot(Path(scratch) / _DATABASE)
            # As it is after the session began, and whole: the first `add` by text may replace it at any time.
            copy_regular(generation.paths.settings, Path(scratch) / _SETTINGS)
            files = _files(generation, session, Path(scratch))
            facts: dict[str, Any] = {"chunks": session.state.live, "bytes": sum(length for _, length in files.values())}
            facts["dtype"] = generation.settings.dtype
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            backup, written = repository.write(files, facts, now, generation.store.require_in_place)
        gone = [] if keep is None else repository.forget(keep)
    _log.info("%s: %d bytes written for backup %d in %s", generation.paths.root, written, backup.number, destination)
    if gone:
        _log.info("%s: backups removed: %s", destination, ", ".join(map(str, gone)))
    return to_info(backup, written)


@contextlib.contextmanager
def opened(path: Path, *, writable: bool) -> Iterator[Repository]:
    """Yield the backups in a folder; see `Repository`."""
    repository = Repository(path, writable=writable)
    try:
        yield repository
    finally:
        repository.close()


def _remove_scratch(destination: Path) -> None:
    """Remove the copies of databases that killed backups have left; the lock of the backups is held.

    Only directories and files with names that we give: everything else stays.
    """
    for entry in list(destination.iterdir()):
        if _LEFT.fullmatch(entry.name) and is_directory(entry):
            with contextlib.suppress(OSError):
                for name in (_SETTINGS, *(f"{_DATABASE}{suffix}" for suffix in ("", "-journal", "-wal", "-shm"))):
                    (entry / name).unlink(missing_ok=True)
                entry.rmdir()


def _files(generation: OpenGeneration, session: Session, copied: Path) -> dict[str, tuple[Path, int]]:
    """Return the files of the session's commit, by their names in a generation, and how many bytes of them count.

    Args:
        generation: in use.
        session: of the commit.
        copied: directory with copies of the settings and the database.
    """
    paths, settings = generation.paths, generation.settings
    width = settings.dimension * (4 if settings.dtype == "float32" else 2)
    files = {
        **{name: (copied / name, (copied / name).stat().st_size) for name in (_SETTINGS, _DATABASE)},
        paths.vectors.name: (paths.vectors, session.state.rows * width),
    }
    found = session.snapshot()
    trusted = found is not None and generation.trust_index
    for name in (QUERIES, *(index.files_of(found.name, found.description) if found and trusted else ())):
        with contextlib.suppress(FileNotFoundError):  # a writer has just replaced the index
            files[f"index/{name}"] = (paths.index / name, (paths.index / name).lstat().st_size)
    return files


def to_info(backup: Backup, written: int | None = None) -> BackupInfo:
    """Return what users are shown of a backup."""
    return BackupInfo(backup.number, backup.time, backup.facts["chunks"], backup.facts["bytes"], written)
