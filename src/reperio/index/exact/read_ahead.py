"""Ask the system for the pages of rows before they are read, where they come from the disk."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from reperio.types import Rows
from reperio.vectors import StoredMatrix, mapping_of

_MOST_ROWS = 4096  # asked for at once: of more, so many lie together that the kernel's own reading ahead serves
_MOST_BYTES = 1 << 17  # asked for at once: of more, Linux reads no more than the device takes in one request
LEAST_SECONDS = 100e-6
"""A read that takes no longer has waited for no disk: one page of a fast one takes 80 µs."""
_SECONDS_PER_ROW = 10e-6  # rows in memory take up to 3 µs each


class ReadAhead:
    """Asks for the pages of rows before they are read, while the rows of this file come from the disk.

    A page that is not in memory is read when it is touched, together with its neighbours, and the next one only
    afterwards. Pages that were asked for are read at the same time: 120 rows of 2 kB took 5 ms instead of a second
    (docs/decisions/0017-mapped-indexes.md). Rows that are in memory are asked for in vain, at 2 µs each. So asking ends
    with the first read that was quick, and begins with one that was slow. For any number of threads.

    Rejected: `MADV_RANDOM`, which reads no neighbours, but still one page after the other.
    """

    def __init__(self) -> None:
        self.is_due = _ADVISES  # nothing is known of a file that was just opened

    @contextmanager
    def reading(self, matrix: StoredMatrix, rows: Rows) -> Iterator[None]:
        """Ask for *rows* of a mapped matrix where that is due; the block reads them."""
        begun = time.perf_counter()
        self.ask(matrix, rows)
        yield
        self.note(time.perf_counter() - begun, len(rows))

    def ask(self, matrix: StoredMatrix, rows: Rows) -> None:
        """Ask for the pages of *rows*, if that is due. It does not wait for them."""
        mapped = mapping_of(matrix) if self.is_due else None
        if mapped is None:
            return
        width = matrix.shape[1] * matrix.itemsize
        for start in (rows[:_MOST_ROWS] * width).tolist():
            page = start - start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, start + width - page)

    def note(self, seconds: float, rows: int) -> None:
        """Learn from how long it took to read so many rows."""
        self.is_due = _ADVISES and seconds > LEAST_SECONDS + _SECONDS_PER_ROW * rows


def in_blocks(matrix: StoredMatrix, first: int, step: int) -> Iterator[StoredMatrix]:
    """Yield the rows from *first* on, *step* at a time; meanwhile the system reads the next ones from the disk.

    Args:
        matrix: rows of one file, each or every n-th of them; or in memory.
        first: row to begin with.
        step: rows of a block; the last one may have fewer.
    """
    # Without asking, the system reads 128 kB ahead, which the next page fault then waits for: a disk that is far away
    # is idle while a block is worked on. What is in memory already is asked for in vain, at a tenth of a µs per row.
    mapped = mapping_of(matrix) if _ADVISES else None
    asked = first
    for start in range(first, len(matrix), step):
        wanted = min(len(matrix), start + 2 * step)
        if mapped is not None and wanted > asked:
            _ask_for(matrix[asked:wanted], mapped)
            asked = wanted
        yield matrix[start : start + step]


def _ask_for(block: StoredMatrix, mapped: mmap.mmap) -> None:
    begin = block.ctypes.data - np.frombuffer(mapped, np.uint8, 1).ctypes.data
    stride, width = block.strides[0], block.shape[1] * block.itemsize
    if stride - width < mmap.PAGESIZE:
        places = [(begin, begin + (len(block) - 1) * stride + width)]
    else:  # there are pages between the rows that nobody reads
        places = [(begin + row * stride, begin + row * stride + width) for row in range(len(block))]
    for low, high in places:
        for start in range(low - low % mmap.PAGESIZE, high, _MOST_BYTES):
            mapped.madvise(mmap.MADV_WILLNEED, start, min(_MOST_BYTES, high - start))


_ADVISES = hasattr(mmap, "MADV_WILLNEED")  # not on Windows
