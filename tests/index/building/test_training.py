"""Training, filling, going on after a kill, and judging what came out."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from reperio import IndexBuildFailed, Metric
from reperio.index.building import training
from reperio.index.building.judging import distortion, drifted, spectrum
from reperio.index.building.resuming import Saving, discard
from reperio.index.building.training import build, extend
from reperio.index.library.files import FileUnusable, read_file, verify_file, write_file
from reperio.index.recipes.ranking import Recipe
from reperio.vectors import to_matrix
from tests.data import REALQ, require_data
from tests.pairs import in_turn

ROOT = Path(__file__).parents[3]
AT_EVERY_BLOCK = Saving(seconds=0, share=math.inf)
DETERMINISTIC_GRAPHS = hasattr(faiss.HNSW, "compute_forward_links_deterministic")


def clustered(rows: int, dimension: int, metric: Metric = Metric.COSINE, seed: int = 0) -> np.ndarray:
    """Vectors around 30 centres that lie to one side of the origin, as a collection would store them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, dimension)) + 0.5
    points = centres[rng.integers(0, 30, rows)] + 0.6 * rng.standard_normal((rows, dimension))
    return to_matrix(points, dimension=dimension, metric=metric, what="vectors")


def recipe(factory: str, training_rows: int = 4096, construction: int = 0) -> Recipe:
    return Recipe(factory, "a test", training_rows=training_rows, construction=construction)


def bytes_of(index: Any) -> bytes:
    return bytes(faiss.serialize_index(index))


def recall(index: Any, matrix: np.ndarray, queries: np.ndarray, k: int = 10, fetched: int = 10) -> float:
    """Return knn recall@k by inner product, of the index alone, all lists probed."""
    truth = np.argsort(-(queries @ matrix.T), axis=1)[:, :k]
    inner = training.innermost(index)
    if hasattr(inner, "nlist"):
        inner.nprobe = inner.nlist
    elif hasattr(inner, "hnsw"):
        inner.hnsw.efSearch = 64
    found = index.search(queries, fetched)[1]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(truth, found, strict=True)]))


class Stop(Exception):
    """Raised by a progress callback: an interrupted build."""


class Reports:
    """Records progress, and stops the build when the index holds *stop* rows."""

    def __init__(self, stop: int | None = None) -> None:
        self.seen: list[tuple[str, int, int | None]] = []
        self._stop = stop

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.seen.append((stage, done, total))
        if stage == "index" and self._stop is not None and done >= self._stop:
            raise Stop

    def rows(self) -> list[int]:
        return [done for stage, done, _ in self.seen if stage == "index"]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a block be 1,000 rows."""
    monkeypatch.setattr(training, "BLOCK_ROWS", 1000)
    return 1000


def interrupt(what: Recipe, matrix: np.ndarray, metric: Metric, scratch: Path, stop: int) -> None:
    """Build until the index holds *stop* rows; the state is that of the block before."""
    with pytest.raises(Stop):
        build(what, matrix, metric, workers=1, progress=Reports(stop), scratch=scratch, saving=AT_EVERY_BLOCK)


# What is built


FACTORIES = [
    "IVF16,PQ32x4fs", "IVF16_HNSW8,PQ32x4fs", "IVF16,SQ8", "IVF16,Flat", "IVF16,RaBitQfs", "SQ8", "PQ32x4fs",
    "PCA16,IVF16,PQ16x4fs", "PCAR16,SQ8", "PCA16,HNSW8,SQ8", "HNSW8,Flat",
]  # fmt: skip


@pytest.mark.parametrize(("factory", "metric"), in_turn(FACTORIES, list(Metric)))
def test_workers_and_dtype_do_not_change_the_index(factory: str, metric: Metric, small_blocks: int) -> None:
    """The same rows give the same bytes, with one worker or three, read as float32 or as float16."""
    del small_blocks
    halved = clustered(6000, 32, metric).astype(np.float16)
    built = bytes_of(build(recipe(factory), halved.astype(np.float32), metric, workers=1))
    workers = 3 if "HNSW8," not in factory or "IVF" in factory or DETERMINISTIC_GRAPHS else 1
    assert bytes_of(build(recipe(factory), halved, metric, workers=workers)) == built


def test_efconstruction_follows_the_recipe() -> None:
    """A recipe that names efConstruction gets it, one that does not gets FAISS's own."""
    matrix = clustered(1500, 16)
    given, own = (build(recipe("PCA8,HNSW8,SQ8", 1500, n), matrix, Metric.COSINE, workers=1) for n in (77, 0))
    assert training.innermost(given).hnsw.efConstruction == 77
    assert training.innermost(own).hnsw.efConstruction == faiss.HNSW(8).efConstruction


@pytest.mark.parametrize("metric", list(Metric))
def test_k_means_is_spherical_unless_distances_are_compared(metric: Metric) -> None:
    """Centroids are normalised under cosine and inner product, means under L2."""
    index = build(recipe("IVF8,Flat"), clustered(2000, 16, metric), metric, workers=1)
    norms = np.linalg.norm(index.quantizer.reconstruct_n(0, 8), axis=1)
    assert bool(np.allclose(norms, 1, atol=1e-4)) == (metric is not Metric.L2)


@pytest.mark.parametrize("prefix", ["PCA", "PCAR"])
def test_a_projection_keeps_the_ranking_by_inner_product(prefix: str) -> None:
    """Projected on all components, inner products are what they were; FAISS's own PCA centres, and ranks otherwise."""
    matrix, queries = (clustered(3000, 24, Metric.INNER_PRODUCT, seed) for seed in (1, 2))
    queries = queries[:50]
    ours = build(recipe(f"{prefix}24,Flat"), matrix, Metric.INNER_PRODUCT, workers=1)
    truth = queries @ matrix.T
    scores, rows = ours.search(queries, 10)
    assert np.allclose(scores, np.take_along_axis(truth, rows, axis=1), rtol=1e-4, atol=1e-4)
    assert recall(ours, matrix, queries) > 0.99
    theirs = faiss.index_factory(24, f"{prefix}24,Flat", faiss.METRIC_INNER_PRODUCT)
    theirs.train(matrix)
    theirs.add(matrix)
    assert recall(theirs, matrix, queries) < 0.95


def test_a_projection_under_l2_is_centred() -> None:
    """Under L2 the mean costs no component: the distances within a plane far from the origin survive two dimensions."""
    rng = np.random.default_rng(3)
    plane = rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 20))
    matrix = (plane + 50 * rng.standard_normal(20)).astype(np.float32)
    index = build(recipe("PCA2,Flat"), matrix, Metric.L2, workers=1)
    distances, rows = index.search(matrix[:100], 2)
    true = np.square(matrix[:100] - matrix[rows[:, 1]]).sum(axis=1)
    assert np.allclose(distances[:, 1], true, rtol=1e-2, atol=1e-2)
    assert np.mean(rows[:, 0] == np.arange(100)) > 0.95


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
def test_a_projection_of_the_longest_vectors_is_right(metric: Metric) -> None:
    """Vectors of length 1e18, whose second moment float32 cannot hold, are projected as those of length 1 are."""
    matrix = clustered(20_000, 24, Metric.COSINE)
    short, long = (
        build(recipe("PCA8,Flat", 20_000), scale * matrix, metric, workers=1) for scale in np.float32([1, 9e17])
    )
    assert np.array_equal(short.search(matrix[:20], 5)[1], long.search(np.float32(9e17) * matrix[:20], 5)[1])


def test_the_users_own_transforms_are_trained_by_faiss() -> None:
    """A PCA behind an OPQ or with whitening is left to FAISS; one behind a padding is not."""
    matrix = clustered(3000, 30)
    for factory in ("OPQ8_32,PCA16,SQ8", "PCAW16,SQ8", "Pad32,PCA16,IVF4,SQ8", "PCA16,IVF4,PQ16x4fs,RFlat"):
        index = build(recipe(factory, 3000), matrix, Metric.COSINE, workers=1)
        assert (index.ntotal, index.is_trained) == (3000, True)
    padded = build(recipe("Pad32,PCA16,Flat"), matrix, Metric.COSINE, workers=1)
    assert not faiss.downcast_VectorTransform(padded.chain.at(1)).have_bias


def test_the_spectrum_foretells_what_a_projection_keeps() -> None:
    """Share of variance by number of components: rises to 1, and is what is left after the projection."""
    matrix = clustered(2000, 128)
    shares = spectrum(matrix, Metric.COSINE)
    assert shares is not None
    assert shares.shape == (128,)
    assert np.all(np.diff(shares) >= 0)
    assert shares[-1] == pytest.approx(1)
    for kept in (4, 20, 100):
        index = build(recipe(f"PCA{kept},Flat", 2000), matrix, Metric.COSINE, workers=1)
        lost = distortion(index, matrix, range(2000))
        assert lost == pytest.approx(1 - shares[kept - 1], rel=0.02, abs=1e-4)


def test_the_spectrum_is_centred_under_l2_only() -> None:
    """The mean of vectors to one side of the origin is most of their inner products, and nothing of their distances."""
    matrix = (10 + np.random.default_rng(4).standard_normal((2000, 128))).astype(np.float32)
    by_product, by_distance = spectrum(matrix, Metric.INNER_PRODUCT), spectrum(matrix.astype(np.float16), Metric.L2)
    assert by_product is not None
    assert by_distance is not None
    assert by_product[0] > 0.98
    assert by_distance[0] < 0.05


@pytest.mark.parametrize(
    ("rows", "dimension"), [(5000, 127), (511, 128), (0, 128), (9000, 2049)], ids=["narrow", "few", "none", "wide"]
)
def test_there_is_no_spectrum_of_too_little_or_too_much(rows: int, dimension: int) -> None:
    """Narrow, very wide and small collections are not analysed, nor is one without any variance."""
    assert spectrum(np.ones((rows, dimension), dtype=np.float32), Metric.COSINE) is None
    assert spectrum(np.zeros((1000, 128), dtype=np.float32), Metric.COSINE) is None
    assert spectrum(np.ones((1000, 128), dtype=np.float32), Metric.L2) is None


def test_the_training_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a recipe asks for, the sample takes no more than its limit."""
    monkeypatch.setattr(training, "SAMPLE_BYTES", 500 * 16 * 4)
    reports = Reports()
    build(recipe("IVF4,SQ8", 4000), clustered(4000, 16), Metric.COSINE, workers=1, progress=reports)
    assert [report for report in reports.seen if report[0] == "train"] == [("train", 0, 500), ("train", 500, 500)]


def test_what_faiss_cannot_build_is_refused() -> None:
    """An unknown factory, a type that cannot serve, too few rows, too many components: IndexBuildFailed, and why."""
    matrix = clustered(100, 16)
    cases = {
        "IVF,": "knows no index",
        "LSH": "cannot serve here",
        "IVF200,Flat": "over 100 rows of 16 dimensions",
        "PCA32,Flat": "cannot build",
    }
    for factory, words in cases.items():
        with pytest.raises(IndexBuildFailed, match=words):
            build(recipe(factory), matrix, Metric.L2, workers=1)


@pytest.mark.parametrize(
    "factory",
    ["IVF1000000000,Flat", "IVF4_HNSW99999999,Flat", "PQ8x24", "IMI2x16,Flat", "HNSW1000000000", "RR9999999,SQ8"],
)
def test_what_is_too_large_is_refused_before_it_is_made(factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More centroids than rows, or a part of any kind that is out of all proportion: FAISS is not even asked."""

    def asked(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(training, "_empty", asked)
    with pytest.raises(IndexBuildFailed, match="among them; choose another index"):
        build(recipe(factory), clustered(1000, 16), Metric.L2, workers=1)


def test_an_error_of_the_callback_stays_its_own() -> None:
    """What a progress callback raises is no failure of the index."""

    def failing(stage: str, done: int, total: int | None) -> None:
        raise RuntimeError(f"{stage} {done} {total}")

    with pytest.raises(RuntimeError, match="train 0 2000"):
        build(recipe("IVF4,SQ8"), clustered(2000, 16), Metric.COSINE, workers=1, progress=failing)
    with pytest.raises(RuntimeError, match="index 0 2000"):
        build(recipe("HNSW8,Flat"), clustered(2000, 16), Metric.COSINE, workers=1, progress=failing)


def test_a_graph_that_is_built_in_one_go(small_blocks: int) -> None:
    """NSG takes all rows at once, and refuses to be extended with a typed error."""
    matrix = clustered(3 * small_blocks, 16)
    index = build(recipe("NSG16,Flat"), matrix[: 2 * small_blocks], Metric.L2, workers=2)
    assert index.ntotal == 2 * small_blocks
    with pytest.raises(IndexBuildFailed, match="incremental"):
        extend(index, matrix, workers=2)


# Levels


def test_levels_have_faiss_frequencies() -> None:
    """A row's level depends on its number alone, and is drawn as often as FAISS would."""
    owner = faiss.IndexHNSWFlat(8, 16)
    hnsw = owner.hnsw
    levels = training._levels(hnsw, 0, 500_000)
    assert np.array_equal(levels[1000:3000], training._levels(hnsw, 1000, 3000))
    expected = faiss.vector_to_array(hnsw.assign_probas)[:3] * len(levels)
    counted = np.bincount(levels)[1:4]
    assert np.all(np.abs(counted - expected) < 5 * np.sqrt(expected))
    assert levels.min() == 1


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "PCA24,HNSW8,SQ8"])
def test_graphs_with_our_levels_are_as_good_as_faiss_own(factory: str, small_blocks: int) -> None:
    """Recall of a graph filled block by block is that of FAISS's own over all rows at once.

    Of vectors without clusters: between clusters a graph this sparse finds its way by luck, which threads decide.
    """
    points = np.random.default_rng(0).standard_normal((8 * small_blocks + 200, 32))
    made = to_matrix(points, dimension=32, metric=Metric.COSINE, what="vectors")
    matrix, queries = made[:-200], made[-200:]
    ours = build(recipe(factory), matrix, Metric.COSINE, workers=2)
    theirs = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    theirs.train(matrix)
    theirs.add(matrix)
    assert np.array_equal(
        faiss.vector_to_array(training.innermost(ours).hnsw.levels),
        training._levels(training.innermost(ours).hnsw, 0, len(matrix)),
    )
    assert recall(ours, matrix, queries) >= recall(theirs, matrix, queries) - 0.04


@pytest.mark.parametrize("factory", ["HNSW8,SQ8", "IVF16,PQ32x4fs", "PCA16,IVF16,SQ8", "HNSW8,Flat"])
def test_extended_finds_as_much_as_rebuilt(factory: str, small_blocks: int) -> None:
    """Rows added later are found as well as if they had been there, also after the index has been on disk."""
    matrix, queries = clustered(8 * small_blocks, 32), clustered(200, 32, seed=9)
    half = build(recipe(factory), matrix[: 4 * small_blocks + 77], Metric.COSINE, workers=1)
    half = faiss.deserialize_index(faiss.serialize_index(half))
    reports = Reports()
    extend(half, matrix.astype(np.float16), workers=1, progress=reports)
    assert reports.rows()[:2] == [4 * small_blocks + 77, 5 * small_blocks + 77]
    assert half.ntotal == reports.rows()[-1] == len(matrix)
    whole = build(recipe(factory), matrix, Metric.COSINE, workers=1)
    assert recall(half, matrix, queries, fetched=30) >= recall(whole, matrix, queries, fetched=30) - 0.03


# Going on after a kill


class Life:
    """One process that builds; *reports*, (stage, done), are its lines so far."""

    def __init__(self, directory: Path, **asked: Any) -> None:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.index.building.making", json.dumps(asked)],
            env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reports: list[tuple[str, int]] = []

    def follow(self, until: Callable[[tuple[str, int]], bool]) -> bool:
        """Read reports until one fulfils *until*; False when the process ended first."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.reports.append(tuple(json.loads(line)))
            if until(self.reports[-1]):
                return True
        return False

    def kill(self) -> None:
        """Send SIGKILL, and read what it had reported."""
        self.process.kill()
        self.follow(lambda _: False)
        self.end()

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        status = self.process.wait()
        assert status in (0, -9), errors
        return status

    def rows(self) -> list[int]:
        return [done for stage, done in self.reports if stage == "index"]


@pytest.mark.crash
@pytest.mark.parametrize(
    ("factory", "training_rows", "workers", "rows"),
    [
        ("IVF64,PQ64x4fs", 8192, 2, 24_000),
        ("PCA32,HNSW8,SQ8", 8192, 1, 20_000),
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
        if life.follow(lambda report: (report[0], report[1] >= goal[1]) == (goal[0], True)):  # noqa: B023
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


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _swap(directory: Path) -> None:
    """Put another index in place of the file, and its true checksum on record."""
    other = faiss.IndexFlatL2(32)
    other.add(np.zeros((2000, 32), dtype=np.float32))
    _edit(directory / "build.json", **write_file(other, directory / "build-000000002000.faiss")._asdict())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda directory: _flip(directory / "build-000000002000.faiss"),
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


# A full disk


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond *size* bytes; Python ignores SIGXFSZ, so that a write fails with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


# Files


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
    _flip(path)
    with pytest.raises(FileUnusable, match="damaged"):
        verify_file(path, written)
    os.truncate(path, 10)
    with pytest.raises(FileUnusable, match="holds 10 bytes"):
        read_file(path, written)
    path.unlink()
    with pytest.raises(FileUnusable, match="No such file"):
        read_file(path, written)


# Memory


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
    sample, block = training_rows * dimension * 4, training.BLOCK_ROWS * dimension * 4
    allowed = (1 + spare) * size + 2 * sample + 3 * block
    taken = max(peaks) - before
    assert taken < allowed, f"{taken / 1e6:.1f} MB; {allowed / 1e6:.1f} allowed, index {size / 1e6:.1f}"


# Judging


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize(
    "factory",
    [
        "IVF8,PQ16x4fs", "IVF8,PQ16x4fsr", "IVF8,SQ4", "IVF8,PQ8x4", "SQ4", "HNSW8,SQ4", "PCA16,IVF8,SQ4",
        "Pad34,PQ17x4fs",
    ],
)  # fmt: skip
def test_distortion_is_that_of_the_stored_vectors(factory: str, metric: Metric) -> None:
    """It is the error of what FAISS gives back for the rows that the index holds, relative to their size."""
    matrix = clustered(3000, 32, metric)
    index = build(recipe(factory, 3000), matrix, metric, workers=1)
    stored = index.reconstruct_n(0, len(matrix))
    centre = matrix.mean(axis=0) if metric is Metric.L2 else 0
    expected = np.square(matrix - stored).sum() / np.square(matrix - centre).sum()
    assert distortion(index, matrix, range(3000)) == pytest.approx(expected, rel=1e-3)
    assert distortion(index, matrix.astype(np.float16), range(1000, 2000)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
@pytest.mark.parametrize("factory", ["IVF1,PQ16x4fs", "IVF8,PQ16x4fs", "PCAR16,IVF8,PQ16x4fs", "HNSW8,SQ8", "IVF8,SQ8"])
def test_an_index_read_from_a_file_has_the_same_distortion(factory: str, metric: Metric, tmp_path: Path) -> None:
    """FAISS's own decoder of fast-scan lists crashes once they come from a file; extensions judge just those."""
    matrix = clustered(3000, 32)
    built = build(recipe(factory, 3000), matrix, metric, workers=1)
    loaded = read_file(tmp_path / "index", write_file(built, tmp_path / "index"))
    assert distortion(loaded, matrix, range(3000)) == distortion(built, matrix, range(3000))


def test_distortion_of_what_loses_nothing_or_cannot_tell() -> None:
    """0 for full vectors, None for no rows and where FAISS cannot give vectors back."""
    matrix = clustered(2000, 32)
    for factory in ("IVF8,Flat", "HNSW8,Flat", "NSG8,Flat"):
        flat = build(recipe(factory), matrix, Metric.COSINE, workers=1)
        assert distortion(flat, matrix, range(2000)) == 0
    assert distortion(flat, matrix, range(5, 5)) is None
    whitened = build(recipe("PCAW16,SQ8", 2000), matrix, Metric.COSINE, workers=1)
    assert distortion(whitened, matrix, range(2000)) is None


def test_rows_that_are_all_the_same_have_a_distortion() -> None:
    """No size to be relative to is no division by zero."""
    for value, metric in ((0.0, Metric.INNER_PRODUCT), (0.0, Metric.L2), (3.0, Metric.L2)):
        matrix = np.full((500, 16), value, dtype=np.float32)
        index = build(recipe("SQ8"), matrix, metric, workers=1)
        assert distortion(index, matrix, range(500)) == 0


@pytest.mark.parametrize(
    ("factory", "training_rows"), [("PCA192,IVF128,PQ96x4fs", 16_384), ("PCA224,IVF128,SQ8", 16_384)]
)
def test_drift_is_seen_in_other_texts_and_not_in_more_of_the_same(factory: str, training_rows: int) -> None:
    """Real questions, trained on a half of them: the other half is no drift, abstracts of papers are."""
    files = (REALQ / "base.f16.npy", REALQ.parent / "scifact" / "corpus_emb.f16.npy")
    require_data(*files)
    questions, abstracts = (np.load(file) for file in files)
    mixed = questions[np.random.default_rng(0).permutation(len(questions))[:30_000]]
    index = build(recipe(factory, training_rows), mixed[:15_000], Metric.COSINE, workers=1)
    trained = distortion(index, mixed, range(15_000))
    same = distortion(index, mixed, range(15_000, 30_000))
    other = distortion(index, abstracts, range(len(abstracts)))
    assert trained is not None
    assert same is not None
    assert other is not None
    assert not drifted(trained, same)
    assert same < 1.1 * trained
    assert drifted(trained, other)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
def test_a_table_larger_than_the_file_is_no_obstacle(tmp_path: Path, metric: Metric) -> None:
    """An IVFPQ of few rows and many centroids is loaded again, and answers as before."""
    matrix = np.random.default_rng(3).standard_normal((1200, 384)).astype(np.float32)
    built = build(recipe("IVF64,PQ48"), matrix, metric, workers=1)
    written = write_file(built, tmp_path / "index")
    loaded = read_file(tmp_path / "index", written)
    assert written.bytes < 64 * 48 * 256 * 4  # what the table takes under L2
    for before, after in zip(built.search(matrix[:50], 5), loaded.search(matrix[:50], 5), strict=True):
        np.testing.assert_array_equal(before, after)
