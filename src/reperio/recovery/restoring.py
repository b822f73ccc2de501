"""Restore a collection from a backup, verified to the last chunk before it has its name.

Like `reperio.diagnose`, this is a function of the package and no method: it is done to a directory, which may hold
nothing that can be opened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from reperio import index, layout
from reperio.arguments import require_count, to_path
from reperio.collection.backup.full import write_copy
from reperio.collection.backup.incremental import BackupInfo, opened, to_info
from reperio.collection.backup.repository import Backup, Repository, is_repository
from reperio.collection.facade import handle_of
from reperio.collection.generation.creating import name_current
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.opening import open as open_collection
from reperio.collection.upkeep.salvaging import replace_damaged
from reperio.errors import CollectionDamaged, CollectionError, CollectionNotFound, InvalidInput, warn_caller
from reperio.printable import logger, one_line
from reperio.recovery.doctor import examine
from reperio.store import Session
from reperio.types import Problem

_log = logger("reperio.collection")
_WRITTEN = ("chunks.db", "chunks.db-wal", *(f"vectors.{suffix}" for suffix in layout.DTYPES.values()))
_WANTED = ("collection.json", *_WRITTEN, f"index/{layout.QUERIES}")  # to mend a generation


def backups(path: str | os.PathLike[str], *, verify: bool = False) -> list[BackupInfo]:
    """List the incremental backups in a folder, oldest first.

    Args:
        path: the folder.
        verify: read all that they need and compare it with its checksums; `BackupInfo.problems` has what is damaged.
            Else one that cannot be read is left out, with a warning in the log.

    Raises:
        CollectionNotFound: there are none.
        UnsupportedFormat, StorageFailed: as their names say.
    """
    with opened(to_path("path", path), writable=False) as repository:
        if not verify:
            return [to_info(backup) for backup in repository.backups()]
        readable, damaged = repository.read_backups()
        found = [BackupInfo(number, "", 0, 0, problems=(Problem.of(error),)) for number, error in damaged.items()]
        for backup in readable:
            with contextlib.suppress(CollectionNotFound):  # removed meanwhile
                found.append(replace(to_info(backup), problems=tuple(repository.verify(backup))))
        return sorted(found, key=lambda info: info.number)


def restore(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    number: int | None = None,
    trust_index: bool = True,
    mend: bool = False,
) -> BackupInfo:
    """Make a collection of a backup at a new path, verified to the last chunk before it is there.

    An index that is damaged is left out, with a warning: the collection's first writer rebuilds it.

    Args:
        source: what `Collection.backup` has written: a directory of its own, or a folder of incremental backups.
        destination: absent, or an empty directory.
        number: which of the incremental backups; None for the newest.
        trust_index: False for a backup that others have made: its FAISS file is neither read nor restored, nor is what
            the index was chosen for.
        mend: restore what is whole of a damaged backup; the rest is listed in `BackupInfo.lost` and in the log.

    Raises:
        CollectionDamaged: the backup is not what was written, and not *mend*, or no chunk of it is whole; nothing is
            left at the destination.
        CollectionNotFound: there is no backup at *source*.
        CollectionExists: something is at the destination.
        InvalidInput: there is no backup of that number; or the destination is inside a collection.
        UnsupportedFormat: a newer Reperio has written it.
        StorageFailed: no room; nothing is left there.
    """
    origin, target = to_path("source", source).absolute(), to_path("destination", destination).absolute()
    if number is not None:
        require_count("number", number)
    # Before anything is read, as a restore may take hours.
    layout.require_vacant(target, "to restore to")
    with layout.new_directory(target) as fresh:
        if is_repository(origin):
            info = _unpacked(origin, number, fresh, trust_index=trust_index, whole=not mend)
        elif number is not None:
            raise InvalidInput(f"{origin} is one backup, and has no number {number}; leave number out")
        else:
            info = _copied(origin, fresh, trust_index=trust_index, whole=not mend)
        with _told_of(origin, fresh, mend=mend):
            lost = _verified(origin, fresh, trust_index=trust_index, mend=mend)
        # Counted again, because a mended copy holds fewer chunks than the backup names.
        if lost or mend:
            with open_collection(fresh, read_only=True) as restored:
                info = replace(info, chunks=restored.count(), lost=lost)
    for line in lost:
        _log.warning("%s: lost: %s", target, line)
    _log.info("%s: %d chunks restored from backup %d in %s", target, info.chunks, info.number, origin)
    return info


@contextlib.contextmanager
def _told_of(origin: Path, fresh: Path, *, mend: bool) -> Iterator[None]:
    """Let errors name the backup and a cure, because the copy in which damage was found is removed."""
    try:
        yield
    except CollectionDamaged as error:
        told = str(error).replace(f"{fresh}{os.sep}{layout.FIRST_GENERATION}{os.sep}", "").replace(str(fresh), "it")
        if str(origin) not in told:
            told = f"{origin} cannot be restored: {told}"
        cure = "" if mend else "; mend=True (--mend) restores what is whole of it"
        raise CollectionDamaged(f"{told}{cure}") from error


def _verified(origin: Path, fresh: Path, *, trust_index: bool, mend: bool) -> tuple[str, ...]:
    """Verify a restored collection, mend it if asked to, and drop its index if only that is damaged."""
    try:
        if not trust_index:
            # A writer forgets the index, and what it was chosen for.
            open_collection(fresh, trust_index=False, auto_optimize=False).close()
        problems, _ = examine(fresh)
    except CollectionDamaged as error:
        problems = [Problem.of(error)]
    damage = [problem for problem in problems if problem.kind == "damage"]
    if damage and not mend:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise CollectionDamaged(f"{origin} cannot be restored: {damage[0]}{more}")
    if damage:
        return _mended(fresh)
    if problems:
        _drop_index(origin, fresh)
    return ()


def _drop_index(origin: Path, fresh: Path) -> None:
    """Remove the file of a damaged or unknown index: the first writer builds one like it."""
    index.remove_others(layout.Layout(fresh).read_current().index)
    warn_caller(
        one_line(
            f"the index in {origin} is damaged or missing, and left out. Searches are exact (slower, right) until a "
            "writer has rebuilt it; optimize() does so at once"
        )
    )


def _mended(fresh: Path) -> tuple[str, ...]:
    """Keep what is whole, without an index, and return a line for each loss."""
    lost = replace_damaged(layout.Layout(fresh), keep=False)  # the backup still has the damaged files
    problems, _ = examine(fresh)
    if problems:
        raise CollectionDamaged(str(problems[0]))
    return tuple(lost)


def _unpacked(origin: Path, number: int | None, fresh: Path, *, trust_index: bool, whole: bool) -> BackupInfo:
    with opened(origin, writable=False) as repository:
        while True:
            backup = repository.backup(number)
            try:
                with _told_of(origin, fresh, mend=not whole):
                    return _unpack(repository, backup, fresh, trust_index=trust_index, whole=whole)
            except CollectionNotFound:
                if number is not None:
                    raise
                # Another process has removed it, by a backup with keep=, so there is a newer one.
                shutil.rmtree(fresh / layout.FIRST_GENERATION)


def _unpack(repository: Repository, backup: Backup, fresh: Path, *, trust_index: bool, whole: bool) -> BackupInfo:
    repository.require_plausible(backup)
    paths = layout.Generation(fresh / layout.FIRST_GENERATION)
    with layout.storage_errors(fresh, "write"):
        layout.make_directory(paths.root)
        layout.make_directory(paths.index)
    for name in backup.files:  # names that a generation has: else the backup could not be read
        if not name.startswith("index/"):
            repository.restore(backup, name, paths.root / name, whole=whole)
        elif trust_index or not layout.is_snapshot(name.removeprefix("index/")):
            _restore_disposable(repository, backup, name, paths.root / name)
    name_current(fresh, paths)
    return to_info(backup)


def _restore_disposable(repository: Repository, backup: Backup, name: str, target: Path) -> None:
    """Restore a file of the index; no chunk depends on it."""
    try:
        repository.restore(backup, name, target)
    except CollectionDamaged as error:
        target.unlink()
        _log.warning("%s is left out: %s", name, error)


def _copied(origin: Path, fresh: Path, *, trust_index: bool, whole: bool) -> BackupInfo:
    layout.Layout(origin).require()
    chunks = 0

    def copy(generation: OpenGeneration, session: Session) -> int:
        shutil.rmtree(fresh / layout.FIRST_GENERATION, ignore_errors=True)  # what an attempt before has left
        write_copy(generation, session, fresh)
        return session.state.live

    try:
        with (
            _told_of(origin, fresh, mend=not whole),
            open_collection(origin, read_only=True, trust_index=trust_index) as kb,
        ):
            chunks = handle_of(kb).copying(copy)  # origin may be a collection in use
    except CollectionDamaged:
        if whole:
            raise
        _copy_as_it_is(origin, fresh)
    size = sum(path.lstat().st_size for path in fresh.rglob("*") if layout.is_regular(path))
    return BackupInfo(1, _written(origin), chunks, size, size)


def _copy_as_it_is(origin: Path, fresh: Path) -> None:
    """Copy what a backup that cannot be opened needs, for the doctor to keep what is whole.

    Only files of the generation in use, by their names: a link may lead to files of others.
    """
    found = layout.Layout(origin).read_current()
    paths = layout.Generation(fresh / layout.FIRST_GENERATION)
    with layout.storage_errors(fresh, "write"):
        shutil.rmtree(paths.root, ignore_errors=True)
        layout.make_directory(paths.root)
        layout.make_directory(paths.index)
    # An index is not copied: it is built again from what is whole.
    for name in _WANTED:
        if layout.is_there(found.root / name):
            layout.copy_regular(found.root / name, paths.root / name)
    name_current(fresh, paths)


def _written(origin: Path) -> str:
    """Return when a collection was last written to: of a backup, when it was made."""
    root = layout.Layout(origin)
    try:
        paths = [root.read_current().root / name for name in _WRITTEN]
        times = [path.lstat() for path in paths if layout.is_regular(path)]
        # An empty log of SQLite is touched by readers as well.
        last = max(status.st_mtime for status in times if status.st_size)
    except (CollectionError, OSError, ValueError):
        last = root.root.stat().st_mtime
    return datetime.fromtimestamp(last, timezone.utc).isoformat(timespec="seconds")
