"""Rows that come from the disk are asked for together, before they are read."""

from __future__ import annotations

import mmap
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.index import ReadAhead
from reperio.store.vector_file import map_rows

_ROWS, _DIMENSION = 40_000, 1024  # 80 MiB of float16: reading ahead by itself does not reach all of it
_PICKED = 200


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


def test_rows_that_were_asked_for_are_not_read_one_by_one(cold_file: Path) -> None:
    """Reading rows from the disk waits for a page of its own seldom, where all were asked for before."""
    rows = np.random.default_rng(0).permutation(_ROWS)[:_PICKED]
    waited = []
    for asked in (False, True):
        _drop(cold_file)
        matrix = map_rows(cold_file, _ROWS, _DIMENSION, "float16")
        before = _faults()
        if asked:
            ReadAhead().ask(matrix, rows)
        matrix.take(rows, axis=0)
        waited.append(_faults() - before)
    assert waited[1] < waited[0] / 4


def test_asking_ends_with_a_quick_read_and_begins_with_a_slow_one() -> None:
    """What is in memory is not asked for: that would cost more than reading it."""
    ahead = ReadAhead()
    assert ahead.is_due
    ahead.note(50e-6, 10)
    assert not ahead.is_due
    ahead.note(1.0, 10)
    assert ahead.is_due


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
