"""Exact search over float32 and float16 rows: one query, few, many; masked rows; ties."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from reperio.index.exact import exhaustive, nearest
from reperio.index.exact.nearest import nearest as nearest_of
from reperio.index.exact.scoring import best, scores_of
from reperio.layout import DTYPES, Dtype
from reperio.types import Metric
from reperio.vectors import to_float32, to_matrix, to_stored
from tests.brute_force import assert_top_k, scores

METRICS, BOTH = list(Metric), list(DTYPES)
N, D = 2500, 24


def stored(metric: Metric, dtype: Dtype, rows: int = N, dimension: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Clustered rows as a collection keeps them, and queries near them."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20, dimension))[rng.integers(0, 20, rows + 40)]
    points = points + 0.7 * rng.standard_normal(points.shape)
    made = to_matrix(points, dimension=dimension, metric=metric, what="vectors")
    return to_stored(made[:rows], dtype, what="vectors"), made[rows:]


def pack(mask: np.ndarray) -> np.ndarray:
    return np.packbits(mask, bitorder="little")


def ranked(matrix: np.ndarray, query: np.ndarray, rows: np.ndarray, k: int, metric: Metric) -> list[tuple[int, float]]:
    found = best(rows, scores_of(matrix, rows, query, metric), k, metric)
    return list(zip(*found, strict=True))


def truth(matrix: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    """Brute force's scores of the rows as kept; they are not normalised again."""
    return scores(matrix, query, "l2" if metric is Metric.L2 else "inner_product")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize(("k", "queries"), [(1, 1), (10, 1), (10, 3), (10, 40), (N + 5, 1)])
def test_candidates_hold_the_exact_best(metric: Metric, dtype: Dtype, k: int, queries: int) -> None:
    """The best of the candidates are brute force's over the rows as kept, for one query, few and many."""
    matrix, asked = stored(metric, dtype)
    found = exhaustive.candidates(exhaustive.Among(matrix, metric), asked[:queries], k)
    assert len(found) == queries
    for rows, query in zip(found, asked, strict=False):
        values = truth(matrix, query, metric)
        assert_top_k(
            ranked(matrix, query, rows, k, metric), np.clip(values, -1, 1) if metric == "cosine" else values, k
        )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("first", [0, 1, 7, 8, 1003, N - 3, N])
@pytest.mark.parametrize("part", [None, 0.9, 0.02])
def test_only_rows_to_be_considered_are_found(metric: Metric, dtype: Dtype, first: int, part: float | None) -> None:
    """A tail that begins at any row, and any mask, are kept to, and the best of what is left come back."""
    matrix, asked = stored(metric, dtype)
    mask = np.ones(N, dtype=bool) if part is None else np.random.default_rng(1).random(N) < part
    allowed = None if part is None else pack(mask)
    before = None if allowed is None else allowed.copy()
    mask[:first] = False
    alive = np.flatnonzero(mask)
    for queries in (asked[:1], asked[:8]):
        found = exhaustive.candidates(exhaustive.Among(matrix, metric, first, allowed), queries, 10)
        for rows, query in zip(found, queries, strict=True):
            assert set(rows.tolist()) <= set(alive.tolist())
            best = alive[np.argsort(-truth(matrix[alive], query, metric), kind="stable")[:10]]
            assert [row for row, _ in ranked(matrix, query, rows, 10, metric)] == best.tolist()
    if allowed is not None:
        np.testing.assert_array_equal(allowed, before)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
def test_of_equal_rows_the_earliest_win(metric: Metric, dtype: Dtype) -> None:
    """Where more rows tie than are wanted, the earliest of them come back, in order; a tail's earliest in a tail."""
    same = np.full((3000, 16), 0.25)
    same[100] = same[2500] = -0.25
    matrix = to_stored(to_matrix(same, dimension=16, metric=metric, what="v"), dtype, what="v")
    query = to_float32(matrix[:1])
    for first, mask in ((0, None), (90, None), (90, np.arange(3000) % 2 == 0)):
        allowed = None if mask is None else pack(mask)
        (rows,) = exhaustive.candidates(exhaustive.Among(matrix, metric, first, allowed), query, 20)
        wanted = [r for r in range(first, 3000) if r not in (100, 2500) and (mask is None or mask[r])][:20]
        assert [row for row, _ in ranked(matrix, query[0], rows, 20, metric)] == wanted


def test_threads_scan_float16_side_by_side() -> None:
    """Threads that search the same float16 rows at once, masked and not, all get the answers of one alone."""
    matrix, asked = stored(Metric.COSINE, "float16")
    mask = pack(np.arange(N) % 3 > 0)
    alone = [
        [exhaustive.candidates(exhaustive.Among(matrix, Metric.COSINE, allowed=m), q[None], 10)[0] for q in asked]
        for m in (None, mask)
    ]
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(60):
            i, which = (number + turn) % len(asked), turn % 2
            allowed = (None, mask)[which]
            among = exhaustive.Among(matrix, Metric.COSINE, allowed=allowed)
            (rows,) = exhaustive.candidates(among, asked[i : i + 1], 10)
            if rows.tolist() != alone[which][i].tolist():
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("rows", [N, 8])
def test_nearest_equals_brute_force(metric: Metric, dtype: Dtype, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many queries at once, over several blocks, get brute force's rows and scores, padded where there are too few."""
    monkeypatch.setattr(nearest, "_BLOCK_BYTES", 600 * 4 * D)
    matrix, asked = stored(metric, dtype)
    matrix, k = matrix[:rows], 12
    found, values = nearest_of(matrix, asked, k, metric)
    assert (found.shape, found.dtype, values.dtype) == ((len(asked), k), np.int64, np.float64)
    some = min(k, rows)
    assert (found[:, some:] == -1).all()
    assert (values[:, some:] == -np.inf).all()
    for best_of, scored, query in zip(found[:, :some], values[:, :some], asked, strict=True):
        true = truth(matrix, query, metric)
        assert best_of.tolist() == np.argsort(-true, kind="stable")[:some].tolist()
        np.testing.assert_allclose(
            scored, np.clip(true[best_of], -1, 1) if metric == "cosine" else true[best_of], atol=2e-5
        )
        assert ranked(matrix, query, best_of, some, metric) == list(zip(best_of.tolist(), scored.tolist(), strict=True))


def test_nearest_by_distance_is_exact_far_from_the_origin() -> None:
    """Distances of 0.01 between vectors of norm 10,000 are told apart for many queries, too."""
    rng = np.random.default_rng(1)
    matrix = (10_000 / np.sqrt(D) + 0.01 * rng.standard_normal((500, D))).astype(np.float32)
    queries = matrix[:60] + np.float32(0.001)
    rows, _ = nearest_of(matrix, queries, 5, Metric.L2)
    for query, found in zip(queries, rows, strict=True):
        assert scores(matrix, query, "l2")[found].tolist() == sorted(scores(matrix, query, "l2"), reverse=True)[:5]


def test_nearest_of_nothing() -> None:
    """No rows, or no queries, give padding of the right shape."""
    rows, values = nearest_of(np.empty((0, D), dtype=np.float16), np.ones((3, D), np.float32), 4, Metric.L2)
    assert (rows == -1).all()
    assert np.isneginf(values).all()
    rows, values = nearest_of(np.ones((5, D), np.float32), np.empty((0, D), np.float32), 4, Metric.COSINE)
    assert rows.shape == values.shape == (0, 4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("queries", [1, 4, 5])
@pytest.mark.parametrize("share", [0.0, 0.0008, 0.02, 0.5])
def test_rows_picked_out_hold_the_exact_best_of_them(metric: Metric, dtype: Dtype, queries: int, share: float) -> None:
    """Of a mask, for one query, few and many, whether its rows are given or have to be found."""
    matrix, asked = stored(metric, dtype)
    mask = np.random.default_rng(6).random(N) < share
    rows = np.flatnonzero(mask)
    for few in (None, rows):
        found = exhaustive.candidates(exhaustive.Among(matrix, metric, 0, pack(mask), few), asked[:queries], 10)
        assert len(found) == queries
        for each, query in zip(found, asked, strict=False):
            assert mask[each].all()
            values = truth(matrix, query, metric)[rows]
            order = rows[np.lexsort((rows, -values))[:10]]
            best = [row for row, _ in ranked(matrix, query, each, 10, metric)]
            assert set(best) == set(order.tolist())
            assert len(best) == min(10, len(rows))
