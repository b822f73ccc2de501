"""An index as a file: written whole and hashed on the way, verified before FAISS reads a byte of it."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from reperio.errors import StorageFailed
from reperio.index.library.huge_pages import HUGE, populate
from reperio.index.library.loading import innermost, load_faiss, strange_part
from reperio.index.library.mapped import Bytes, forget_pages, index_in, map_file
from reperio.index.library.verified import is_verified, remember, same
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
    """Counts and hashes what FAISS writes; a short or failed write raises here, where FAISS may not notice.

    What it is given goes to the file in pieces of a huge page: so the page cache can keep it (see `huge_pages`).
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self.bytes = 0

    def write(self, data: Any) -> None:
        self._hash.update(data)
        self.bytes += len(data)
        self._pending += data
        while len(self._pending) >= HUGE:
            self._write(bytes(self._pending[:HUGE]))
            del self._pending[:HUGE]

    def finish(self) -> None:
        """Write what is left."""
        self._write(bytes(self._pending))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
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
                file.finish()
                os.fsync(descriptor)
                forget_pages(descriptor)
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
    try:
        with open(open_regular(path), "rb") as file:
            _verify(file, path, written, once=False, faiss=faiss)
    except OSError as error:
        raise FileUnusable(f"{path}: {reason(error)}") from error


def _verify(
    file: BinaryIO, path: Path, written: Written, mapped: Bytes | None = None, *, once: bool, faiss: bool
) -> None:
    """Do what `verify_file` does for an open file.

    Args:
        file, path, written, faiss: see `verify_file`.
        mapped: the file's bytes, where it is mapped.
        once: believe what is remembered of it, and remember it.
    """
    digest = hashlib.sha256()
    before = os.fstat(file.fileno())
    if before.st_size != written.bytes:
        raise FileUnusable(f"{path} holds {before.st_size} bytes, {written.bytes} were written")
    if once and is_verified(before, written.sha256):
        return
    if mapped is not None:
        populate(mapped.ctypes.data, before.st_size)  # all of it is read now: then into huge pages
    blocks = _hashed(blocks_of(file), digest)
    elsewhere = names_a_file(blocks, before.st_size) if faiss else any(False for _ in blocks)
    if digest.hexdigest() != written.sha256:
        raise FileUnusable(f"{path} is damaged: its SHA-256 is not the one recorded")
    if elsewhere:
        raise FileUnusable(f"{path} says that its lists are in another file, which is not read here")
    if once and same(before, os.fstat(file.fileno())):
        remember(before, written.sha256)


@contextmanager
def opened_once_verified(path: Path, written: Written) -> Iterator[str]:
    """Yield a path by which a library reads the very file that was verified, once per machine; it is not one of FAISS.

    Raises:
        FileUnusable: missing or damaged.
    """
    try:
        with open(open_regular(path), "rb") as file:
            _verify(file, path, written, once=True, faiss=False)
            known = Path(f"/proc/self/fd/{file.fileno()}")
            yield str(known if known.exists() else path)
    except OSError as error:
        raise FileUnusable(f"{path}: {reason(error)}") from error


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
    return _checked(path, written, lambda flags: load_faiss().read_index(str(path), flags))


def share_file(path: Path, written: Written) -> Any:
    """Do what `read_file` does for an index that is never changed: verified once per machine, mapped, not copied.

    Raises:
        FileUnusable: as for `read_file`.
    """
    try:
        with open(open_regular(path), "rb") as file:
            view = map_file(file, written.bytes)
            if view is None:
                return read_file(path, written)
            _verify(file, path, written, view, once=True, faiss=True)
    except OSError as error:
        raise FileUnusable(f"{path}: {reason(error)}") from error
    return _checked(path, written, lambda flags: index_in(view, flags))


def _checked(path: Path, written: Written, read: Callable[[int], Any]) -> Any:
    """Return what *read* reads with FAISS's flags, within limits, if it is of the allowed types."""
    faiss = load_faiss()
    # The checksum has vouched for the bytes; the limits are the second fence, against a forged record.
    faiss.set_deserialization_vector_byte_limit(max(written.bytes, 1 << 20))
    faiss.set_deserialization_loop_limit(1 << 31)
    try:
        # The table that an IVFPQ computes of its centroids may be larger than the file, and counts against the limit.
        index = read(faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)
    except RuntimeError as error:
        raise FileUnusable(f"{path}: FAISS cannot read it ({error})") from error
    strange = strange_part(index)
    if strange is not None:
        raise FileUnusable(f"{path} holds {strange}, which is not read here")
    _precompute(index)
    return index


def _precompute(index: Any) -> None:
    """Compute the table that was left out while reading, bounded by FAISS (`precomputed_table_max_bytes`, 2 GiB)."""
    inner = innermost(index)
    if type(inner).__name__ == "IndexIVFPQ":
        inner.use_precomputed_table = 0  # decide again
        inner.precompute_table()
