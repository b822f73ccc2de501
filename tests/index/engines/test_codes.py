"""Codes beside a graph: packed by mask when that pays, within bounded memory; the recall kept wherever a mask lies."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from reperio import Metric, OperatingPoint, index
from reperio.index import Searcher, Target, searcher_of
from reperio.index.engines.codes import GraphCodes
from reperio.index.searching.planning import EXACTLY, Knobs, plan, plan_codes
from reperio.index.searching.search import run
from tests.brute_force import scores
from tests.index.tuning.test_measuring import data

N = 20_000
METRICS = list(Metric)
FACTORY = "PCA24,HNSW16,SQ8,Refine(PQ16x4)"
EVERY_TIME = float("inf")  # µs saved: packing pays at once


@functools.cache
def built(metric: Metric = Metric.COSINE, factory: str = FACTORY) -> tuple[np.ndarray, np.ndarray, Searcher]:
    """Return rows, queries and the graph, with one point measured for the codes, and one of a graph as slow as can be.

    The price of the points is by rule, so that the codes are what is planned under every mask.
    """
    matrix, queries = data(metric, N, 300)
    searcher = searcher_of(index.build(index.requested(factory), matrix, metric, workers=2))
    points = [OperatingPoint(10, 0, 0, 1, 1, 1, 1e5, 1e5, 10), OperatingPoint(10, 400, 400, 1, 1, 1, 5e3, 5e3, 200)]
    assert searcher.codes is not None
    for count in (20, 40, 80, 160):
        shares = []
        for query, rows in zip(queries[200:], searcher.codes.all.search(queries[200:], count), strict=True):
            values = scores(matrix, query, metric.value)
            shares.append(np.mean(np.isin(np.argsort(-values)[:10], rows)))
        mean = float(np.mean(shares))
        points.append(OperatingPoint(10, 0, count, mean, mean - 0.01, mean + 0.01, 50 + count / 4, 90, 9000))
    return matrix, queries[:100], searcher_of(searcher.index, points, gather=0.1)


def masks(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Random masks and masks that follow the vectors, of several shares."""
    rng = np.random.default_rng(4)
    along = matrix @ np.linalg.svd(matrix[:2000], full_matrices=False)[2][0]
    found = {f"random {share}": rng.random(len(matrix)) < share for share in (0.8, 0.5, 0.2, 0.05, 0.01)}
    found |= {f"one end {share}": along >= np.quantile(along, 1 - share) for share in (0.5, 0.1, 0.03)}
    found |= {f"the other end {share}": along <= np.quantile(along, share) for share in (0.5, 0.1, 0.03)}
    return found


def narrowed(matrix: np.ndarray, mask: np.ndarray, searcher: Searcher, metric: Metric = Metric.COSINE) -> Target:
    return Target(matrix, metric, int(mask.sum()), np.packbits(mask, bitorder="little"), searcher)


@pytest.mark.parametrize(
    "metric", [METRICS[0], *(pytest.param(metric, marks=pytest.mark.campaign) for metric in METRICS[1:])]
)
def test_the_recall_is_kept_wherever_the_mask_lies(metric: Metric) -> None:
    """By the codes, at 0.95, under random masks and masks along the first component; exactly k, all of them allowed."""
    matrix, queries, searcher = built(metric)
    unmasked = [scores(matrix, query, metric.value) for query in queries]
    for name, mask in masks(matrix).items():
        target = narrowed(matrix, mask, searcher, metric)
        planned = target.planned(plan_codes(searcher, 0.95, 10, rows=N, count=target.count).knobs)
        assert planned.instead is not None
        many = run(target, queries[:20], 10, planned)
        shares = []
        for i, query in enumerate(queries):
            rows, _ = index.run_one(target, query, 10, planned)
            assert len(set(rows)) == 10
            assert mask[rows].all()
            assert i >= 20 or many[i][0] == rows
            least = np.partition(unmasked[i][mask], -10)[-10] - 1e-5
            shares.append(np.mean(scores(matrix[rows], query, metric.value) >= least))
        assert np.mean(shares) >= 0.94, name  # 100 queries: one standard error is about 0.01


@pytest.mark.parametrize(
    "factory",
    [
        "HNSW8,SQ8,Refine(Pad36,PQ9x4)",
        *(pytest.param(each, marks=pytest.mark.campaign) for each in ("HNSW8,SQ8,Refine(PQ32x4)", FACTORY)),
    ],
)
def test_a_scan_finds_what_the_codes_say(factory: str) -> None:
    """The nearest codes are those that FAISS finds by decoding them, with transforms in front of them or without."""
    matrix, queries, searcher = built(factory=factory)
    mask = masks(matrix)["random 0.05"]
    rows = np.flatnonzero(mask)
    packed = GraphCodes(searcher.index.refine_index).packed(b"", len(rows), lambda: rows, EVERY_TIME)
    assert packed is not None
    decoded = searcher.index.refine_index.reconstruct_n(0, N)[rows]
    shares = []
    for query in queries[:30]:
        nearest = rows[np.argsort(-(decoded @ query))[:50]]
        shares.append(np.mean(np.isin(nearest[:25], packed.search_one(query, 50))))
    assert np.mean(shares) > 0.95  # distances are rounded to 8 bits on the way


def test_the_graph_of_an_index_with_codes_is_searched_as_one_without() -> None:
    """What FAISS would do with such an index, rescore by the codes, is not done."""
    _, queries, searcher = built()
    assert searcher.is_graph
    assert searcher.takes_selector
    assert searcher.returns_prefixes
    plain = searcher_of(searcher.index.base_index)
    for query in queries[:10]:
        both = [each.search_one(query, 20, each.params(60, 20)).tolist() for each in (searcher, plain)]
        assert both[0] == both[1]


def test_all_rows_are_scanned_where_that_is_the_cheapest_point() -> None:
    """Without a mask, too: at a recall for which the graph has become slower than the codes."""
    matrix, queries, searcher = built()
    target = Target(matrix, Metric.COSINE, N, None, searcher)
    planned = target.plan(0.95, 10)
    assert planned.instead is not None
    rows, found = index.search_one(target, queries[0], 10, 0.95)
    assert found == sorted(found, reverse=True)
    assert len(set(rows)) == 10


def test_a_mask_is_packed_once_its_searches_would_have_paid_for_it() -> None:
    """Not for the first that saves little; at once where one alone saves more than packing costs."""
    _, _, searcher = built()
    codes = GraphCodes(searcher.index.refine_index)
    rows = np.arange(0, N, 2)
    asked = [codes.packed(b"a", len(rows), lambda: rows, 50) is not None for _ in range(8)]
    assert asked == [False] * 3 + [True] * 5  # 10,000 codes of 8 bytes: 160 µs
    assert codes.packed(b"b", len(rows), lambda: rows, 1000) is not None


def test_before_its_codes_are_packed_a_mask_is_searched_without() -> None:
    """The first answer is that of the way without codes, here exact search; the mask is packed for the second."""
    matrix, queries, searcher = built()
    fresh = searcher_of(searcher.index, searcher.points, gather=0.02)
    mask = masks(matrix)["random 0.5"]
    target = narrowed(matrix, mask, fresh)
    assert plan(fresh, 0.95, 10, rows=N, count=target.count).knobs == EXACTLY
    planned = target.plan(0.95, 10)
    assert planned.instead is not None
    assert 80 < planned.saving < 160  # 10,000 codes of 8 bytes are packed in 160 µs
    rows, _ = index.search_one(target, queries[0], 10, 0.95)
    assert rows == np.argsort(-np.where(mask, matrix @ queries[0], -np.inf), kind="stable")[:10].tolist()
    assert target.packed(0.0) is None
    index.search_one(target, queries[1], 10, 0.95)
    assert target.packed(0.0) is not None


def test_packed_codes_outlive_a_commit_that_hides_no_other_rows() -> None:
    """A target of a later state, with a tail, finds the codes of the same mask packed, and the tail beside them."""
    matrix, queries, searcher = built()
    covered = searcher_of(searcher.index, searcher.points)
    mask = masks(matrix)["random 0.2"]
    knobs = Knobs(0, 80)
    first = narrowed(matrix, mask, covered)
    index.run_one(first, queries[0], 10, first.planned(knobs))
    later = np.concatenate((mask, np.ones(16, dtype=bool)))
    grown = np.concatenate((matrix, queries[:16]))
    target = narrowed(grown, later, covered)
    assert target.packed(0.0) is first.packed(0.0)
    for i, query in enumerate(queries[:16]):
        rows, _ = index.run_one(target, query, 10, target.planned(knobs))
        assert rows[0] == N + i
        assert len(set(rows)) == 10


def test_packed_codes_take_no_more_memory_than_the_codes() -> None:
    """Of more masks than fit, those used longest ago are dropped, and packed again when they are used again."""
    _, _, searcher = built()
    codes = GraphCodes(searcher.index.refine_index)
    made = {}
    for i in range(5):
        rows = np.arange(i, N, 3)
        made[i] = codes.packed(bytes([i]), len(rows), lambda rows=rows: rows, EVERY_TIME)
    held = [codes.packed(bytes([i]), N, lambda: np.arange(N), 0.0) for i in range(5)]
    assert [each is not None for each in held] == [False, False, True, True, True]
    assert held[4] is made[4]
    again = codes.packed(bytes([0]), N // 3, lambda: np.arange(0, N, 3), EVERY_TIME)
    assert again is not None
    assert again is not made[0]


def test_masks_of_hardly_any_rows_are_not_remembered_without_end() -> None:
    """Their codes take next to no memory, what surrounds them does: a thousand of them are kept."""
    _, _, searcher = built()
    codes = GraphCodes(searcher.index.refine_index)
    for i in range(1100):
        assert codes.packed(i.to_bytes(4, "little"), i % 2, lambda i=i: np.arange(i % 2), EVERY_TIME) is not None
    assert len(codes._known) == 1024


@pytest.mark.parametrize("alive", [0, 1, 7, 40])
def test_the_count_is_exact_however_few_rows_are_left(alive: int) -> None:
    """Exactly min(k, rows that may be found), also where the index covers none of them."""
    matrix, queries, searcher = built()
    for low, high in ((0, N), (N - 100, N)):
        mask = np.zeros(N, dtype=bool)
        mask[np.random.default_rng(3).choice(np.arange(low, high), alive, replace=False)] = True
        target = narrowed(matrix, mask, searcher)
        rows, _ = index.run_one(target, queries[0], min(25, alive), target.planned(Knobs(0, 60)))
        assert sorted(rows) == (np.flatnonzero(mask).tolist() if alive < 25 else sorted(set(rows)))
        assert len(rows) == min(25, alive)
    tail = np.concatenate((matrix, queries[:alive]))
    target = narrowed(tail, np.arange(len(tail)) >= N, searcher)
    rows, _ = index.run_one(target, queries[0], min(25, alive), target.planned(Knobs(0, 60)))
    assert len(rows) == min(25, alive)


def test_threads_share_the_packed_codes() -> None:
    """Eight threads under eight masks, more than are kept: each finds what one thread finds alone."""
    matrix, queries, searcher = built()
    fresh = searcher_of(searcher.index, searcher.points)
    every = [np.random.default_rng(i).random(N) < 0.3 for i in range(8)]
    knobs = Knobs(0, 80)

    def find(mask: np.ndarray, where: Searcher) -> list[list[int]]:
        found = []
        for query in queries[:40]:
            target = narrowed(matrix, mask, where)
            found.append(index.run_one(target, query, 10, target.planned(knobs))[0])
        return found

    alone = [find(mask, searcher_of(searcher.index, searcher.points)) for mask in every]
    together: dict[int, list[list[int]]] = {}
    workers = [
        threading.Thread(target=lambda i=i, mask=mask: together.update({i: find(mask, fresh)}))
        for i, mask in enumerate(every)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [together[i] for i in range(8)] == alone
