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

from recollect.errors import CollectionDamaged, CollectionNotFound, NotACollection
from recollect.layout import (
    WriterLock,
    create_file,
    require_path,
    storage_errors,
    sync_directory,
    write_atomically,
)

BLOCK_BYTES = 32_768
"""Four pages of the database; a state takes 20 bytes for each."""

_log = logging.getLogger("recollect.collection")
_MARKER, _MARK = "recollect-backups", b"recollect backups, version 1\n"
_DIGEST = 20
_ENTRY = np.dtype([("digest", f"V{_DIGEST}"), ("offset", "<u8"), ("length", "<u4")])
_STATE = re.compile(r"(\d{6,})\.json")
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
        CollectionLocked: another backup is being written there.

    """

    def __init__(self, root: Path, *, writable: bool) -> None:
        self.root = root
        self._lock: WriterLock | None = None
        if writable:
            self._make()
            self._lock = WriterLock(root / "LOCK")
        elif not is_repository(root) or not (root / "states").is_dir():  # of a first backup that was killed
            raise CollectionNotFound(f"there are no incremental backups at {root}")
        self._places: dict[bytes, Place] = {}
        self._unreadable: set[int] = set()
        for pack in self._packs():
            try:
                self._places |= self._read_index(pack)
            except CollectionDamaged as error:
                # The backups that need it are refused, the others restore; its blocks are written again when needed.
                _log.warning("%s", error)
                self._unreadable.add(pack)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()

    def states(self) -> list[State]:
        """Return the backups, oldest first.

        Raises:
            CollectionDamaged: the description of one cannot be read.

        """
        names = [match for path in (self.root / "states").iterdir() if (match := _STATE.fullmatch(path.name))]
        return [self._read_state(int(match[1])) for match in sorted(names, key=lambda match: int(match[1]))]

    def write(self, files: Mapping[str, tuple[Path, int]], facts: Mapping[str, Any], time: str) -> tuple[State, int]:
        """Write a backup, durably; return it and how many bytes were new.

        Args:
            files: by name in the backup, the file and how many of its bytes count.
            facts: kept with it.
            time: UTC, ISO 8601.

        """
        number = max([0, *_numbers(self.root / "states", "*.json")]) + 1
        with self._new_pack() as pack:
            kept = {name: self._write_file(pack, path, length) for name, (path, length) in files.items()}
        self._places |= pack.places()
        state = State(number, time, facts, kept)
        _write_sealed(self.root / "states" / f"{number:06d}.json", _to_json(state))
        return state, pack.bytes

    def restore(self, state: State, name: str, target: Path) -> None:
        """Write a file of a backup, durably; each block is compared with its digest.

        Raises:
            CollectionDamaged: a block is missing or not what was written. The target is not whole.

        """
        with storage_errors(target, "write"), open(target, "xb") as file:
            for digest in _split(state.files[name]):
                file.write(self._block(digest, state))
            file.flush()
            os.fsync(file.fileno())

    def forget(self, keep: int) -> list[int]:
        """Remove all but the newest backups, then the blocks that no other needs; return the numbers removed.

        A state goes before its blocks: killed in between, this leaves blocks for the next to remove, never a state
        without them.
        """
        states = self.states()
        gone, stay = states[:-keep], states[-keep:]
        for state in gone:
            (self.root / "states" / f"{state.number:06d}.json").unlink()
        sync_directory(self.root / "states")
        needed = {digest for state in stay for digest in state.digests()}
        for pack in self._packs():
            if pack not in self._unreadable:  # what is in it is not known: it may be the only copy
                self._tidy(pack, needed)
        for path in (self.root / "packs").iterdir():  # what killed backups have left: the lock is held
            if path.suffix == ".new" or (path.suffix == ".pack" and not path.with_suffix(".index").exists()):
                path.unlink()
        return [state.number for state in gone]

    def _tidy(self, pack: int, needed: set[bytes]) -> None:
        """Remove a pack that nothing needs; write one anew of which little is needed."""
        held = {digest: place for digest, place in self._places.items() if place.pack == pack}
        used = {digest: place for digest, place in held.items() if digest in needed}
        size, wanted = (sum(place.length for place in places.values()) for places in (held, used))
        if used and wanted >= _USED * size:
            return
        if used:
            with self._new_pack() as fresh:
                for digest, place in used.items():
                    fresh.add(digest, self._read(digest, place, "a backup"))
            self._places |= fresh.places()
        for digest in held.keys() - used.keys():
            del self._places[digest]
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
                if digest not in self._places and digest not in pack:
                    pack.add(digest, block)
                digests.append(digest)
        return b"".join(digests)

    def _block(self, digest: bytes, state: State) -> bytes:
        what = f"backup {state.number} of {self.root}"
        place = self._places.get(digest)
        if place is None:
            raise CollectionDamaged(f"{what}: a block is missing from packs/; restore another backup")
        return self._read(digest, place, what)

    def _read(self, digest: bytes, place: Place, what: str) -> bytes:
        path = self._path(place.pack)
        with storage_errors(path, "read"), open(path, "rb") as file:
            block = os.pread(file.fileno(), place.length, place.offset)
        if _digest(block) != digest:
            raise CollectionDamaged(
                f"{what}: {path} is damaged at byte {place.offset}; restore another backup, or copy the pack from "
                "where it is whole"
            )
        return block

    def _make(self) -> None:
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

    def _packs(self) -> list[int]:
        return sorted(_numbers(self.root / "packs", "*.index"))

    def _new_pack(self) -> _Pack:
        number = max([0, *_numbers(self.root / "packs", "*.pack")]) + 1
        return _Pack(self._path(number), number)

    def _read_index(self, pack: int) -> dict[bytes, Place]:
        content = _read_sealed(self._path(pack).with_suffix(".index"))
        entries = np.frombuffer(content, dtype=_ENTRY)
        return {bytes(digest): Place(pack, int(offset), int(length)) for digest, offset, length in entries.tolist()}

    def _read_state(self, number: int) -> State:
        path = self.root / "states" / f"{number:06d}.json"
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


def _numbers(folder: Path, pattern: str) -> list[int]:
    return [int(path.stem) for path in folder.glob(pattern) if path.stem.isdecimal()]


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
