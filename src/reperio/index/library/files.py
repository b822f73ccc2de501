"""An index as a file: written whole and hashed on the way, verified before FAISS reads a byte of it."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from reperio.errors import StorageFailed
from reperio.index.library.loading import ALLOWED_TYPES, innermost, load_faiss, type_names
from reperio.layout import create_file, open_regular, reason, storage_errors, sync_directory

_BLOCK = 1 << 20
_ON_DISK = b"ilod"  # how FAISS marks inverted lists that are kept in another file
_HEAD = 28  # bytes from there on: the mark, the number of lists, the size of a code, the length of the table
_ENTRY = 24  # bytes per list in that table


class FileUnusable(Exception):
    """An index file is missing or not what was recorded. Internal: an index is disposable, the caller rebuilds."""


class Written(NamedTuple):
    """The stored description of an index file."""

    sha256: str  # of the file, hexadecimal
    bytes: int  # its length


class _HashingFile:
    """Counts and hashes what FAISS writes; a short or failed write raises here, where FAISS may not notice."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> None:
        rest = memoryview(data)
        self._hash.update(rest)
        self.bytes += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_file(index: Any, path: Path) -> Written:
    """Write an index, durably, under a new name that becomes *path* when all of it is on disk.

    Raises:
        StorageFailed: the disk is full, say; nothing is left behind, and a file at *path* is as it was.
    """
    faiss = load_faiss()
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        try:
            descriptor = create_file(fresh)
            try:
                file = _HashingFile(descriptor)
                # faiss.write_index(path) may report success on a full disk; this writer raises.
                faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, _BLOCK))
                os.fsync(descriptor)
                if os.fstat(descriptor).st_size != file.bytes:
                    raise StorageFailed(f"cannot write {path}: it came out shorter than what was written")
            finally:
                os.close(descriptor)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_directory(path.parent)
    return Written(file.sha256, file.bytes)


def verify_file(path: Path, written: Written, *, faiss: bool = True) -> None:
    """Raise `FileUnusable` unless the file is the one recorded, to the byte, and names no other file.

    Args:
        path: of the file.
        written: what was recorded.
        faiss: False for a file of another library, which knows no names of files.
    """
    digest = hashlib.sha256()
    try:
        with open(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != written.bytes:
                raise FileUnusable(f"{path} holds {size} bytes, {written.bytes} were written")
            blocks = _hashed(blocks_of(file), digest)
            elsewhere = names_a_file(blocks, size) if faiss else any(False for _ in blocks)
    except OSError as error:
        raise FileUnusable(f"{path}: {reason(error)}") from error
    if digest.hexdigest() != written.sha256:
        raise FileUnusable(f"{path} is damaged: its SHA-256 is not the one recorded")
    if elsewhere:
        raise FileUnusable(f"{path} says that its lists are in another file, which is not read here")


def hash_file(path: Path) -> Written:
    """Return what a file of ours holds; any `OSError` is the caller's."""
    digest = hashlib.sha256()
    with open(open_regular(path), "rb") as file:
        size = sum(len(block) for block in _hashed(blocks_of(file), digest))
    return Written(digest.hexdigest(), size)


def _hashed(blocks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for block in blocks:
        digest.update(block)
        yield block


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file block by block."""
    while block := file.read(_BLOCK):
        yield block


def names_a_file(blocks: Iterable[bytes], size: int) -> bool:
    """Say whether FAISS, reading these blocks, could open another file; read them to their end."""
    # FAISS opens the file of inverted lists kept on disk while it reads, before its types can be looked at. What it
    # goes by is `_ON_DISK`, however deep in the index: so all bytes are searched for it. The same four bytes among
    # vectors or codes are told apart by what would follow: a table of `_ENTRY` bytes per list, which the rest of the
    # file must hold.
    found, end, left = False, b"", size  # the end of the block before; bytes of the file from this block on
    for block in blocks:
        seam = end + block[: _HEAD - 1]
        found = found or _has_table(seam, left + len(end)) or _has_table(block, left)
        end, left = (end + block[1 - _HEAD :])[1 - _HEAD :], left - len(block)
    return found


def _has_table(window: bytes, left: int) -> bool:
    """Say whether *window*, from which on the file has *left* bytes, holds the beginning of lists kept on disk."""
    place = window.find(_ON_DISK) if _holds_mark(window) else -1
    while place >= 0:
        if place + _HEAD <= len(window):
            (count,) = struct.unpack_from("<Q", window, place + _HEAD - 8)
            if count * _ENTRY <= left - place - _HEAD:
                return True
        place = window.find(_ON_DISK, place + 1)
    return False


def _holds_mark(window: bytes) -> bool:
    """Say whether *window* holds `_ON_DISK`: four bytes at a time, in a third of the time that bytes.find takes."""
    mark = np.frombuffer(_ON_DISK, dtype=np.uint32)
    width = len(_ON_DISK)
    return any(
        bool((np.frombuffer(window, dtype=np.uint32, count=(len(window) - first) // width, offset=first) == mark).any())
        for first in range(min(width, len(window) - width + 1))
    )


def read_file(path: Path, written: Written) -> Any:
    """Verify and load an index of the allowed types. Dimension, rows and metric are the caller's to compare.

    Raises:
        FileUnusable: missing, damaged, or no index that is read here.
    """
    verify_file(path, written)
    faiss = load_faiss()
    # The checksum has vouched for the bytes; the limits are the second fence, against a forged record.
    faiss.set_deserialization_vector_byte_limit(max(written.bytes, 1 << 20))
    faiss.set_deserialization_loop_limit(1 << 31)
    try:
        # The table that an IVFPQ computes of its centroids may be larger than the file, and counts against the limit.
        index = faiss.read_index(str(path), faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
    except RuntimeError as error:
        raise FileUnusable(f"{path}: FAISS cannot read it ({error})") from error
    strange = [name for name in type_names(index) if name not in ALLOWED_TYPES]
    if strange:
        raise FileUnusable(f"{path} holds a FAISS {strange[0]}, which is not read here")
    _precompute(index)
    return index


def _precompute(index: Any) -> None:
    """Compute the table that was left out while reading, bounded by FAISS (`precomputed_table_max_bytes`, 2 GiB)."""
    inner = innermost(index)
    if type(inner).__name__ == "IndexIVFPQ":
        inner.use_precomputed_table = 0  # decide again
        inner.precompute_table()
