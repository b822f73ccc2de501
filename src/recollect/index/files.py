"""An index as a file: written whole and hashed on the way, verified before FAISS reads a byte of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from recollect.errors import StorageFailed
from recollect.index.faiss_library import ALLOWED_TYPES, innermost, load_faiss, type_names
from recollect.layout import create_file, storage_errors, sync_directory

_BLOCK = 1 << 20


class FileUnusable(Exception):
    """An index file is missing or not what was recorded. Internal: an index is disposable, the caller rebuilds."""


class Written(NamedTuple):
    """What is to be recorded of an index file.

    Attributes:
        sha256: of the file, hexadecimal.
        bytes: its length.

    """

    sha256: str
    bytes: int


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


def verify_file(path: Path, written: Written) -> None:
    """Raise `FileUnusable` unless the file is the one recorded, to the byte."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != written.bytes:
                raise FileUnusable(f"{path} holds {size} bytes, {written.bytes} were written")
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise FileUnusable(f"{path}: {error.strerror or error}") from error
    if digest.hexdigest() != written.sha256:
        raise FileUnusable(f"{path} is damaged: its SHA-256 is not the one recorded")


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
        inner.use_precomputed_table = 0  # decide anew
        inner.precompute_table()
