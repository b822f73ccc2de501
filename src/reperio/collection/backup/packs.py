"""Store blocks by their content, in packs.

A block is known by the BLAKE2b of its content, so that what did not change is not written again, whatever changed
around it: the pages of a database, rows that were appended, a file that a new generation has in common with the old.
A pack without an index is ignored. A process that writes or removes packs holds the repository's lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from typing_extensions import Self

from reperio.errors import CollectionDamaged, CollectionNotFound, StorageFailed
from reperio.layout import (
    create_file,
    is_directory,
    is_there,
    open_regular,
    read_regular,
    storage_errors,
    sync_directory,
    write_atomically,
)
from reperio.printable import logger

_BLOCK_BYTES = 32_768  # four pages of the database; a backup's file takes 20 bytes for each
_log = logger("reperio.collection")
_LAST_OFFSET = 1 << 62  # no file system and no system call goes beyond it
_DIGEST = 20
_ENTRY = np.dtype([("digest", f"V{_DIGEST}"), ("offset", "<u8"), ("length", "<u4")])
_NUMBERED = re.compile(r"([0-9]{6}|[1-9][0-9]{6,17})(\.pack|\.index|\.json)")
_UNFINISHED = re.compile(rf"{_NUMBERED.pattern}\.new")
_SEALED_BYTES = 1 << 31  # the file of a backup of 1.6 TB, or the index of a pack of 2 TB
_LITTLE = 1 << 26  # bytes that any backup may take
_REPEATED = (
    200  # at most so many bytes of a row's vector come with each byte of its own in the database: id, checksum, words
)
_USED = 0.5  # share of a pack's bytes in use, below which it is written again


class _Place(NamedTuple):
    """The place of a block in a pack."""

    pack: int
    offset: int
    length: int


class Packs:
    """The packs of a repository; `find` before anything else.

    Args:
        folder: where they are.
        writable: the caller holds the lock.
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self._folder = folder
        self._writable = writable
        self._places: dict[bytes, _Place] = {}
        self._unreadable: set[int] = set()
        self._sound: set[bytes] = set()
        self._pack: tuple[int, int] | None = None  # number and descriptor of the one read last

    def close(self) -> None:
        """Close the pack that was read last."""
        if self._pack is not None:
            descriptor, self._pack = self._pack[1], None
            os.close(descriptor)

    def find(self) -> None:
        """Find out where the blocks are."""
        self.close()
        self._places, self._unreadable = {}, set()
        for pack in self._numbers():
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

    def write(self, files: Mapping[str, tuple[Path, int]]) -> tuple[dict[str, bytes], int]:
        """Write what is not there yet, durably; return the digests of each file's blocks, and how many bytes were new.

        Args:
            files: by name, the file and how many of its bytes count.
        """
        with self._new_pack() as pack:
            digests = {name: self._write_file(pack, path, length) for name, (path, length) in files.items()}
        self._places |= pack.places()
        return digests, pack.bytes

    def read(self, digest: bytes, what: str, needed_by: Path) -> bytes:
        """Read a block, even if another backup has moved it meanwhile.

        Args:
            digest: of the block.
            what: needs it, for messages.
            needed_by: the file of that state, which is there for as long as its blocks are.

        Raises:
            CollectionDamaged: it is missing or not what was written.
            CollectionNotFound: what needs it was removed meanwhile.
        """
        while True:
            place = self._places.get(digest)
            try:
                if place is not None:
                    return self._read(digest, place, what)
            except StorageFailed as error:
                if error.errno != errno.ENOENT:
                    raise
            if not needed_by.exists():
                raise CollectionNotFound(f"{what} was removed meanwhile, by a backup with keep=; restore another")
            self.find()
            if self._places.get(digest) == place:
                raise CollectionDamaged(f"{what}: a block is missing from packs/; restore another backup")

    def require_plausible(self, files: Iterable[bytes], expected: int, what: str) -> None:
        """Raise `CollectionDamaged` where files of blocks would take more room than was declared, or than is likely.

        A block may be in a file many times, as equal vectors are; next to each of these the
        database holds what differs. A state of a megabyte that names one block over and over would fill the disk.

        Args:
            files: the digests of the blocks of each.
            expected: bytes that they have together, by what the backup says of itself.
            what: needs them, for messages.
        """
        lists = [split(blocks) for blocks in files]
        least = sum(max(0, len(digests) - 1) * _BLOCK_BYTES for digests in lists)
        there = _BLOCK_BYTES * len({digest for digests in lists for digest in digests} & self._places.keys())
        if least > expected or least > _LITTLE + _REPEATED * there:
            raise CollectionDamaged(
                f"{what} would take {least:,} bytes or more; it says {expected:,}, and {there:,} of it are different"
            )

    def remains(self, digest: bytes, *, last: bool) -> bytes:
        """Return what there is of a damaged block, at its length; of the last one of a file that may be unknown."""
        place = self._places.get(digest)
        if place is None:
            return b"" if last else bytes(_BLOCK_BYTES)
        try:
            return self._raw(place).ljust(place.length, b"\0")
        except StorageFailed:
            return bytes(place.length)

    def damaged(self, digests: Iterable[bytes], what: str, needed_by: Path) -> list[CollectionDamaged]:
        """Compare blocks with their digests, each once; return an error per block that is not whole. See `read`."""
        found: list[CollectionDamaged] = []
        for digest in set(digests) - self._sound:
            try:
                self.read(digest, what, needed_by)
                self._sound.add(digest)
            except CollectionDamaged as error:
                found.append(error)
        return sorted(found, key=str)

    def forget(self, needed: set[bytes] | None) -> None:
        """Remove the blocks that are not *needed*, or none if that is unknown, and what killed backups have left."""
        with storage_errors(self._folder, "write"):
            if needed is not None:
                for pack in self._numbers():
                    if pack not in self._unreadable:
                        self._tidy(pack, needed)
                    elif needed <= self._places.keys():  # else it may be the only copy of what is not there
                        self._drop(pack)
            for path in list(self._folder.iterdir()):  # what killed backups have left: the lock is held
                lone = _is_numbered(path, ".pack") and not is_there(path.with_suffix(".index"))
                if lone or _UNFINISHED.fullmatch(path.name):
                    remove_file(path)

    def _tidy(self, pack: int, needed: set[bytes]) -> None:
        """Remove a pack that nothing needs; write a pack again of which little is needed."""
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
        remove_file(self._path(pack).with_suffix(".index"))
        remove_file(self._path(pack))
        sync_directory(self._folder)

    def _write_file(self, pack: _Pack, path: Path, length: int) -> bytes:
        digests: list[bytes] = []
        with storage_errors(path, "read"), open(open_regular(path), "rb") as file:
            left = length
            while left:
                block = file.read(min(_BLOCK_BYTES, left))
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

    def _read(self, digest: bytes, place: _Place, what: str) -> bytes:
        block = self._raw(place)
        if _digest(block) != digest:
            raise CollectionDamaged(
                f"{what}: {self._path(place.pack)} is damaged at byte {place.offset}; restore another backup, or copy "
                "the pack from where it is whole"
            )
        return block

    def _raw(self, place: _Place) -> bytes:
        """Read the bytes at the place of a block; the pack is left open for the next one."""
        path = self._path(place.pack)
        with storage_errors(path, "read"):
            if self._pack is None or self._pack[0] != place.pack:
                self.close()
                self._pack = (place.pack, open_regular(path))
            return os.pread(self._pack[1], place.length, place.offset)

    def _require_length(self, pack: int, places: Mapping[bytes, _Place]) -> None:
        path = self._path(pack)
        expected = sum(place.length for place in places.values())
        with storage_errors(path, "read"):
            length = path.lstat().st_size if is_there(path) else 0
        if length != expected:
            raise CollectionDamaged(
                f"{path} has {length} bytes, not {expected}: backups that need what is gone cannot be restored; what "
                "new ones need of it is written again"
            )

    def _path(self, pack: int) -> Path:
        return self._folder / f"{pack:06d}.pack"

    def _numbers(self) -> list[int]:
        return sorted(numbers(self._folder, ".index"))

    def _new_pack(self) -> _Pack:
        # Beyond those that are lost, too: of two places of a block the later one counts.
        number = max([0, *numbers(self._folder, ".pack"), *self._numbers()]) + 1
        return _Pack(self._path(number), number)

    def _read_index(self, pack: int) -> dict[bytes, _Place]:
        path = self._path(pack).with_suffix(".index")
        content = read_sealed(path)
        if len(content) % _ENTRY.itemsize:
            raise CollectionDamaged(f"{path} is no index of a pack; restore another backup")
        entries = np.frombuffer(content, dtype=_ENTRY)
        if (entries["length"] > _BLOCK_BYTES).any() or (entries["offset"] > _LAST_OFFSET).any():
            raise CollectionDamaged(f"{path} names blocks that no pack has; restore another backup")
        return {bytes(digest): _Place(pack, int(offset), int(length)) for digest, offset, length in entries.tolist()}


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

    def places(self) -> dict[bytes, _Place]:
        """Return where its blocks are."""
        return {digest: _Place(self._number, *where) for digest, where in self._entries.items()}

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self._entries:
                with storage_errors(self._path, "write"):
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._fresh.rename(self._path)
                    sync_directory(self._path.parent)
                entries = [(digest, offset, length) for digest, (offset, length) in self._entries.items()]
                write_sealed(self._path.with_suffix(".index"), np.array(entries, dtype=_ENTRY).tobytes())
        finally:
            self._file.close()
            self._fresh.unlink(missing_ok=True)


def split(blocks: bytes) -> list[bytes]:
    """Return the digests of a file's blocks, in order."""
    return [blocks[start : start + _DIGEST] for start in range(0, len(blocks), _DIGEST)]


def numbers(folder: Path, suffix: str) -> list[int]:
    """Return the numbers of the files in a folder that have one for their name."""
    with storage_errors(folder, "read"):
        return [int(path.name[: -len(suffix)]) for path in folder.iterdir() if _is_numbered(path, suffix)]


def _is_numbered(path: Path, suffix: str) -> bool:
    match = _NUMBERED.fullmatch(path.name)
    return match is not None and match[2] == suffix


def remove_file(path: Path) -> None:
    """Remove a file or a link; a directory by its name is a stranger's, and stays."""
    if not is_directory(path):
        path.unlink(missing_ok=True)


def write_sealed(path: Path, content: bytes) -> None:
    """Write a small file behind its own digest, durably."""
    write_atomically(path, _digest(content) + content)


def read_sealed(path: Path) -> bytes:
    """Return what `write_sealed` has written.

    Raises:
        CollectionDamaged: it is not that.
        StorageFailed: it cannot be read, or is no regular file.
    """
    found = read_regular(path, _SEALED_BYTES)
    seal, content = found[:_DIGEST], found[_DIGEST:]
    if _digest(content) != seal:
        raise CollectionDamaged(f"{path} is damaged: its checksum does not hold; restore another backup")
    return content


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
