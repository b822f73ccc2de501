"""A collection whose index is a CAGRA graph: searched, masked, grown, copied, damaged. Its links are a processor's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, index
from reperio.collection.upkeep import building
from reperio.index import Goal, Provenance, Recipe, searcher_of
from reperio.index.building import cagra
from tests.brute_force import scores
from tests.index.building.builds import clustered
from tests.index.building.test_cagra import links

ROWS, N, D = 8000, 9500, 48
BOTH = clustered(N + 300, D)
MATRIX, QUERIES = BOTH[:N], BOTH[N:]
FACTORY = "CAGRA32,SQ8,Refine(PQ12x4)"


def fill(kb: Collection, first: int, stop: int) -> None:
    kb.add([Chunk(str(i), f"text {i}", {"tenth": i % 10}) for i in range(first, stop)], vectors=MATRIX[first:stop])


def put_in_use(kb: Collection, *, requested: bool) -> None:
    """Do what `optimize` does on a card, with links that come from elsewhere."""
    with kb._handle.to_build() as generation:
        matrix, metric = generation.vectors(), generation.settings.metric
        recipe = Recipe(FACTORY, "a test", training_rows=4096, requested=requested)
        made = cagra.build(recipe, matrix, metric, links=links, workers=2)
        tuned = building._tune(generation, searcher_of(made), FACTORY, QUERIES[:200], thorough=True)
        lost = index.distortion(made, matrix, range(len(matrix)))
        provenance = Provenance(recipe, Goal(), len(matrix), lost, tuned.origin)
        built = building._write(generation, searcher_of(made, tuned.points, tuned.gather), provenance)
        kb._handle.publish(generation, built)


def found_share(kb: Collection, rows: int, where: dict[str, int] | None = None, gone: int = 0) -> float:
    """Return knn recall@10, having looked at the order and the number of hits."""
    allowed = np.arange(rows) >= gone
    if where is not None:
        allowed &= np.arange(rows) % 10 == where["tenth"]
    shares = []
    for query in QUERIES[200:]:
        exact = np.where(allowed, scores(MATRIX[:rows], query, "cosine"), -np.inf)
        hits = kb.search(vector=query, where=where)
        assert len(hits) == 10
        assert all(allowed[int(hit.chunk.id)] for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        shares.append(np.mean([hit.score >= np.partition(exact, -10)[-10] - 1e-6 for hit in hits]))
    return float(np.mean(shares))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 8,000 chunks with a CAGRA graph that nobody named."""
    path = tmp_path_factory.mktemp("cagra") / "kb"
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, 0, ROWS)
        put_in_use(kb, requested=False)
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "kb"))


def test_opened_again(path: Path) -> None:
    """Whoever opens the collection, to write or to read, searches the graph, with filters and without."""
    for options in ({}, {"read_only": True}):
        with reperio.open(path, **options) as kb:
            assert kb.info().index.factory == FACTORY
            assert found_share(kb, ROWS) > 0.94
            assert found_share(kb, ROWS, {"tenth": 3}) > 0.94
            assert kb.check().ok


def test_untrusted(path: Path) -> None:
    """A reader that does not trust the index does not read it, and finds everything."""
    with reperio.open(path, read_only=True, trust_index=False) as kb:
        assert found_share(kb, ROWS) == 1


def test_deleted(path: Path) -> None:
    """Deleted chunks are not found; the graph still leads past them."""
    with reperio.open(path, auto_optimize=False) as kb:
        kb.delete(ids=[str(i) for i in range(3000)])
        assert found_share(kb, ROWS, gone=3000) > 0.94


def test_grows(path: Path) -> None:
    """Newer rows are found at once; then the graph takes them, and is still the index in use."""
    with reperio.open(path, auto_optimize=False) as kb:
        fill(kb, ROWS, N)
        assert found_share(kb, N) > 0.94
        with kb._handle.to_build() as generation:
            built = building.refresh_index(generation, workers=2)
            kb._handle.publish(generation, built)
        assert (kb.info().index.factory, kb.info().index.rows) == (FACTORY, N)
        assert found_share(kb, N) > 0.94
    with reperio.open(path, read_only=True) as kb:
        assert found_share(kb, N, {"tenth": 7}) > 0.94


def test_copied(path: Path, tmp_path: Path) -> None:
    """A backup has the graph, and so has what is restored from it."""
    with reperio.open(path, read_only=True) as kb:
        kb.backup(tmp_path / "backup")
    reperio.restore(tmp_path / "backup", tmp_path / "restored")
    with reperio.open(tmp_path / "restored") as kb:
        assert kb.info().index.factory == FACTORY
        assert found_share(kb, ROWS) > 0.94


def test_damaged(path: Path) -> None:
    """A graph whose file is not the one recorded is not searched: everything is found, and a warning says so."""
    (file,) = (path / "gen-000001" / "index").glob("snapshot-*.faiss")
    with file.open("r+b") as damaged:
        damaged.seek(file.stat().st_size // 2)
        damaged.write(b"\xff" * 64)
    with reperio.open(path, read_only=True) as kb, pytest.warns(reperio.ReperioWarning):
        assert found_share(kb, ROWS) == 1


@pytest.mark.parametrize("requested", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_compacted(path: Path, requested: bool) -> None:
    """What is rewritten gets a graph that a processor builds, with as many links where a user had named it."""
    with reperio.open(path, auto_optimize=False) as kb:
        if requested:
            put_in_use(kb, requested=True)
        kb.delete(ids=[str(i) for i in range(1000)])
        assert kb.compact() == 1000
        found = kb.info().index
        assert found.factory == "HNSW16,SQ8,Refine(PQ12x4)" if requested else "CAGRA" not in found.factory
        assert found_share(kb, ROWS, gone=1000) > 0.94
