"""Keep incremental backups in a folder: each backup names blocks, and packs hold the blocks (`packs`).

::

    backups/
      reperio-backups           marks the folder
      LOCK                      the writer's lock
      packs/000007.pack         the blocks that one backup was the first to need, one after the other
      packs/000007.index        which they are, and where
      states/000005.json        the files of backup 5, as lists of blocks; it exists once all of them are durable

Rejected: hard links to the last backup, which share its damage; the changed pages in SQLite's log, which any process's
checkpoint removes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from reperio.collection.backup.packs import Packs, numbers, read_sealed, remove_file, split, write_sealed
from reperio.errors import (
    CollectionDamaged,
    CollectionLocked,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)
from reperio.layout import (
    FileLock,
    is_regular,
    is_stored,
    make_directory,
    open_regular,
    require_absent_or_directory,
    require_outside,
    require_path,
    storage_errors,
    strangers_in,
    sync_directory,
    write_atomically,
)
from reperio.printable import logger
from reperio.types import Problem

_log = logger("reperio.collection")
_MARKER, _MARK = "reperio-backups", b"reperio backups, version 1\n"
_MARKED = re.compile(rb"reperio backups, version (\d{1,9})\s*")
_LONGEST_TIME, _BEYOND = 40, 1 << 62
_LISTED_AGAIN = 5  # listings of a folder that others change meanwhile


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup.

    Attributes:
        number: 1 for the first; later ones are newer.
        time: UTC, ISO 8601.
        facts: what the caller wants to know about it later.
        files: by name, the digests of their blocks, in order.
    """

    number: int
    time: str
    facts: Mapping[str, Any]
    files: Mapping[str, bytes]

    def digests(self) -> set[bytes]:
        """Return the blocks that it needs."""
        return {one for blocks in self.files.values() for one in split(blocks)}


def is_repository(root: Path) -> bool:
    """Say whether a folder holds incremental backups."""
    require_path(root)
    with storage_errors(root, "read"):
        return is_regular(root / _MARKER)


class Repository:
    """The backups in a folder.

    Args:
        root: the folder; for a writer it may be absent or empty.
        writable: take the lock, and make the folder if it is not there.

    Raises:
        CollectionNotFound: there are no backups, for a reader.
        NotACollection: the folder holds something else.
        InvalidInput: it is inside a collection.
        CollectionLocked: another backup is being written there.
        UnsupportedFormat: a newer Reperio has written them.
        StorageFailed: it cannot be read, or written.
    """

    def __init__(self, root: Path, *, writable: bool) -> None:
        self.root = root
        self._packs = Packs(root / "packs", writable=writable)
        self._lock: FileLock | None = None
        if writable:
            self._make()
        for folder in (root / "packs", root / "states"):  # a link would lead what is written and removed elsewhere
            require_absent_or_directory(folder)
        if writable:
            self._lock = FileLock(
                root / "LOCK", purpose="which is writing a backup", cure="wait until its backup is done"
            )
            self._lock.acquire()
        elif not is_repository(root) or not (root / "states").is_dir():  # of a first backup that was killed
            raise CollectionNotFound(
                f"there are no incremental backups at {root}; what backup() has written without incremental=True is a "
                "collection, which reperio check verifies"
            )
        try:
            self._require_version()
            self._packs.find()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._packs.close()
        if self._lock is not None:
            self._lock.close()

    def backups(self) -> list[Backup]:
        """Return the backups that can be read, oldest first; of others there is a warning in the log."""
        found, damaged = self.read_backups()
        for why in damaged.values():
            _log.warning("%s", why)
        return found

    def read_backups(self) -> tuple[list[Backup], dict[int, CollectionDamaged]]:
        """Return the backups that can be read, oldest first, and, by number, why others cannot."""
        # A backup with keep= may have removed the older one, and the newer one come too late for the listing.
        for _ in range(_LISTED_AGAIN):
            found, damaged, gone = self._read_listed()
            if not gone and (found or damaged):
                break
        return found, damaged

    def _read_listed(self) -> tuple[list[Backup], dict[int, CollectionDamaged], bool]:
        """Do what `read_backups` says with one listing, and say whether some of it was removed meanwhile."""
        found: list[Backup] = []
        damaged: dict[int, CollectionDamaged] = {}
        gone = False
        for number in sorted(numbers(self.root / "states", ".json")):
            try:
                found.append(self._read_backup(number))
            except CollectionDamaged as error:
                damaged[number] = error
            except StorageFailed as error:
                if error.errno != errno.ENOENT:
                    raise
                gone = True
        return found, damaged, gone

    def backup(self, number: int | None) -> Backup:
        """Return a backup; None for the newest.

        Raises:
            InvalidInput: there is none of that number.
            CollectionDamaged: it cannot be read; what others can is in the message.
        """
        found, damaged = self.read_backups()
        wanted = number if number is not None else max([*damaged, *(backup.number for backup in found)], default=None)
        for backup in found:
            if backup.number == wanted:
                return backup
        there = ", ".join(str(backup.number) for backup in found) or "none"
        if wanted in damaged:
            raise CollectionDamaged(f"{damaged[wanted]}, with its number: {there}")
        raise InvalidInput(f"{self.root} has no backup{'' if number is None else f' {number}'}; there are: {there}")

    def write(
        self,
        files: Mapping[str, tuple[Path, int]],
        facts: Mapping[str, Any],
        time: str,
        require: Callable[[], None] = lambda: None,
    ) -> tuple[Backup, int]:
        """Write a backup, durably; return it and how many bytes were new.

        Args:
            files: by name in the backup, the file and how many of its bytes count.
            facts: kept with it.
            time: UTC, ISO 8601.
            require: called when all was read; raises if the files may not be those of one collection.
        """
        number = max([0, *numbers(self.root / "states", ".json")]) + 1
        digests, written = self._packs.write(files)
        backup = Backup(number, time, facts, digests)
        require()
        if self._lock is not None and not self._lock.is_in_place():
            raise CollectionLocked(
                f"{self.root} was moved or replaced, or its file LOCK was removed, while a backup was written: another "
                "backup may be at work there; begin it again"
            )
        write_sealed(self._path_of(number), _to_json(backup))
        return backup, written

    def require_plausible(self, backup: Backup) -> None:
        """Raise `CollectionDamaged` for a backup that claims more data than its folder can hold."""
        self._packs.require_plausible(backup.files.values(), backup.facts["bytes"], self._named(backup))

    def restore(self, backup: Backup, name: str, target: Path, *, whole: bool = True) -> None:
        """Write a file of a backup, durably; each block is compared with its digest.

        Args:
            backup: the backup.
            name: of the file in it.
            target: a new file.
            whole: False: a damaged block is written as it was found, and zeros where there is none.

        Raises:
            CollectionDamaged: a block is missing or not what was written. The target is not whole.
            CollectionNotFound: the backup was removed meanwhile. Likewise.
        """
        digests, needed_by = split(backup.files[name]), self._path_of(backup.number)
        with storage_errors(target, "write"), open(target, "xb") as file:
            for digest in digests:
                try:
                    block = self._packs.read(digest, self._named(backup), needed_by)
                except CollectionDamaged:
                    if whole:
                        raise
                    block = self._packs.remains(digest, last=digest == digests[-1])
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    def verify(self, backup: Backup) -> list[Problem]:
        """Compare all blocks that a backup needs with their digests; return a problem per file that is not whole."""
        problems: list[Problem] = []
        for name, blocks in backup.files.items():
            digests = split(blocks)
            damaged = self._packs.damaged(digests, self._named(backup), self._path_of(backup.number))
            if damaged:
                first = Problem.of(damaged[0])
                problems.append(replace(first, what=f"{name}: {len(damaged)} of {len(digests)} blocks: {first.what}"))
        return problems

    def forget(self, keep: int) -> list[int]:
        """Remove all but the newest backups, then the blocks that no other needs; return the numbers removed.

        A state goes before its blocks: killed in between, this leaves blocks for the next to remove, never a state
        without them. One that cannot be read keeps no other from staying: it does not count, and goes when all that are
        as old as it do. Until then all blocks stay, because its own are unknown.
        """
        found, damaged = self.read_backups()
        stay = found[-keep:]
        gone = sorted(number for number in [*damaged, *(backup.number for backup in found)] if number < stay[0].number)
        left = sorted(damaged.keys() - set(gone))
        with storage_errors(self.root / "states", "write"):
            for number in gone:
                remove_file(self._path_of(number))
            sync_directory(self.root / "states")
        for number in left:
            _log.warning("%s; until it is removed, no block is", damaged[number])
        self._packs.forget(None if left else {digest for backup in stay for digest in backup.digests()})
        return gone

    def _require_version(self) -> None:
        path = self.root / _MARKER
        with storage_errors(path, "read"), open(open_regular(path), "rb") as file:
            content = file.read(100)
        marked = _MARKED.fullmatch(content)
        if marked is not None and int(marked[1]) > 1:
            raise UnsupportedFormat(
                f"{self.root} holds backups of version {int(marked[1])}, and this Reperio reads up to 1; upgrade "
                "with: pip install --upgrade reperio"
            )
        if content != _MARK:
            _log.warning("%s is not what was written; it is taken for %r", path, _MARK.decode().strip())

    def _make(self) -> None:
        require_outside(self.root, "for the backups")
        with storage_errors(self.root, "create"):
            if not is_repository(self.root):
                if self.root.exists() and not self._is_blank():
                    raise NotACollection(f"{self.root} holds something else than backups; choose a new directory")
                made = [folder for folder in self.root.parents if not folder.exists()]
                self.root.mkdir(parents=True, exist_ok=True)
                for folder in made:
                    sync_directory(folder.parent)
                write_atomically(self.root / _MARKER, _MARK)
            for name in ("packs", "states"):
                require_absent_or_directory(self.root / name)
                make_directory(self.root / name, exist_ok=True)
            sync_directory(self.root)
            # Every time: one that was killed may have left a folder whose name is not durable.
            sync_directory(self.root.parent)

    def _is_blank(self) -> bool:
        """Say whether nothing is there but what a first backup leaves that was killed."""
        return self.root.is_dir() and not set(strangers_in(self.root)) - {f"{_MARKER}.new"}

    def _named(self, backup: Backup) -> str:
        return f"backup {backup.number} of {self.root}"

    def _path_of(self, number: int) -> Path:
        return self.root / "states" / f"{number:06d}.json"

    def _read_backup(self, number: int) -> Backup:
        path = self._path_of(number)
        try:
            content = orjson.loads(read_sealed(path))
            files = {name: bytes.fromhex(blocks) for name, blocks in content["files"].items()}
            _require_facts(content["time"], content["facts"])
            strange = next((name for name in files if not is_stored(name)), None)
            if strange is not None:
                raise CollectionDamaged(f"{path} names the file {strange!r:.80}, which no backup holds; do not use it")
            return Backup(number, content["time"], content["facts"], files)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CollectionDamaged(f"{path} cannot be read ({error}); restore another backup") from None


def _require_facts(time: Any, facts: Any) -> None:
    """Raise `ValueError` for facts that no backup states."""
    if not isinstance(time, str) or len(time) > _LONGEST_TIME:
        raise ValueError(f"its time is {time!r:.40}")
    datetime.fromisoformat(time)
    for name in ("chunks", "bytes"):
        if type(facts[name]) is not int or not 0 <= facts[name] < _BEYOND:
            raise ValueError(f"{name} is {facts[name]!r:.40}")


def _to_json(backup: Backup) -> bytes:
    files = {name: blocks.hex() for name, blocks in backup.files.items()}
    return orjson.dumps({"time": backup.time, "facts": dict(backup.facts), "files": files})
