"""Ask the system for the pages of rows before they are read, where they come from the disk."""

from __future__ import annotations

import mmap
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reperio.index.library.advice import will_need
from reperio.types import Rows
from reperio.vectors import StoredMatrix, mapping_of

_MOST_ROWS = 4096  # asked for at once: of more, so many lie together that the kernel's own reading ahead serves
LEAST_SECONDS = 100e-6
"""A read that takes no longer has waited for no disk: one page of a fast one takes 80 µs."""
_SECONDS_PER_ROW = 10e-6  # rows in memory take up to 3 µs each
_IN_MEMORY = 100  # reads in a row without the disk, after which a file is taken to be in memory
_TELLING = 16  # one of so many rows tells whether the others are in memory
_WHOSE = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # macOS knows of whole processes alone


class ReadAhead:
    """Asks for the pages of rows before they are read, while the rows of this file come from the disk.

    A page that is not in memory is read when it is touched, together with its neighbours, and the next one only
    afterwards. Pages that were asked for are read at the same time: 120 rows of 2 kB took 5 ms instead of a second
    (docs/decisions/0017-mapped-indexes.md). Rows that are in memory are asked for in vain, at 2 µs each. So asking
    begins with a read that was slow and went to the disk, and ends when a hundred in a row did not go there: of a file
    that does not fit in memory one search in ten may find all it needs. Of a file that was just opened, one is enough.
    For any number of threads.

    Rejected: `MADV_RANDOM`, which reads no neighbours, but still one page after the other.
    """

    def __init__(self) -> None:
        self.is_due = True  # nothing is known of a file that was just opened
        self._left = 1  # reads without the disk until asking ends
        self._disk = _Disk()

    @contextmanager
    def reading(self, matrix: StoredMatrix, rows: Rows) -> Iterator[None]:
        """Ask for *rows* of a mapped matrix where that is due; the block reads them."""
        begun = time.perf_counter()
        self.ask(matrix, rows)
        yield
        self.note(time.perf_counter() - begun, len(rows))

    def ask(self, matrix: StoredMatrix, rows: Rows) -> None:
        """Ask for the pages of *rows*, if that is due. It does not wait for them."""
        if not self.is_due or mapping_of(matrix) is None:
            return
        self._disk.begin()
        starts = matrix.ctypes.data + rows[:_MOST_ROWS] * matrix.strides[0]
        will_need(starts.tolist(), matrix.shape[1] * matrix.itemsize)

    def note(self, seconds: float, rows: int) -> None:
        """Learn from a read of so many rows by this thread, and how long it took."""
        # Time alone does not tell: next to other threads, a read that waited for Python's lock is slow as well.
        slow = seconds > LEAST_SECONDS + _SECONDS_PER_ROW * rows
        if (slow or self.is_due) and self._disk.was_read():
            self.is_due, self._left = True, _IN_MEMORY
        elif self.is_due:
            self._left -= 1
            self.is_due = self._left > 0


class _Disk(threading.local):
    """Tells a thread whether it went to a disk since it last looked, for whatever file."""

    def __init__(self) -> None:  # in each thread, when it first looks
        self._count = _count()

    def begin(self) -> None:
        self._count = _count()

    def was_read(self) -> bool:
        before, self._count = self._count, _count()
        return self._count != before


def _count() -> int:
    """Return the blocks that this thread had the system read, and the pages that it waited for."""
    # Some file systems, such as those of FUSE, count no blocks.
    used = resource.getrusage(_WHOSE)
    return used.ru_inblock + used.ru_majflt


def in_blocks(matrix: StoredMatrix, first: int, step: int) -> Iterator[StoredMatrix]:
    """Yield the rows from *first* on, *step* at a time; meanwhile the system reads the next ones from the disk.

    Args:
        matrix: rows of one file, each or every n-th of them; or in memory.
        first: row to begin with.
        step: rows of a block; the last one may have fewer.
    """
    # How far a system reads ahead by itself is a setting, 128 kB at first, which the next page fault then waits for: a
    # disk that is far away is idle while a block is worked on. Pages that lie together and are in memory are asked for
    # in vain, at a tenth of a µs per row.
    is_mapped, asked = mapping_of(matrix) is not None, first
    for start in range(first, len(matrix), step):
        wanted = min(len(matrix), start + 2 * step)
        if is_mapped and wanted > asked:
            _ask_for(matrix[asked:wanted])
            asked = wanted
        yield matrix[start : start + step]


def _ask_for(block: StoredMatrix) -> None:
    begin, stride, width = block.ctypes.data, block.strides[0], block.shape[1] * block.itemsize
    if stride - width < mmap.PAGESIZE:
        will_need([begin], (len(block) - 1) * stride + width)
        return
    # There are pages between the rows that nobody reads. To ask for a row takes 4 µs, in vain where it is in memory.
    disk = _Disk()
    for row in range(_TELLING):
        will_need(range(begin + row * stride, begin + len(block) * stride, _TELLING * stride), width)
        if row == 0 and not disk.was_read():
            return
