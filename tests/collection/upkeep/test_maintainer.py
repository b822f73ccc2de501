"""Indexes of a collection: built, extended, replaced, damaged, rebuilt — and never in the way of a right answer."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, IndexBuildFailed, ReperioWarning
from reperio.index.recipes.ranking import EXACT_ROWS, TAIL_ROWS
from tests.brute_force import assert_top_k, scores

D = 32
RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((12_000, D)).astype(np.float32)
FEW = VECTORS[-60:]  # to tune with: what is measured is not asked here


def fill(kb: Collection, first: int, last: int) -> None:
    kb.add((Chunk(str(i), f"text {i}") for i in range(first, last)), vectors=VECTORS[first:last])


def assert_right(kb: Collection, last: int, *, recall: float = 1.0) -> None:
    for query in RNG.standard_normal((5, D)).astype(np.float32):
        hits = kb.search(vector=query, k=10, recall=recall)
        found = [(int(hit.chunk.id), hit.score) for hit in hits]
        assert all(hit.chunk.text == f"text {hit.chunk.id}" for hit in hits)
        truth = scores(VECTORS[:last], query, "cosine")
        if recall == 1.0:
            assert_top_k(found, truth, 10)
        np.testing.assert_allclose([score for _, score in found], truth[[row for row, _ in found]], atol=1e-5)


def wait_for_index(kb: Collection, rows: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        index = kb.info().index
        if index is not None and index.rows >= rows:
            return
        assert time.monotonic() < deadline, f"no index over {rows} rows: {kb.info()}"
        time.sleep(0.05)


def test_a_small_collection_has_no_index_and_needs_none(path: Path) -> None:
    """optimize() on few rows recommends exact search."""
    with reperio.open(path, dimension=D) as kb:
        fill(kb, 0, 500)
        assert kb.optimize() is None
        assert kb.info().index is None
        assert_right(kb, 500)


def test_a_growing_collection_is_indexed_in_the_background(path: Path) -> None:
    """Beyond the exact size an index appears without being asked for, is extended as the tail grows, and is right."""
    with reperio.open(path, dimension=D) as kb:
        fill(kb, 0, EXACT_ROWS + 1)
        wait_for_index(kb, EXACT_ROWS + 1)
        assert_right(kb, EXACT_ROWS + 1)
        fill(kb, EXACT_ROWS + 1, EXACT_ROWS + TAIL_ROWS)
        assert_right(kb, EXACT_ROWS + TAIL_ROWS)
        fill(kb, EXACT_ROWS + TAIL_ROWS, EXACT_ROWS + TAIL_ROWS + 2)
        wait_for_index(kb, EXACT_ROWS + TAIL_ROWS + 2)
        assert_right(kb, EXACT_ROWS + TAIL_ROWS + 2)
        assert len(list((path / "gen-000001" / "index").iterdir())) == 1


def test_closing_finishes_what_is_due(path: Path) -> None:
    """A process that adds and closes leaves an index to the one that searches."""
    with reperio.open(path, dimension=D) as kb:
        fill(kb, 0, EXACT_ROWS + 1)
    with reperio.open(path, read_only=True) as reader:
        assert reader.info().tail == 0
        assert_right(reader, EXACT_ROWS + 1)


def test_without_auto_optimize_nothing_is_built(path: Path) -> None:
    """auto_optimize=False leaves indexes to optimize()."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, 0, EXACT_ROWS + 100)
    with reperio.open(path, read_only=True) as reader:
        assert reader.info().index is None
        assert reader.info().tail == EXACT_ROWS + 100


def test_exact_on_request_stays_exact(path: Path) -> None:
    """Who asks for no index does not get one by adding more."""
    with reperio.open(path, dimension=D) as kb:
        fill(kb, 0, EXACT_ROWS + 100)
        assert kb.optimize(index="exact") is None
        fill(kb, EXACT_ROWS + 100, 2 * EXACT_ROWS + 300)
    with reperio.open(path) as kb:
        assert kb.info().index is None
        assert_right(kb, 2 * EXACT_ROWS + 300, recall=0.95)
        assert kb.check().ok


@pytest.mark.parametrize(
    "index",
    [
        *("hnsw", "HNSW16", "IVF32,PQ32x4fs", "SQ8", "PQ32x4fs"),
        pytest.param("OPQ16_32,IVF16,PQ16x4fs", marks=pytest.mark.campaign),
    ],
)
def test_an_index_on_request_is_kept_when_the_collection_grows(path: Path, index: str) -> None:
    """A requested index is used, extended, found again by the next process and by readers, with deletes masked."""
    with reperio.open(path, dimension=D) as kb, reperio.open(path, read_only=True) as reader:
        fill(kb, 0, 3000)
        info = kb.optimize(index=index, queries=FEW)
        assert info is not None
        assert "as requested" in info.reason
        fill(kb, 3000, 3000 + TAIL_ROWS + 1)
        wait_for_index(kb, 3000 + TAIL_ROWS + 1)
        assert kb.info().index.factory == info.factory
        for handle in (kb, reader):
            assert_right(handle, 3000 + TAIL_ROWS + 1, recall=0.95)
            assert_right(handle, 3000 + TAIL_ROWS + 1)
        gone = [str(i) for i in range(0, 3000, 2)]
        assert kb.delete(ids=gone) == 1500
        for handle in (kb, reader):
            for query in VECTORS[:20:2]:
                assert not {hit.chunk.id for hit in handle.search(vector=query, k=20)} & set(gone)


def test_an_impossible_index_leaves_the_one_before(path: Path) -> None:
    """A factory string that FAISS refuses raises; the index in use stays."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:  # or a build that is due may replace it
        fill(kb, 0, 3000)
        before = kb.optimize(index="SQ8", queries=FEW)
        for impossible in ("NOPE", "IVF100000,Flat", "PQ7x4fs"):
            with pytest.raises(IndexBuildFailed):
                kb.optimize(index=impossible)
        assert kb.info().index == before
        assert_right(kb, 3000)


@pytest.mark.parametrize("damage", ["missing", "flipped", "short", "empty"])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_index_is_noticed_and_answers_stay_right(path: Path, damage: str, read_only: bool) -> None:
    """A snapshot that is not the recorded one is never read: a warning, exact searches, and a writer rebuilds it."""
    rows = EXACT_ROWS + 100
    with reperio.open(path, dimension=D) as kb:
        fill(kb, 0, rows)
        kb.optimize(queries=FEW)
    [snapshot] = (path / "gen-000001" / "index").glob("snapshot-*")
    content = snapshot.read_bytes()
    if damage == "missing":
        snapshot.unlink()
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        snapshot.write_bytes({"flipped": bytes(flipped), "short": content[:-1], "empty": b""}[damage])
    with reperio.open(path, read_only=read_only) as kb:
        assert any(
            "optimize() rebuilds it" in problem.cure for problem in kb.check().problems if problem.kind == "index"
        )
        with pytest.warns(ReperioWarning, match="cannot be used: .*Searches are exact"):
            assert_right(kb, rows)
        if not read_only:
            wait_for_rebuild(kb)
            assert_right(kb, rows)
    if not read_only:
        with warnings.catch_warnings(), reperio.open(path, read_only=True) as reader:
            warnings.simplefilter("error")
            assert_right(reader, rows, recall=0.95)


def wait_for_rebuild(kb: Collection) -> None:
    deadline = time.monotonic() + 60
    while not kb.check().ok:
        assert time.monotonic() < deadline, kb.check().problems
        time.sleep(0.05)


def test_a_failed_background_build_is_logged_and_searches_go_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the index directory cannot be written, adds and searches go on, and the log says why there is no index."""
    with reperio.open(path, dimension=D) as kb, caplog.at_level(logging.WARNING, logger="reperio"):
        (path / "gen-000001" / "index").rmdir()
        (path / "gen-000001" / "index").write_text("in the way")
        fill(kb, 0, EXACT_ROWS + 100)
        assert_right(kb, EXACT_ROWS + 100)
    assert "the index could not be built" in caplog.text
