"""The way back from a backup: verified to the last chunk before it has its name."""

from __future__ import annotations

import logging
import os
from datetime import datetime, timezone
from pathlib import Path

from recollect import layout
from recollect.collection.incrementing import BackupInfo, opened, to_info
from recollect.collection.opening import open as open_collection
from recollect.collection.repository import Repository, State, is_repository
from recollect.collection.transfer import name_current, write_copy
from recollect.errors import CollectionDamaged, InvalidInput

_log = logging.getLogger("recollect.collection")


def backups(path: str | os.PathLike[str]) -> list[BackupInfo]:
    """List the incremental backups in a folder, oldest first.

    Raises:
        CollectionNotFound: there are none.
        CollectionDamaged: one cannot be read.

    """
    with opened(Path(path), writable=False) as repository:
        return [to_info(state) for state in repository.states()]


def restore(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], *, number: int | None = None
) -> BackupInfo:
    """Make a collection of a backup at a new path, verified to the last chunk before it is there.

    Args:
        source: what `Collection.backup` has written: a directory of its own, or a folder of incremental backups.
        destination: absent, or an empty directory.
        number: which of the incremental backups; None for the newest.

    Raises:
        CollectionDamaged: the backup is not what was written; nothing is left at the destination.
        CollectionNotFound: there is no backup at *source*.
        CollectionExists: something is at the destination.
        InvalidInput: there is no backup of that number.
        StorageFailed: no room; nothing is left there.

    """
    origin, target = Path(source).absolute(), Path(destination).absolute()
    layout.require_vacant(target, "to restore to")
    with layout.new_directory(target) as fresh:
        if is_repository(origin):
            with opened(origin, writable=False) as repository:
                info = _unpack(repository, _chosen(repository, number), fresh)
        elif number is not None:
            raise InvalidInput(f"{origin} is one backup, and has no number {number}; leave number out")
        else:
            info = _copied(origin, fresh)
        with open_collection(fresh, read_only=True) as restored:
            report = restored.check()
        if not report.ok:
            more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
            raise CollectionDamaged(f"{origin} cannot be restored: {report.problems[0]}{more}")
    _log.info("%s: %d chunks restored from backup %d in %s", target, info.chunks, info.number, origin)
    return info


def _chosen(repository: Repository, number: int | None) -> State:
    states = repository.states()
    wanted = [state for state in states if number is None or state.number == number]
    if not wanted:
        there = ", ".join(str(state.number) for state in states) or "none"
        raise InvalidInput(
            f"{repository.root} has no backup {number if number is not None else ''}; there are: {there}"
        )
    return wanted[-1]


def _unpack(repository: Repository, state: State, fresh: Path) -> BackupInfo:
    paths = layout.Generation(fresh / layout.FIRST_GENERATION)
    with layout.storage_errors(fresh, "write"):
        paths.root.mkdir()
        paths.index.mkdir()
    for name in state.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CollectionDamaged(f"{repository.root}: backup {state.number} names the file {name!r}; do not use it")
        repository.restore(state, name, paths.root / name)
    name_current(fresh, paths)
    return to_info(state)


def _copied(origin: Path, fresh: Path) -> BackupInfo:
    layout.Layout(origin).require()
    with open_collection(origin, read_only=True) as kb:
        generation, session = kb._handle.session()
        with session:
            write_copy(generation, session, fresh)
            chunks = session.state.live
    size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return BackupInfo(1, now, chunks, size, size)
