"""Exact search among rows that float32 cannot tell apart: float64's order, whatever path finds the rows."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reperio.index import Target, run_one, search, search_one, searcher_of
from reperio.index.exact.nearest import nearest
from reperio.index.searching.planning import Knobs
from reperio.index.searching.search import run
from reperio.layout import DTYPES, Dtype
from reperio.types import Metric
from reperio.vectors import to_float32, to_matrix, to_stored

METRICS, BOTH = list(Metric), list(DTYPES)


def close_together(
    rows: int, spread: float, metric: Metric, dtype: Dtype, *, dimension: int = 96, seed: int = 0, others: int = 400
) -> np.ndarray:
    """Rows around one point, among others that lie elsewhere, as a collection keeps them."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(dimension)
    cluster = centre + spread * np.linalg.norm(centre) / np.sqrt(dimension) * rng.standard_normal((rows, dimension))
    points = np.concatenate((cluster, rng.standard_normal((others, dimension))))
    made = to_matrix(points, dimension=dimension, metric=metric, what="vectors")
    return to_stored(made, dtype, what="vectors")


def truth(matrix: np.ndarray, query: np.ndarray, metric: Metric, k: int, mask: np.ndarray | None = None) -> list[int]:
    """Return the *k* best by float64 scores of the rows as kept, then by row."""
    wide, vector = matrix.astype(np.float64), query.astype(np.float64)
    apart = wide - vector
    values = -np.vecdot(apart, apart) if metric is Metric.L2 else np.vecdot(wide, vector)
    order = np.lexsort((np.arange(len(matrix)), -values))
    return [int(row) for row in order if mask is None or mask[row]][:k]


def pack(mask: np.ndarray) -> np.ndarray:
    return np.packbits(mask, bitorder="little")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4])
def test_each_row_of_a_tight_cluster_is_found_by_its_own_vector(metric: Metric, dtype: Dtype, spread: float) -> None:
    """One query, few and many, under a mask of few rows, of most, and of none: always float64's order."""
    matrix = close_together(60, spread, metric, dtype)
    queries = to_float32(matrix[:60]).copy()
    most, some = np.arange(len(matrix)) != 0, np.arange(len(matrix)) % 2 == 0
    for mask in (None, most, some):
        target = Target(matrix, metric, len(matrix))
        if mask is not None:
            target = replace(target, count=int(mask.sum()), allowed=pack(mask))
        many = search(target, queries, 5, 1.0)
        for some_queries in (queries[7:8], queries[30:33]):
            few = search(target, some_queries, 5, 1.0)
            for found, query in zip(few, some_queries, strict=True):
                assert found[0] == truth(matrix, query, metric, 5, mask)
        for i, query in enumerate(queries):
            assert many[i][0] == truth(matrix, query, metric, 5, mask)
            assert search_one(target, query, 1, 1.0)[0] == many[i][0][:1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
def test_a_tight_cluster_beyond_the_index_is_found_in_order(metric: Metric, dtype: Dtype) -> None:
    """The newest rows, which the index does not hold, are told apart as if they were all there is."""
    near = close_together(50, 1e-3, metric, dtype, others=0)
    matrix = np.concatenate((close_together(0, 1, metric, dtype, others=300), near))
    index = faiss.IndexFlat(matrix.shape[1], faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)
    index.add(to_float32(matrix[:300]))
    for mask in (None, np.arange(350) != 300):
        target = Target(matrix, metric, 350, None, searcher_of(index))
        if mask is not None:
            target = replace(target, count=349, allowed=pack(mask))
        planned = target.planned(Knobs(0, 20))
        queries = to_float32(matrix[300:]).copy()
        for query, many in zip(queries, run(target, queries, 3, planned), strict=True):
            expected = truth(matrix, query, metric, 3, mask)
            assert run_one(target, query, 3, planned)[0] == many[0] == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from(BOTH),
    rows=st.integers(1, 700),
    dimension=st.integers(1, 70),
    spread=st.sampled_from([0.0, 1e-8, 1e-6, 1e-4, 1e-2]),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
    uneven=st.sampled_from([0.0, 2.0, 6.0]),
    copies=st.integers(1, 3),
    k=st.integers(1, 40),
    queries=st.sampled_from([1, 3, 9]),
    share=st.sampled_from([None, 0.03, 0.6]),
    seed=st.integers(0, 10_000),
)
def test_exact_search_is_float64_brute_force(
    metric: Metric, dtype: Dtype, rows: int, dimension: int, spread: float, offset: float, uneven: float,
    copies: int, k: int, queries: int, share: float | None, seed: int,
) -> None:  # fmt: skip
    """Whatever the rows: clusters, copies, far from the origin, of lengths that differ by powers of ten."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, dimension)) + offset
    points = centres[rng.integers(0, 4, rows)]
    points = points + spread * np.linalg.norm(points, axis=1, keepdims=True) * rng.standard_normal((rows, dimension))
    points *= 10 ** (uneven * (rng.random((rows, 1)) - 1))
    points = np.repeat(points, copies, axis=0)[rng.permutation(rows * copies)]
    made = to_matrix(points, dimension=dimension, metric=metric, what="v")
    # float16 keeps nothing of a component below 3e-8, and such a vector is refused.
    assume(dtype == "float32" or np.abs(made).max(axis=1).min() > 1e-6)
    matrix = to_stored(made, dtype, what="v")
    asked = points[rng.integers(0, len(points), queries)] * (1 + 1e-5 * rng.standard_normal((queries, dimension)))
    asked = to_matrix(asked, dimension=dimension, metric=metric, what="q")
    mask = None if share is None else rng.random(len(matrix)) < share
    target = Target(matrix, metric, len(matrix))
    if mask is not None:
        target = replace(target, count=int(mask.sum()), allowed=pack(mask))
    for found, query in zip(search(target, asked, k, 1.0), asked, strict=True):
        assert found[0] == truth(matrix, query, metric, k, mask)


@pytest.mark.parametrize("queries", [1, 8])
def test_a_long_row_does_not_hide_a_better_one(queries: int) -> None:
    """Under inner product a row's rounding grows with its length, not with its score: the longest sets the doubt."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        query = rng.standard_normal(64)
        points = rng.standard_normal((300, 64))
        points -= np.outer(points @ query / (query @ query), query)  # nothing of the query in them
        points *= 1e6
        points = points.astype(np.float32).astype(np.float64)
        points += np.outer(rng.random(300) * 1e-2, query)
        matrix = points.astype(np.float32)
        asked = np.repeat(query[None], queries, axis=0).astype(np.float32)
        for mask in (None, np.arange(300) > 4):
            target = Target(matrix, Metric.INNER_PRODUCT, 300)
            if mask is not None:
                target = replace(target, count=295, allowed=pack(mask))
            for found in search(target, asked, 3, 1.0):
                assert found[0] == truth(matrix, asked[0], Metric.INNER_PRODUCT, 3, mask)


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize("scale", [1e-24, 1e-15, 1e17])
@pytest.mark.parametrize("queries", [1, 8])
def test_lengths_at_the_ends_of_float32_are_ranked_rightly(metric: Metric, scale: float, queries: int) -> None:
    """Also those that older versions took, whose squares vanish in float32: then float64 decides alone."""
    matrix = (scale / 8 * np.random.default_rng(4).standard_normal((300, 64))).astype(np.float32)
    for found, query in zip(search(Target(matrix, metric, 300), matrix[:queries], 5, 1.0), matrix, strict=False):
        assert found[0] == truth(matrix, query, metric, 5)
        assert len(set(found[1])) == 5


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", BOTH)
def test_neighbours_of_many_queries_in_a_tight_cluster_are_exact(metric: Metric, dtype: Dtype) -> None:
    """The truth that indexes are tuned against knows 3,000 rows apart that lie within float32's rounding."""
    matrix = close_together(3000, 1e-3, metric, dtype, dimension=24)
    queries = to_float32(matrix[:40]).copy()
    rows, scores = nearest(matrix, queries, 6, metric)
    for found, scored, query in zip(rows, scores, queries, strict=True):
        assert found.tolist() == truth(matrix, query, metric, 6)
        assert (np.diff(scored) <= 0).all()


def test_the_score_of_a_row_at_no_distance_is_not_negative_zero() -> None:
    """Under L2 a stored vector finds itself at a score that prints 0.0."""
    matrix = close_together(5, 0.1, Metric.L2, "float32")
    _, scores = search_one(Target(matrix, Metric.L2, len(matrix)), matrix[2], 1, 1.0)
    assert str(scores[0]) == "0.0"


_SAME = """
import resource
import numpy as np
from reperio.index import Target, search, search_one
from reperio.types import Metric
rows, dimension = 100_000, 384
for dtype, metric in ((np.float32, Metric.COSINE), (np.float16, Metric.L2)):
    matrix = np.full((rows, dimension), dimension**-0.5, dtype=dtype)
    query = matrix[:1].astype(np.float32)
    allowed = np.packbits(np.arange(rows) % 3 > 0, bitorder="little")
    whole = Target(matrix, metric, rows)
    masked = Target(matrix, metric, int(np.bitwise_count(allowed).sum()), allowed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert search_one(whole, query[0], 10, 1.0)[0] == list(range(10))
    assert search_one(masked, query[0], 4, 1.0)[0] == [1, 2, 4, 5]
    found = search(whole, np.repeat(query, 6, axis=0), 10, 1.0)
    assert all(each[0] == list(range(10)) for each in found)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000, "KiB"
"""


def test_a_hundred_thousand_identical_vectors_are_searched_in_little_memory() -> None:
    """All rows are in doubt: the earliest come back, in blocks, far from a float64 copy of them all (300 MB)."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _SAME], cwd=root, env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True, text=True, timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
