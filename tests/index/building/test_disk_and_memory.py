"""What a build writes and takes: on a full disk, in a file, in memory."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import pytest

from reperio import Metric
from reperio.index.building import filling
from reperio.index.building.training import build
from reperio.index.library.files import FileUnusable, read_file, verify_file, write_file
from tests.index.building.builds import AT_EVERY_BLOCK, Life, Reports, bytes_of, clustered, flip, interrupt, recipe
from tests.limits import file_size_limit


@pytest.mark.parametrize("limit", [0, 100, 20_000])
def test_a_build_does_not_fail_for_a_full_disk(
    limit: int, small_blocks: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A state that cannot be saved costs one warning; the index is built, and nothing lies about."""
    matrix = clustered(4 * small_blocks, 32)
    with file_size_limit(limit), caplog.at_level(logging.WARNING, "reperio"):
        index = build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, scratch=tmp_path, saving=AT_EVERY_BLOCK)
    assert len(caplog.records) == 1
    assert "the build goes on" in caplog.text
    assert str(tmp_path) in caplog.text
    assert bytes_of(index) == bytes_of(build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1))
    assert list(tmp_path.iterdir()) == []


def test_what_was_saved_before_the_disk_was_full_is_resumed(
    small_blocks: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last state that fitted stays, whole; without the limit the build goes on from there."""
    matrix = clustered(6 * small_blocks, 32)
    with file_size_limit(100_000), caplog.at_level(logging.WARNING, "reperio"):
        interrupt(recipe("IVF8,SQ8"), matrix, Metric.COSINE, tmp_path, 5 * small_blocks)
    assert len(caplog.records) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build-000000002000.faiss", "build.json"]
    reports = Reports()
    build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, progress=reports, scratch=tmp_path)
    assert reports.rows()[0] == 2 * small_blocks


def test_a_directory_that_cannot_be_made_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a file stands in the place of the directory, the build goes on without saving."""
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "reperio"):
        index = build(
            recipe("IVF8,SQ8"), clustered(2000, 32), Metric.COSINE, workers=1, scratch=tmp_path / "file" / "scratch"
        )
    assert index.ntotal == 2000
    assert len(caplog.records) == 1
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_index_file_is_what_was_recorded_or_is_not_read(tmp_path: Path) -> None:
    """Written and read back it is the same; changed, cut, missing or of a strange type it is refused."""
    index = build(recipe("IVF8,SQ8"), clustered(2000, 32), Metric.COSINE, workers=1)
    path = tmp_path / "index"
    written = write_file(index, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    assert written.bytes == path.stat().st_size
    assert bytes_of(read_file(path, written)) == bytes_of(index)
    strange = faiss.IndexLSH(32, 16)
    with pytest.raises(FileUnusable, match="IndexLSH"):
        read_file(tmp_path / "strange", write_file(strange, tmp_path / "strange"))
    flip(path)
    with pytest.raises(FileUnusable, match="damaged"):
        verify_file(path, written)
    os.truncate(path, 10)
    with pytest.raises(FileUnusable, match="holds 10 bytes"):
        read_file(path, written)
    path.unlink()
    with pytest.raises(FileUnusable, match="No such file"):
        read_file(path, written)


def _peak(process: subprocess.Popen[str], peaks: list[int]) -> None:
    """Watch the bytes of a process that no file backs until it ends."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            text = status.read_text(encoding="ascii")
        except OSError:
            return
        if "RssAnon:" in text:
            peaks.append(1024 * int(text.split("RssAnon:")[1].split()[0]))
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("factory", "rows", "dtype", "spare"),
    [
        pytest.param("IVF256,PQ64x4fs", 400_000, np.float32, 0.5, marks=pytest.mark.campaign),
        ("IVF256,PQ64x4fs", 400_000, np.float16, 0.5),
        pytest.param("HNSW32,SQ8", 140_000, np.float32, 0.0, marks=pytest.mark.campaign),
    ],
)
def test_building_takes_the_index_a_sample_and_a_few_blocks(
    factory: str, rows: int, dtype: type, spare: float, tmp_path: Path
) -> None:
    """Beside the mapped file, memory at the peak is bounded by the index, whatever the size of the file.

    Lists have half as much again in spare, since each doubles when it is full. 140,000 rows are a little more than a
    power of two of blocks: the vectors of a graph, if they doubled, would have done so just before.
    """
    dimension, training_rows = 64, 16_384
    mapped = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=dtype, shape=(rows, dimension))
    for start in range(0, rows, 20_000):
        mapped[start : start + 20_000] = clustered(min(20_000, rows - start), dimension, seed=start)
    mapped.flush()
    life = Life(
        tmp_path, matrix=str(tmp_path / "v.npy"), factory=factory, training_rows=training_rows, workers=2,
        metric="cosine", block_rows=None, scratch=str(tmp_path / "scratch"), out=str(tmp_path / "out.faiss"),
    )  # fmt: skip
    assert life.follow(lambda report: report[0] == "begin")
    before, peaks = life.reports[-1][1], list[int]()
    watcher = threading.Thread(target=_peak, args=(life.process, peaks))
    watcher.start()
    life.follow(lambda _: False)
    watcher.join()
    assert life.end() == 0
    assert len(peaks) > 20
    size = (tmp_path / "out.faiss").stat().st_size
    sample, block = training_rows * dimension * 4, filling.BLOCK_ROWS * dimension * 4
    allowed = (1 + spare) * size + 2 * sample + 3 * block
    taken = max(peaks) - before
    assert taken < allowed, f"{taken / 1e6:.1f} MB; {allowed / 1e6:.1f} allowed, index {size / 1e6:.1f}"
