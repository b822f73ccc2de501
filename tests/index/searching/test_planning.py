"""Exactly, or by the index: the cheaper of the two, and the recall kept under any mask and for any k."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from reperio import Metric, OperatingPoint, index
from reperio.index import Questions, Searcher, Target, searcher_of
from reperio.index.searching.planning import EXACTLY, Knobs, plan
from tests.brute_force import scores
from tests.index.tuning.test_measuring import data, settled

N = 20_000
POINTS = (
    OperatingPoint(10, 8, 20, 0.96, 0.95, 0.97, 100, 120, 9000),
    OperatingPoint(10, 0, 0, 1, 1, 1, 2000, 2000, 500),
    OperatingPoint(100, 16, 150, 0.96, 0.95, 0.97, 200, 240, 4000),
    OperatingPoint(100, 0, 0, 1, 1, 1, 2000, 2000, 500),
)


@functools.cache
def tuned(factory: str, metric: Metric = Metric.COSINE) -> tuple[np.ndarray, np.ndarray, Searcher]:
    matrix, queries = data(metric, N, 700)
    built = index.build(index.requested(factory), matrix, metric, workers=2)
    target = Target(matrix, metric, N, None, searcher_of(built))
    return matrix, queries[500:], searcher_of(built, settled(target, queries[:500], (10, 100)), gather=0.1)


def masks(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Random masks of several shares, one around a point, and one of everything but a neighbourhood."""
    rng = np.random.default_rng(4)
    near = matrix @ matrix[17]
    found = {f"random {share}": rng.random(len(matrix)) < share for share in (0.9, 0.5, 0.2, 0.05, 0.01)}
    found["a neighbourhood"] = near >= np.quantile(near, 0.85)
    found["all but a neighbourhood"] = near <= np.quantile(near, 0.85)
    found["far away"] = near <= np.quantile(near, 0.1)
    return found


# Every two of factory, k and way occur together; all three in `make test-long`.
PAIRS = [
    *((factory, *rest) for factory in ("IVF64,PQ32x4fs", "HNSW16,SQ8") for rest in ((10, True), (40, False))),
    *((factory, *rest) for factory in ("IVF128,Flat", "PQ32x4fs") for rest in ((10, False), (40, True))),
]
OTHERS = [
    *((factory, *rest) for factory in ("IVF64,PQ32x4fs", "HNSW16,SQ8") for rest in ((10, False), (40, True))),
    *((factory, *rest) for factory in ("IVF128,Flat", "PQ32x4fs") for rest in ((10, True), (40, False))),
]


@pytest.mark.parametrize(
    ("factory", "k", "index_only"), [*PAIRS, *(pytest.param(*case, marks=pytest.mark.campaign) for case in OTHERS)]
)
def test_the_recall_is_kept_under_every_mask(
    factory: str, k: int, index_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 0.9, whatever the share of rows and wherever they lie; also when exact search is made too dear to choose."""
    matrix, queries, searcher = tuned(factory)
    if index_only:
        monkeypatch.setattr(searcher, "gather", 1e6)
    unmasked = [scores(matrix, query, "cosine") for query in queries[:80]]
    for name, mask in masks(matrix).items():
        count = int(mask.sum())
        if index_only and count < 0.05 * N:
            continue
        target = Target(matrix, Metric.COSINE, count, np.packbits(mask, bitorder="little"), searcher)
        shares = []
        for query, true in zip(queries[:80], unmasked, strict=True):
            least = np.partition(true[mask], -k)[-k] - 1e-6
            rows, found = index.search_one(target, query, k, 0.9)
            assert len(set(rows)) == k
            assert mask[rows].all()
            shares.append(np.mean(np.array(found) >= least))
        assert np.mean(shares) >= 0.88, name  # 80 queries: one standard error is about 0.01
        many = index.search(target, queries[:20], k, 0.9)
        assert [len(rows) for rows, _ in many] == [k] * 20


@pytest.mark.parametrize("k", [1, 25, 300, *(pytest.param(k, marks=pytest.mark.campaign) for k in (10, 100))])
@pytest.mark.parametrize("factory", ["IVF64,PQ32x4fs", "HNSW16,SQ8"])
def test_the_recall_is_kept_for_every_k(factory: str, k: int) -> None:
    """Measured for ten and a hundred, it holds between and beyond."""
    matrix, queries, searcher = tuned(factory)
    target = Target(matrix, Metric.COSINE, N, None, searcher)
    shares = []
    for query in queries[:100]:
        least = np.partition(scores(matrix, query, "cosine"), -k)[-k] - 1e-6
        shares.append(np.mean(np.array(index.search_one(target, query, k, 0.9)[1]) >= least))
    assert np.mean(shares) >= 0.88


@pytest.mark.parametrize("k", [20, 100])
@pytest.mark.parametrize("factory", ["IVF64,PQ32x4fs", "HNSW16,SQ8"])
def test_an_index_measured_for_ten_alone_serves_more(factory: str, k: int) -> None:
    """What the background has built is searched for every k, and keeps the recall, though only ten were measured."""
    matrix, queries, searcher = tuned(factory)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(searcher.index))
    quick = index.measure(target, Questions(queries[:150], "", True), thorough=False)
    assert {point.k for point in quick.points} == {10}
    searcher = searcher_of(searcher.index, quick.points, gather=1e6)
    target = Target(matrix, Metric.COSINE, N, None, searcher)
    assert plan(searcher, 0.9, k, rows=N, count=N).knobs.candidates >= k
    shares = []
    for query in queries[:100]:
        least = np.partition(scores(matrix, query, "cosine"), -k)[-k] - 1e-6
        shares.append(np.mean(np.array(index.search_one(target, query, k, 0.9)[1]) >= least))
    assert np.mean(shares) >= 0.88


def searcher_with(points: tuple[OperatingPoint, ...], gather: float = 0.1) -> Searcher:
    matrix, _ = data(Metric.COSINE, 2000, 0)
    return searcher_of(index.build(index.requested("IVF32,Flat"), matrix, Metric.COSINE, workers=1), points, gather)


def test_all_rows_are_searched_with_the_point_measured() -> None:
    """Without a mask, for ten and a hundred, the knobs are those measured."""
    searcher = searcher_with(POINTS)
    assert plan(searcher, 0.95, 10, rows=100_000, count=100_000).knobs == Knobs(8, 20)
    assert plan(searcher, 0.95, 1, rows=100_000, count=100_000).knobs == Knobs(8, 20)
    assert plan(searcher, 0.95, 100, rows=100_000, count=100_000).knobs == Knobs(16, 150)


def test_between_the_measured_k_the_effort_lies_between() -> None:
    """On a line in logarithms."""
    searcher = searcher_with(POINTS)
    effort, candidates = plan(searcher, 0.95, 31, rows=100_000, count=100_000).knobs
    assert 8 < effort < 16
    assert 20 < candidates < 150


def test_the_smaller_the_share_the_harder_the_search_until_it_is_exact() -> None:
    """A mask is searched as a larger k; few rows are compared one by one."""
    searcher = searcher_with(POINTS)
    efforts = [
        plan(searcher, 0.95, 10, rows=100_000, count=count).knobs.effort for count in (100_000, 50_000, 20_000, 10_000)
    ]
    assert efforts == sorted(efforts)
    assert efforts[0] < efforts[-1]
    assert plan(searcher, 0.95, 10, rows=100_000, count=500).knobs == EXACTLY


def test_a_recall_that_no_point_reaches_is_searched_exactly() -> None:
    """So is everything without points, and a k for which only exact search reaches it."""
    searcher = searcher_with(POINTS)
    assert plan(searcher, 0.99, 10, rows=100_000, count=100_000).knobs == EXACTLY
    assert plan(searcher_with(()), 0.5, 10, rows=100_000, count=100_000).knobs == EXACTLY
    assert plan(searcher_with((*POINTS[:2], POINTS[3])), 0.95, 100, rows=100_000, count=100_000).knobs == EXACTLY


def test_exact_search_is_taken_where_it_is_quicker() -> None:
    """A few thousand rows of few dimensions are compared sooner than an index is asked."""
    assert plan(searcher_with(POINTS, gather=0.01), 0.95, 10, rows=2000, count=2000).knobs == EXACTLY
