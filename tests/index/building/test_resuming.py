"""Going on after a kill or an interrupt, and from nothing else."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from reperio import IndexBuildFailed, Metric
from reperio.index.building.resuming import Saving, discard
from reperio.index.building.training import build
from reperio.index.library.files import write_file
from reperio.index.recipes.goal import Recipe
from tests.index.building.builds import Life, Reports, bytes_of, clustered, flip, interrupt, recipe


@pytest.mark.crash
@pytest.mark.parametrize(
    ("factory", "training_rows", "workers", "rows"),
    [
        ("IVF64,PQ64x4fs", 8192, 2, 24_000),
        pytest.param("IVF64,PQ64x4fs", 16_384, 2, 60_000, marks=pytest.mark.campaign),
        pytest.param("PCA32,HNSW8,SQ8", 8192, 1, 60_000, marks=pytest.mark.campaign),
        pytest.param("PCA32,IVF64_HNSW8,PQ32x4fs", 8192, 2, 60_000, marks=pytest.mark.campaign),
    ],
)
def test_a_build_that_is_killed_goes_on(
    factory: str, training_rows: int, workers: int, rows: int, tmp_path: Path
) -> None:
    """Killed at random moments, started again until done: a block is lost at most, and the bytes are the same."""
    block = 4000
    np.save(tmp_path / "vectors.npy", clustered(rows, 64))
    asked = {
        "matrix": str(tmp_path / "vectors.npy"), "factory": factory, "training_rows": training_rows, "workers": workers,
        "metric": "cosine", "block_rows": block,
    }  # fmt: skip
    straight = Life(tmp_path, **asked, scratch=None, out=str(tmp_path / "straight.faiss"))
    straight.follow(lambda _: False)
    assert straight.end() == 0
    moments = random.Random(factory)
    lives, reached = 0, 0
    while True:
        life = Life(tmp_path, **asked, scratch=str(tmp_path / "scratch"), out=str(tmp_path / "resumed.faiss"))
        lives += 1
        # The first life ends in the training, the others a few blocks further than any before.
        goal = ("train", 0) if lives == 1 else ("index", reached + moments.choice([1, 2]) * block)
        if life.follow(lambda report: (report[0], report[1] >= goal[1]) == (goal[0], True)):  # noqa: B023  # called before the loop goes on
            time.sleep(moments.uniform(0, 0.02))
            life.kill()
        else:
            assert life.end() == 0
        if life.rows():
            assert life.rows()[0] >= reached - block
            reached = max(reached, life.rows()[-1])
        if life.process.returncode == 0:
            break
    assert lives > 3
    assert life.rows()[0] > 0
    assert not any(report[0] == "train" for report in life.reports)
    assert (tmp_path / "resumed.faiss").read_bytes() == (tmp_path / "straight.faiss").read_bytes()
    kept = sorted(path.name for path in (tmp_path / "scratch").iterdir())
    assert kept == [f"build-{rows:012}.faiss", "build.json"]


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("factory", ["IVF8,PQ32x4fs", "HNSW8,Flat", "PCA16,HNSW8,SQ8"])
def test_an_interrupted_build_goes_on_with_the_block_it_lost(
    factory: str, metric: Metric, small_blocks: int, tmp_path: Path
) -> None:
    """The second call begins at the last save, trains nothing, and ends with the same index and an empty directory."""
    matrix = clustered(5 * small_blocks + 3, 32, metric)
    interrupt(recipe(factory), matrix, metric, tmp_path, 3 * small_blocks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build-000000002000.faiss", "build.json"]
    reports = Reports()
    resumed = build(recipe(factory), matrix, metric, workers=1, progress=reports, scratch=tmp_path)
    assert reports.seen[0] == ("index", 2 * small_blocks, len(matrix))
    assert bytes_of(resumed) == bytes_of(build(recipe(factory), matrix, metric, workers=1))
    assert list(tmp_path.iterdir()) == []


def test_a_build_goes_on_over_rows_that_were_added_meanwhile(small_blocks: int, tmp_path: Path) -> None:
    """More rows are no other build, up to twice as many: then the training is out of date."""
    matrix = clustered(8 * small_blocks, 32)
    for rows, start in ((7500, 2000), (8000, 2000), (3999, 0)):
        interrupt(recipe("IVF8,SQ8"), matrix[: 4 * small_blocks], Metric.COSINE, tmp_path, 3 * small_blocks)
        reports = Reports()
        index = build(recipe("IVF8,SQ8"), matrix[:rows], Metric.COSINE, workers=1, progress=reports, scratch=tmp_path)
        assert (reports.rows()[0], index.ntotal) == (start, rows)
    interrupt(recipe("IVF8,SQ8"), matrix[:3999], Metric.COSINE, tmp_path, 3000)
    reports = Reports()
    build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, progress=reports, scratch=tmp_path)
    assert reports.rows()[0] == 0


def test_a_build_that_was_interrupted_twice_with_more_rows_goes_on(small_blocks: int, tmp_path: Path) -> None:
    """A state that holds more rows than it was trained for is as good as any."""
    matrix = clustered(8 * small_blocks, 32)
    interrupt(recipe("IVF8,SQ8"), matrix[: 4 * small_blocks], Metric.COSINE, tmp_path, 2 * small_blocks)
    interrupt(recipe("IVF8,SQ8"), matrix[:7000], Metric.COSINE, tmp_path, 6 * small_blocks)
    reports = Reports()
    build(recipe("IVF8,SQ8"), matrix[:7500], Metric.COSINE, workers=1, progress=reports, scratch=tmp_path)
    assert reports.rows()[0] == 5 * small_blocks


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _swap(directory: Path) -> None:
    """Put another index in place of the file, and its true checksum on record."""
    other = faiss.IndexFlatL2(32)
    other.add(np.zeros((2000, 32), dtype=np.float32))
    _edit(directory / "build.json", **write_file(other, directory / "build-000000002000.faiss")._asdict())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda directory: flip(directory / "build-000000002000.faiss"),
    "cut short": lambda directory: os.truncate(directory / "build-000000002000.faiss", 100),
    "gone": lambda directory: (directory / "build-000000002000.faiss").unlink(),
    "another index": _swap,
    "other rows": lambda directory: _edit(directory / "build.json", rows=1000),
    "rows that are none": lambda directory: _edit(directory / "build.json", rows="../../x"),
    "negative rows": lambda directory: _edit(directory / "build.json", rows=-5),
    "another type": lambda directory: _edit(directory / "build.json", types=["IndexFlat"]),
    "another version": lambda directory: _edit(directory / "build.json", format=2),
    "no record": lambda directory: (directory / "build.json").unlink(),
    "no JSON": lambda directory: (directory / "build.json").write_text("{"),
    "a list": lambda directory: (directory / "build.json").write_text("[]"),
    "a number": lambda directory: (directory / "build.json").write_text("7"),
    "half written": lambda directory: (directory / "build-000000002000.faiss").rename(
        directory / "build-000000002000.faiss.new"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_removed_and_the_build_starts_over(damage: str, small_blocks: int, tmp_path: Path) -> None:
    """What does not verify is not read: the build starts at row 0 and gives what it always gives."""
    matrix = clustered(4 * small_blocks, 32)
    (tmp_path / "mine.txt").write_text("not of the build")
    interrupt(recipe("IVF8,SQ8"), matrix, Metric.COSINE, tmp_path, 3 * small_blocks)
    DAMAGES[damage](tmp_path)
    reports = Reports()
    index = build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, progress=reports, scratch=tmp_path)
    assert reports.rows()[0] == 0
    assert bytes_of(index) == bytes_of(build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("what", "metric", "seed"),
    [
        (recipe("IVF9,SQ8"), Metric.COSINE, 0),
        (recipe("IVF8,SQ8", 4000), Metric.COSINE, 0),
        (recipe("IVF8,SQ8", construction=50), Metric.COSINE, 0),
        (recipe("IVF8,SQ8"), Metric.INNER_PRODUCT, 0),
        (recipe("IVF8,SQ8"), Metric.COSINE, 5),
    ],
    ids=["factory", "sample", "efConstruction", "metric", "vectors"],
)
def test_the_state_of_another_build_is_not_resumed(
    what: Recipe, metric: Metric, seed: int, small_blocks: int, tmp_path: Path
) -> None:
    """Another recipe, metric or file is another build, which starts at row 0."""
    interrupt(recipe("IVF8,SQ8"), clustered(4000, 32), Metric.COSINE, tmp_path, 3 * small_blocks)
    reports = Reports()
    build(what, clustered(4000, 32, seed=seed), metric, workers=1, progress=reports, scratch=tmp_path)
    assert reports.rows()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_fails_leaves_no_state(small_blocks: int, tmp_path: Path) -> None:
    """What cannot be built now cannot be resumed either."""
    matrix = clustered(4 * small_blocks, 32)
    interrupt(recipe("IVF8,SQ8"), matrix, Metric.COSINE, tmp_path, 3 * small_blocks)
    with pytest.raises(IndexBuildFailed):
        build(recipe("IVF8,PQ7x4fs"), matrix, Metric.COSINE, workers=1, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_index_can_be_kept_until_it_is_put_away(small_blocks: int, tmp_path: Path) -> None:
    """Where the caller has more to do with the index, a kill then costs no build."""
    matrix = clustered(3 * small_blocks, 32)
    keeping = Saving(finished=True)
    first = build(recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, scratch=tmp_path / "new", saving=keeping)
    reports = Reports()
    again = build(
        recipe("IVF8,SQ8"), matrix, Metric.COSINE, workers=1, progress=reports, scratch=tmp_path / "new", saving=keeping
    )
    assert reports.seen == [("index", len(matrix), len(matrix))]
    assert bytes_of(again) == bytes_of(first)
    discard(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    discard(tmp_path / "never made")


def test_saving_costs_a_tenth_of_the_time_at_most() -> None:
    """By default a state is saved every 20 seconds, and less often when the last save took more than 2."""
    default = Saving()
    assert default.due(20, 2)
    assert not default.due(19.9, 0)
    assert not default.due(29, 3)
    assert default.due(30, 3)
