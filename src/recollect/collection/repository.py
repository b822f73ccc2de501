"""A folder of incremental backups: blocks by their content, packs that hold them, and states that name them.

::

    backups/
      recollect-backups         what this is
      LOCK                      of the one who writes
      packs/000007.pack         the blocks that one backup was the first to need, one after the other
      packs/000007.index        which they are, and where
      states/000005.json        the files of backup 5, as lists of blocks; it exists once all of them are durable

A block is known by the BLAKE2b of its content, so that what did not change is not written again, whatever changed
around it: the pages of a database, rows that were appended, a file that a new generation has in common with the old.
Rejected: hard links to the last backup, which share damage; SQLite's changed pages by their log, which a checkpoint of
anybody removes.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from typing_extensions import Self

from recollect.errors import (
    CollectionDamaged,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)
from recollect.layout import (
    WriterLock,
    create_file,
    require_outside,
    require_path,
    storage_errors,
    sync_directory,
    write_atomically,
)

BLOCK_BYTES = 32_768
"""Four pages of the database; a state takes 20 bytes for each."""

_log = logging.getLogger("recollect.collection")
_MARKER, _MARK = "recollect-backups", b"recollect backups, version 1\n"
_MARKED = re.compile(rb"recollect backups, version (\d{1,9})\s*")
_DIGEST = 20
_ENTRY = np.dtype([("digest", f"V{_DIGEST}"), ("offset", "<u8"), ("length", "<u4")])
_NUMBERED = re.compile(r"(\d{6,})(\.\w+)")
_USED = 0.5  # a pack of whose bytes less is in use is written anew


class Place(NamedTuple):
    """Where a block lies."""

    pack: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class State:
    """One backup.

    Attributes:
        number: 1 for the first; later ones are newer.
        time: UTC, ISO 8601.
        facts: what the caller wants to know of it later.
        files: by name, the digests of their blocks, in order.

    """

    number: int
    time: str
    facts: Mapping[str, Any]
    files: Mapping[str, bytes]

    def digests(self) -> set[bytes]:
        """Return the blocks that it needs."""
        return {one for blocks in self.files.values() for one in _split(blocks)}


def is_repository(root: Path) -> bool:
    """Say whether a folder holds incremental backups."""
    require_path(root)
    with storage_errors(root, "read"):
        return (root / _MARKER).is_file()


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
        UnsupportedFormat: a newer Recollect has written them.
        StorageFailed: it cannot be read, or written.

    """

    def __init__(self, root: Path, *, writable: bool) -> None:
        self.root = root
        self._writable = writable
        self._lock: WriterLock | None = None
        self._places: dict[bytes, Place] = {}
        self._unreadable: set[int] = set()
        self._sound: set[bytes] = set()
        self._pack: tuple[int, int] | None = None  # number and descriptor of the one read last
        if writable:
            self._make()
            self._lock = WriterLock(root / "LOCK", beside="or wait until its backup is done")
        elif not is_repository(root) or not (root / "states").is_dir():  # of a first backup that was killed
            raise CollectionNotFound(
                f"there are no incremental backups at {root}; what backup() has written without incremental=True is a "
                "collection, which recollect check verifies"
            )
        try:
            self._require_version()
            self._find()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._leave()
        if self._lock is not None:
            self._lock.release()

    def states(self) -> list[State]:
        """Return the backups that can be read, oldest first; of others there is a warning in the log."""
        found, damaged = self.read_states()
        for why in damaged.values():
            _log.warning("%s", why)
        return found

    def read_states(self) -> tuple[list[State], dict[int, str]]:
        """Return the backups that can be read, oldest first, and, by number, why others cannot."""
        found: list[State] = []
        damaged: dict[int, str] = {}
        for number in sorted(_numbers(self.root / "states", ".json")):
            try:
                found.append(self._read_state(number))
            except CollectionDamaged as error:
                damaged[number] = str(error)
            except StorageFailed as error:
                if error.errno != errno.ENOENT:  # removed meanwhile, by a backup with keep=
                    raise
        return found, damaged

    def state(self, number: int | None) -> State:
        """Return a backup; None for the newest.

        Raises:
            InvalidInput: there is none of that number.
            CollectionDamaged: it cannot be read; what others can is in the message.

        """
        found, damaged = self.read_states()
        wanted = number if number is not None else max([*damaged, *(state.number for state in found)], default=None)
        for state in found:
            if state.number == wanted:
                return state
        there = ", ".join(str(state.number) for state in found) or "none"
        if wanted in damaged:
            raise CollectionDamaged(f"{damaged[wanted]}, with its number: {there}")
        raise InvalidInput(f"{self.root} has no backup{'' if number is None else f' {number}'}; there are: {there}")

    def write(self, files: Mapping[str, tuple[Path, int]], facts: Mapping[str, Any], time: str) -> tuple[State, int]:
        """Write a backup, durably; return it and how many bytes were new.

        Args:
            files: by name in the backup, the file and how many of its bytes count.
            facts: kept with it.
            time: UTC, ISO 8601.

        """
        number = max([0, *_numbers(self.root / "states", ".json")]) + 1
        with self._new_pack() as pack:
            kept = {name: self._write_file(pack, path, length) for name, (path, length) in files.items()}
        self._places |= pack.places()
        state = State(number, time, facts, kept)
        _write_sealed(self._path_of(number), _to_json(state))
        return state, pack.bytes

    def restore(self, state: State, name: str, target: Path, *, whole: bool = True) -> None:
        """Write a file of a backup, durably; each block is compared with its digest.

        Args:
            state: the backup.
            name: of the file in it.
            target: a new file.
            whole: False: a damaged block is written as it was found, and zeros where there is none.

        Raises:
            CollectionDamaged: a block is missing or not what was written. The target is not whole.
            CollectionNotFound: the backup was removed meanwhile. Likewise.

        """
        digests = list(_split(state.files[name]))
        with storage_errors(target, "write"), open(target, "xb") as file:
            for digest in digests:
                try:
                    block = self._block(digest, state)
                except CollectionDamaged:
                    if whole:
                        raise
                    block = self._remains(digest, last=digest == digests[-1])
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    def verify(self, state: State) -> list[str]:
        """Compare all blocks that a backup needs with their digests; return a line per file that is not whole."""
        problems: list[str] = []
        for name, blocks in state.files.items():
            damaged: list[str] = []
            for digest in set(_split(blocks)) - self._sound:
                try:
                    self._block(digest, state)
                    self._sound.add(digest)
                except CollectionDamaged as error:
                    damaged.append(str(error))
            if damaged:
                problems.append(f"{name}: {len(damaged)} of {len(blocks) // _DIGEST} blocks; {min(damaged)}")
        return problems

    def forget(self, keep: int) -> list[int]:
        """Remove all but the newest backups, then the blocks that no other needs; return the numbers removed.

        A state goes before its blocks: killed in between, this leaves blocks for the next to remove, never a state
        without them. One that cannot be read keeps no other from staying: it does not count, and goes when all that are
        as old as it do. Until then all blocks stay, as nobody knows which are its own.
        """
        found, damaged = self.read_states()
        stay = found[-keep:]
        gone = sorted(number for number in [*damaged, *(state.number for state in found)] if number < stay[0].number)
        left = sorted(damaged.keys() - set(gone))
        with storage_errors(self.root / "states", "write"):
            for number in gone:
                self._path_of(number).unlink(missing_ok=True)
            sync_directory(self.root / "states")
        for number in left:
            _log.warning("%s; until it is removed, no block is", damaged[number])
        with storage_errors(self.root / "packs", "write"):
            if not left:
                needed = {digest for state in stay for digest in state.digests()}
                for pack in self._packs():
                    if pack not in self._unreadable:
                        self._tidy(pack, needed)
                    elif needed <= self._places.keys():  # else it may be the only copy of what is not there
                        self._drop(pack)
            for path in (self.root / "packs").iterdir():  # what killed backups have left: the lock is held
                if path.suffix == ".new" or (path.suffix == ".pack" and not path.with_suffix(".index").exists()):
                    path.unlink()
        return gone

    def _tidy(self, pack: int, needed: set[bytes]) -> None:
        """Remove a pack that nothing needs; write one anew of which little is needed."""
        held = {digest: place for digest, place in self._places.items() if place.pack == pack}
        used = {digest: place for digest, place in held.items() if digest in needed}
        size, wanted = (sum(place.length for place in places.values()) for places in (held, used))
        if used and wanted >= _USED * size:
            return
        if used:
            try:
                with self._new_pack() as fresh:
                    for digest, place in used.items():
                        fresh.add(digest, self._read(digest, place, "a backup"))
            except CollectionDamaged as error:
                _log.warning("%s; the pack stays as it is", error)
                return
            self._places |= fresh.places()
        for digest in held.keys() - used.keys():
            del self._places[digest]
        self._drop(pack)

    def _drop(self, pack: int) -> None:
        # The index first: without it, the pack's blocks are not counted on.
        self._path(pack).with_suffix(".index").unlink(missing_ok=True)
        self._path(pack).unlink(missing_ok=True)
        sync_directory(self.root / "packs")

    def _write_file(self, pack: _Pack, path: Path, length: int) -> bytes:
        digests: list[bytes] = []
        with storage_errors(path, "read"), open(path, "rb") as file:
            left = length
            while left:
                block = file.read(min(BLOCK_BYTES, left))
                if not block:
                    raise CollectionDamaged(f"{path} is shorter than the {length} bytes that are committed")
                left -= len(block)
                digest = _digest(block)
                if digest not in pack and not self._holds(digest, block):
                    pack.add(digest, block)
                digests.append(digest)
        return b"".join(digests)

    def _holds(self, digest: bytes, block: bytes) -> bool:
        """Say whether a block is there, and whole: a backup is not built on what is damaged."""
        place = self._places.get(digest)
        if place is None:
            return False
        if digest not in self._sound and self._raw(place) == block:
            self._sound.add(digest)
        return digest in self._sound

    def _block(self, digest: bytes, state: State) -> bytes:
        """Read a block, wherever a backup beside this has moved it to."""
        what = f"backup {state.number} of {self.root}"
        while True:
            place = self._places.get(digest)
            try:
                if place is not None:
                    return self._read(digest, place, what)
            except StorageFailed as error:
                if error.errno != errno.ENOENT:
                    raise
            if not self._path_of(state.number).exists():
                raise CollectionNotFound(f"{what} was removed meanwhile, by a backup with keep=; restore another")
            self._find()
            if self._places.get(digest) == place:
                raise CollectionDamaged(f"{what}: a block is missing from packs/; restore another backup")

    def _read(self, digest: bytes, place: Place, what: str) -> bytes:
        block = self._raw(place)
        if _digest(block) != digest:
            raise CollectionDamaged(
                f"{what}: {self._path(place.pack)} is damaged at byte {place.offset}; restore another backup, or copy "
                "the pack from where it is whole"
            )
        return block

    def _raw(self, place: Place) -> bytes:
        """Read what is in the place of a block; the pack is left open for the next one."""
        path = self._path(place.pack)
        with storage_errors(path, "read"):
            if self._pack is None or self._pack[0] != place.pack:
                self._leave()
                self._pack = (place.pack, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            return os.pread(self._pack[1], place.length, place.offset)

    def _leave(self) -> None:
        if self._pack is not None:
            descriptor, self._pack = self._pack[1], None
            os.close(descriptor)

    def _remains(self, digest: bytes, *, last: bool) -> bytes:
        """Return what there is of a damaged block, at its length; of the last one of a file that may be unknown."""
        place = self._places.get(digest)
        if place is None:
            return b"" if last else bytes(BLOCK_BYTES)
        try:
            return self._raw(place).ljust(place.length, b"\0")
        except StorageFailed:
            return bytes(place.length)

    def _find(self) -> None:
        """Find out where the blocks are."""
        self._leave()
        self._places, self._unreadable = {}, set()
        for pack in self._packs():
            try:
                places = self._read_index(pack)
                if self._writable:
                    self._require_length(pack, places)
                self._places |= places
            except CollectionDamaged as error:
                # The backups that need it are refused, the others restore; its blocks are written again when needed.
                _log.warning("%s", error)
                self._unreadable.add(pack)
            except StorageFailed as error:
                if error.errno != errno.ENOENT:  # removed meanwhile: what is needed of it is in a newer one
                    raise

    def _require_length(self, pack: int, places: Mapping[bytes, Place]) -> None:
        path = self._path(pack)
        expected = sum(place.length for place in places.values())
        with storage_errors(path, "read"):
            length = path.stat().st_size if path.exists() else 0
        if length != expected:
            raise CollectionDamaged(
                f"{path} has {length} bytes, not {expected}: backups that need what is gone cannot be restored; what "
                "new ones need of it is written again"
            )

    def _require_version(self) -> None:
        path = self.root / _MARKER
        with storage_errors(path, "read"), open(path, "rb") as file:
            content = file.read(100)
        marked = _MARKED.fullmatch(content)
        if marked is not None and int(marked[1]) > 1:
            raise UnsupportedFormat(
                f"{self.root} holds backups of version {int(marked[1])}, and this Recollect reads up to 1; upgrade "
                "with: pip install --upgrade recollect"
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
                (self.root / name).mkdir(exist_ok=True)
            sync_directory(self.root)
            # Every time: one that was killed may have left a folder whose name is not durable.
            sync_directory(self.root.parent)

    def _is_blank(self) -> bool:
        """Say whether nothing is there but what a first backup leaves that was killed."""
        return self.root.is_dir() and all(entry.name == f"{_MARKER}.new" for entry in self.root.iterdir())

    def _path(self, pack: int) -> Path:
        return self.root / "packs" / f"{pack:06d}.pack"

    def _path_of(self, number: int) -> Path:
        return self.root / "states" / f"{number:06d}.json"

    def _packs(self) -> list[int]:
        return sorted(_numbers(self.root / "packs", ".index"))

    def _new_pack(self) -> _Pack:
        # Beyond those that are lost, too: of two places of a block the later one counts.
        number = max([0, *_numbers(self.root / "packs", ".pack"), *self._packs()]) + 1
        return _Pack(self._path(number), number)

    def _read_index(self, pack: int) -> dict[bytes, Place]:
        content = _read_sealed(self._path(pack).with_suffix(".index"))
        entries = np.frombuffer(content, dtype=_ENTRY)
        return {bytes(digest): Place(pack, int(offset), int(length)) for digest, offset, length in entries.tolist()}

    def _read_state(self, number: int) -> State:
        path = self._path_of(number)
        try:
            content = orjson.loads(_read_sealed(path))
            files = {name: bytes.fromhex(blocks) for name, blocks in content["files"].items()}
            return State(number, content["time"], content["facts"], files)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CollectionDamaged(f"{path} cannot be read ({error}); restore another backup") from None


class _Pack:
    """A pack being written: nothing is there under its name before all of it is durable."""

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self._number = number
        self._fresh = path.with_name(path.name + ".new")
        self._entries: dict[bytes, tuple[int, int]] = {}
        self.bytes = 0

    def __enter__(self) -> Self:
        with storage_errors(self._fresh, "create"):
            self._file = open(create_file(self._fresh), "wb")  # closed by __exit__
        return self

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    def add(self, digest: bytes, block: bytes) -> None:
        """Append a block."""
        with storage_errors(self._path, "write"):
            self._file.write(block)
        self._entries[digest] = (self.bytes, len(block))
        self.bytes += len(block)

    def places(self) -> dict[bytes, Place]:
        """Return where its blocks are."""
        return {digest: Place(self._number, *where) for digest, where in self._entries.items()}

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self._entries:
                with storage_errors(self._path, "write"):
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._fresh.rename(self._path)
                    sync_directory(self._path.parent)
                entries = [(digest, offset, length) for digest, (offset, length) in self._entries.items()]
                _write_sealed(self._path.with_suffix(".index"), np.array(entries, dtype=_ENTRY).tobytes())
        finally:
            self._file.close()
            self._fresh.unlink(missing_ok=True)


def _numbers(folder: Path, suffix: str) -> list[int]:
    with storage_errors(folder, "read"):
        names = [_NUMBERED.fullmatch(path.name) for path in folder.iterdir()]
    return [int(match[1]) for match in names if match is not None and match[2] == suffix]


def _to_json(state: State) -> bytes:
    files = {name: blocks.hex() for name, blocks in state.files.items()}
    return orjson.dumps({"time": state.time, "facts": dict(state.facts), "files": files})


def _split(blocks: bytes) -> Iterator[bytes]:
    return (blocks[start : start + _DIGEST] for start in range(0, len(blocks), _DIGEST))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _write_sealed(path: Path, content: bytes) -> None:
    """Write a small file behind its own digest, durably."""
    write_atomically(path, _digest(content) + content)


def _read_sealed(path: Path) -> bytes:
    with storage_errors(path, "read"):
        found = path.read_bytes()
    seal, content = found[:_DIGEST], found[_DIGEST:]
    if _digest(content) != seal:
        raise CollectionDamaged(f"{path} is damaged: its checksum does not hold; restore another backup")
    return content
