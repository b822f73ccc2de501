"""Rows that come from the disk are asked for together, before they are read."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk
from reperio.index import ReadAhead
from reperio.index.building.sampling import choose_rows, gather
from reperio.index.exact import read_ahead
from reperio.index.exact.read_ahead import in_blocks
from reperio.store.vector_file import map_rows
from reperio.vectors import StoredMatrix

_ROWS, _DIMENSION = 40_000, 1024  # 80 MiB of float16: reading ahead by itself does not reach all of it
_PICKED = 200
_ROWS_OF_A_PAGE = mmap.PAGESIZE // (2 * _DIMENSION)


@pytest.fixture(scope="module")
def cold_file() -> Iterator[Path]:
    """Return a file on a disk, which can be dropped from memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "vectors"
        path.write_bytes(np.zeros((_ROWS, _DIMENSION), dtype=np.float16).tobytes())
        yield path


def _drop(path: Path) -> None:
    """Write a file to the disk and drop its pages from memory; skip where the system keeps them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = _faults()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            _ = mapped[len(mapped) // 2]
        if _faults() == before:
            pytest.skip("this file system keeps files in memory")


def _faults() -> int:
    """Return how often this process has waited for a page that nobody had asked for."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


def _waits(path: Path, read: Callable[[StoredMatrix], object]) -> int:
    """Return how many pages are waited for where all rows of a file come from the disk."""
    _drop(path)  # pages that are still mapped would stay: the mapping ends with this function
    matrix = map_rows(path, _ROWS, _DIMENSION, "float16")
    before = _faults()
    read(matrix)
    return _faults() - before


def test_rows_that_were_asked_for_are_not_read_one_by_one(cold_file: Path) -> None:
    """Reading rows from the disk waits for a page of its own seldom, where all were asked for before."""
    rows = np.random.default_rng(0).permutation(_ROWS)[:_PICKED]

    def ask(matrix: StoredMatrix) -> None:
        ReadAhead().ask(matrix, rows)
        matrix.take(rows, axis=0)

    assert _waits(cold_file, ask) < _waits(cold_file, lambda matrix: matrix.take(rows, axis=0)) / 4


def test_a_sample_is_asked_for(cold_file: Path) -> None:
    """Rows for training that lie far apart are read from the disk together."""
    rows = choose_rows(range(_ROWS), _PICKED)
    assert _waits(cold_file, lambda matrix: gather(matrix, rows)) < _waits(cold_file, lambda matrix: matrix[rows]) / 4


def test_the_next_block_is_read_meanwhile(cold_file: Path) -> None:
    """Whoever has a block and reads nothing of it finds it and the next one in memory soon, and none after that."""
    _drop(cold_file)
    step = 3000
    blocks = in_blocks(map_rows(cold_file, _ROWS, _DIMENSION, "float16"), 0, step)
    assert len(next(blocks)) == step
    _wait_for(slice(2 * step // _ROWS_OF_A_PAGE), cold_file)
    assert not _in_memory(cold_file)[3 * step // _ROWS_OF_A_PAGE]


def _in_memory(path: Path) -> npt.NDArray[np.bool_]:
    """Return which pages of a file are in memory; to ask by `RWF_NOWAIT` would have the others read."""
    size = path.stat().st_size
    vector = np.zeros(-(-size // mmap.PAGESIZE), dtype=np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        start = np.frombuffer(mapped, np.uint8, 1).ctypes.data
        assert libc.mincore(start, size, vector.ctypes.data) == 0
    return (vector & 1).astype(bool)


def _wait_for(pages: slice, path: Path) -> None:
    until = time.monotonic() + 60
    while not _in_memory(path)[pages].all():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_blocks_are_all_rows_in_order(cold_file: Path) -> None:
    """From any row on, in blocks of any size, mapped or not."""
    counted = np.arange(30, dtype=np.float32).reshape(10, 3)
    for step in (1, 3, 10, 99):
        assert np.array_equal(np.concatenate(list(in_blocks(counted, 2, step))), counted[2:])
    matrix = map_rows(cold_file, _ROWS, _DIMENSION, "float16")
    assert not list(in_blocks(matrix, _ROWS, 7))
    assert [len(block) for block in in_blocks(matrix, _ROWS - 5, 3)] == [3, 2]
    for part in (matrix[7::9], matrix[-100:]):
        assert sum(map(len, in_blocks(part, 1, 37))) == len(part) - 1


def test_of_every_hundredth_row_no_other_is_read(cold_file: Path) -> None:
    """Rows that lie far apart are asked for one by one, wherever in the file the first of them is."""
    _drop(cold_file)
    part = map_rows(cold_file, _ROWS, _DIMENSION, "float16")[50:10_000:100]
    assert len(next(in_blocks(part, 0, 99))) == 99
    pages = slice(25, 9_900 // _ROWS_OF_A_PAGE, 50)
    _wait_for(pages, cold_file)
    others = _in_memory(cold_file)[: 9_900 // _ROWS_OF_A_PAGE]
    others[pages] = False
    assert not others.any()


def test_of_rows_in_memory_few_are_asked_for(cold_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows far apart are asked for one by one, which takes longer than reading them: one in sixteen tells."""
    part = map_rows(cold_file, _ROWS, _DIMENSION, "float16")[::50]
    assert np.count_nonzero(part) == 0  # read
    asked: list[int] = []
    monkeypatch.setattr(read_ahead, "will_need", lambda starts, _: asked.extend(starts))
    assert sum(map(len, in_blocks(part, 0, 400))) == 800
    assert len(asked) == 50


def test_asking_begins_with_a_read_from_the_disk_and_ends_with_many_without(cold_file: Path) -> None:
    """Rows in memory are not asked for: that would cost more than reading them. Other waiting is no reason to ask."""
    rows = np.random.default_rng(1).permutation(_ROWS)[:_PICKED]
    ahead = ReadAhead()
    assert ahead.is_due
    ahead.note(50e-6, 10)
    assert not ahead.is_due
    _drop(cold_file)
    matrix = map_rows(cold_file, _ROWS, _DIMENSION, "float16")
    with ahead.reading(matrix, rows):
        matrix.take(rows, axis=0)
    del matrix
    _drop(cold_file)
    ahead.note(50e-6, 10)
    matrix = map_rows(cold_file, _ROWS, _DIMENSION, "float16")
    ahead.ask(matrix, rows)
    ahead.note(50e-6, len(rows))  # from a quick disk
    for _ in range(99):
        assert ahead.is_due
        ahead.note(50e-6, 10)
    assert ahead.is_due
    ahead.note(1.0, 10)  # for Python's lock, say
    assert not ahead.is_due
    ahead.note(1.0, 10)
    assert not ahead.is_due


def test_all_commits_of_a_file_share_what_is_known(tmp_path: Path) -> None:
    """A commit does not make the rows of before come from the disk again."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        kb.add([Chunk("a", "a")], vectors=np.ones((1, 4)))
        kb.search(vector=np.ones(4))
        first = kb._handle.generation.latest
        kb.add([Chunk("b", "b")], vectors=np.ones((1, 4)))
        kb.search(vector=np.ones(4))
        second = kb._handle.generation.latest
        assert first is not None
        assert second is not None
        assert first is not second
        assert first.target.ahead is second.target.ahead


def test_the_last_row_of_a_file_is_asked_for(cold_file: Path) -> None:
    """A row that ends with its file, and a page that begins before a row, are no error."""
    matrix = map_rows(cold_file, _ROWS - 1, _DIMENSION, "float16")
    ReadAhead().ask(matrix, np.array([0, 1, _ROWS - 2]))
    ReadAhead().ask(matrix[:0], np.empty(0, dtype=np.int64))
