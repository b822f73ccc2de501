"""Append to and map the file of vectors: row r at byte r·d·4 (float16: r·d·2), memory-mapped by everyone.

The file is never truncated while it may be mapped: a process that touches a removed part dies of SIGBUS, which Python
cannot catch. Others may cut it short all the same, so its size is asked for before it is read. Bytes beyond the
committed mark are garbage that the next append overwrites.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reperio.errors import CollectionDamaged, StorageFailed
from reperio.layout import Dtype, Generation, OpenFile, open_regular, storage_failure
from reperio.store.schema import closed_during
from reperio.vectors import StoredMatrix, mapping_of

_LITTLE_ENDIAN: dict[Dtype, str] = {"float32": "<f4", "float16": "<f2"}


class Appender:
    """Append rows to the file of one generation, which is opened at the first of them and kept open.

    Opening it for each batch took as long as writing three vectors does. In exchange each batch asks whether the path
    still leads to the open file: what is written to a file that was replaced would be lost.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._open: OpenFile | None = None
        self._closed = False

    def append(self, matrix: StoredMatrix, first: int) -> None:
        """Write rows [first, first + n) and make them durable. They count once the database says so.

        Args:
            matrix: the rows, as stored.
            first: number of the first row.

        Raises:
            StorageFailed: the file cannot be opened or written.
            CollectionClosed: after `close`: another process may have the lock.
        """
        if self._closed:
            raise closed_during(self._path)
        if len(matrix) == 0:
            return
        data = _bytes_of(matrix)
        offset = first * matrix.shape[1] * matrix.itemsize
        try:
            held = self._open  # a name of its own: `close`, in a signal handler, leaves the file open for this call
            if held is None or not held.is_at(self._name):
                held = self._open = OpenFile(open_regular(self._path, os.O_WRONLY))
            number = held.number
            while data:  # a write may be cut short, e.g. by the last free block of a disk
                written = os.pwrite(number, data, offset)
                data, offset = data[written:], offset + written
            os.fdatasync(number)
        except StorageFailed:
            raise
        except OSError as error:
            raise storage_failure(error, self._path, "write") from error

    def close(self) -> None:
        """Let go of the file, and append nothing from now on."""
        self._open, self._closed = None, True


def rows_of(matrix: StoredMatrix) -> Iterator[memoryview]:
    """Yield the bytes of each row, not copied: slicing a memoryview costs half of what slicing an array does."""
    data = _bytes_of(matrix)
    width = matrix.shape[1] * matrix.itemsize
    return (data[start : start + width] for start in range(0, len(data), width))


def _bytes_of(matrix: StoredMatrix) -> memoryview:
    # Through uint8, because not every Python's memoryview knows float16.
    return memoryview(matrix.view(np.uint8)).cast("B")  # type: ignore[arg-type]  # an array is a buffer


def bytes_there(path: Path) -> int:
    """Return how many bytes of the file are on the disk, or on their way: holes, which take no room, do not count.

    Raises:
        StorageFailed: it cannot be read.
    """
    descriptor = open_regular(path)
    try:
        size, end, there = os.fstat(descriptor).st_size, 0, 0
        while end < size:
            begin = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
            there += end - begin
    except OSError as error:
        if error.errno != errno.ENXIO:  # which says that nothing but a hole is left
            raise storage_failure(error, path, "read") from error
    finally:
        os.close(descriptor)
    return there


def map_rows(path: Path, rows: int, dimension: int, dtype: Dtype) -> StoredMatrix:
    """Map rows [0, rows) read-only, shape (rows, dimension), as stored; nothing is read before it is touched.

    Raises:
        CollectionDamaged: the file is missing or shorter than the database says.
        StorageFailed: it cannot be opened or mapped.
    """
    if rows == 0:
        return np.empty((0, dimension), dtype=dtype)
    kind = np.dtype(_LITTLE_ENDIAN[dtype])
    length = rows * dimension * kind.itemsize
    try:
        with open(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size >= length:
                # np.memmap would do the same, but each of its slices and gathers is slower by 5× and more.
                mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
                return np.frombuffer(mapped, dtype=kind).reshape(rows, dimension)
    except StorageFailed as error:
        if error.errno != errno.ENOENT:
            raise
        raise CollectionDamaged(f"{path} is missing; restore from a backup") from None
    except OSError as error:
        raise storage_failure(error, path, "read") from error
    raise _too_short(path, size, length)


def require_there(matrix: StoredMatrix, paths: Generation) -> None:
    """Raise `CollectionDamaged` where the file has lost some of what a matrix of `map_rows` was mapped from."""
    mapped = mapping_of(matrix)
    if mapped is not None and mapped.size() < len(mapped):
        raise _too_short(paths.vectors, mapped.size(), len(mapped))  # joined here alone: each session comes by


def _too_short(path: Path, size: int, length: int) -> CollectionDamaged:
    return CollectionDamaged(f"{path} holds {size} bytes, {length} are committed; restore from a backup")
