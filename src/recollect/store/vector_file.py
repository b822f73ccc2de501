"""The append-only file of vectors: row r at byte r·d·4, memory-mapped by everyone.

The file is never truncated while it may be mapped (a reader would die of SIGBUS); bytes beyond the committed
mark are garbage that the next append overwrites.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from recollect.errors import CollectionDamaged
from recollect.layout import storage_errors
from recollect.types import FloatMatrix


def append(path: Path, matrix: FloatMatrix, first: int) -> None:
    """Write rows [first, first + n) and make them durable. They count once the database says so."""
    if len(matrix) == 0:
        return
    data = memoryview(matrix).cast("B")  # type: ignore[arg-type]  # an array is a buffer
    offset = first * matrix.shape[1] * matrix.itemsize
    with storage_errors(path, "write"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while data:  # a write may be cut short, e.g. by the last free block of a disk
                written = os.pwrite(descriptor, data, offset)
                data, offset = data[written:], offset + written
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def map_rows(path: Path, rows: int, dimension: int) -> FloatMatrix:
    """Map rows [0, rows) read-only, shape (rows, dimension); nothing is read before it is touched.

    Raises:
        CollectionDamaged: the file is missing or shorter than the database says.

    """
    if rows == 0:
        return np.empty((0, dimension), dtype=np.float32)
    length = rows * dimension * 4
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size >= length:
                # np.memmap would do the same, but each of its slices and gathers is slower by 5× and more.
                mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
                return np.frombuffer(mapped, dtype="<f4").reshape(rows, dimension)
    except FileNotFoundError:
        raise CollectionDamaged(f"{path} is missing; restore from a backup") from None
    raise CollectionDamaged(f"{path} holds {size} bytes, {length} are committed; restore from a backup")
