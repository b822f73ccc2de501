"""Judging what came out: how much an index loses, and whether new rows are of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reperio import Metric
from reperio.index.building.judging import distortion, drifted
from reperio.index.building.training import build
from reperio.index.library.files import read_file, write_file
from tests.data import REALQ, require_data
from tests.index.building.builds import clustered, recipe


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
