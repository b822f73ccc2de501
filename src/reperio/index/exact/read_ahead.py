"""Ask the system for the pages of rows before they are read, where they come from the disk."""

from __future__ import annotations

import mmap
import resource
import threading
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
_IN_MEMORY = 100  # reads in a row without the disk, after which a file is taken to be in memory
_SECONDS_PER_ROW = 10e-6  # rows in memory take up to 3 µs each


class ReadAhead:
    """Asks for the pages of rows before they are read, while the rows of this file come from the disk.

    A page that is not in memory is read when it is touched, together with its neighbours, and the next one only
    afterwards. Pages that were asked for are read at the same time: 120 rows of 2 kB took 5 ms instead of a second
    (docs/decisions/0017-mapped-indexes.md). Rows that are in memory are asked for in vain, at 2 µs each. So asking
    begins with a read that had the system read from the disk, and ends when a hundred in a row did not: of a file that
    does not fit in memory one search in ten may find all it needs. Of a file that was just opened, one is enough. For
    any number of threads.

    Rejected: `MADV_RANDOM`, which reads no neighbours, but still one page after the other.
    """

    def __init__(self) -> None:
        self.is_due = _ADVISES  # nothing is known of a file that was just opened
        self._left = 1  # reads without the disk until asking ends
        self._thread = _Thread()

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
        """Learn from how long this thread took to read so many rows."""
        # Time alone does not tell: next to other threads, a read that waited for Python's lock is slow as well.
        if seconds > LEAST_SECONDS + _SECONDS_PER_ROW * rows and self._thread.has_read():
            self.is_due, self._left = _ADVISES, _IN_MEMORY
        elif self.is_due:
            self._left -= 1
            self.is_due = self._left > 0


class _Thread(threading.local):
    """The blocks that a thread had the system read from disks when it last looked."""

    blocks = 0

    def has_read(self) -> bool:
        """Say whether the thread has read from a disk since it was asked before; true where the system cannot tell."""
        before, self.blocks = self.blocks, resource.getrusage(_OF_THREAD).ru_inblock if _OF_THREAD else -1
        return self.blocks != before or not _OF_THREAD


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
_OF_THREAD = getattr(resource, "RUSAGE_THREAD", None)  # macOS knows of whole processes alone
