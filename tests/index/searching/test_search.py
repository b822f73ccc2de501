"""Candidates, tail, masks and exact scores."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reperio import IndexBuildFailed, Metric, index
from reperio.index import Searcher, Target, searcher_of
from reperio.index.searching.planning import Knobs, plan
from reperio.vectors import to_matrix
from tests.brute_force import assert_top_k, scores
from tests.pairs import in_turn

METRICS = list(Metric)
N, D = 3000, 24


def data(metric: Metric, rows: int = N, dimension: int = D, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clustered vectors and queries near them, as the collection would store them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dimension))
    points = centres[rng.integers(0, 20, rows + 30)] + 0.7 * rng.standard_normal((rows + 30, dimension))
    made = to_matrix(points, dimension=dimension, metric=metric, what="vectors")
    return made[:rows], made[rows:]


def pack(mask: np.ndarray) -> np.ndarray:
    return np.packbits(mask, bitorder="little")


def recall_of(target: Target, queries: np.ndarray, truth_rows: np.ndarray, k: int, recall: float) -> float:
    found = 0
    for query in queries:
        true = scores(target.matrix[truth_rows], query, target.metric.value)
        best = set(truth_rows[np.argsort(-true)[:k]].tolist())
        found += len(best & set(index.search(target, query[None], k, recall)[0][0]))
    return found / (k * len(queries))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, N + 5])
def test_exact_search_equals_brute_force(metric: Metric, k: int) -> None:
    """Without an index the answer is brute force's, one query at a time or many at once."""
    matrix, queries = data(metric)
    target = Target(matrix, metric, N)
    for rows_scores, query in zip(index.search(target, queries, k, 0.95), queries, strict=True):
        truth = scores(matrix, query, metric.value)
        assert_top_k(list(zip(*rows_scores, strict=True)), truth, k)
        single = index.search(target, query[None], k, 0.95)[0]
        assert single == rows_scores


def test_l2_is_exact_far_from_the_origin() -> None:
    """Distances of 0.01 between vectors of norm 10,000 are told apart, where ‖x‖²−2xy+‖y‖² would drown them."""
    rng = np.random.default_rng(1)
    matrix = (10_000 / np.sqrt(D) + 0.01 * rng.standard_normal((500, D))).astype(np.float32)
    target = Target(matrix, Metric.L2, 500)
    queries = matrix[:40] + np.float32(0.001)
    for query, (rows, _) in zip(queries, index.search(target, queries, 5, 1.0), strict=True):
        truth = scores(matrix, query, "l2")
        assert truth[rows].tolist() == sorted(truth, reverse=True)[:5]


def tuned(recipe: index.Recipe, matrix: np.ndarray, metric: Metric) -> Searcher:
    searcher = searcher_of(index.build(recipe, matrix, metric, workers=2))
    asked = index.questions(matrix, metric, given=None, factory=recipe.factory, thorough=False)
    tuned = index.measure(Target(matrix, metric, len(matrix), None, searcher), asked, thorough=False)
    return searcher_of(searcher.index, tuned.points, tuned.gather)


FACTORIES = [
    *("SQ8", "SQfp16", "IVF16,Flat", "IVF16,SQ8", "HNSW16,SQ8", "HNSW16", "PCA16,IVF8,Flat", "L2norm,SQ8"),
    *("IVF1,PQ24x4fs", "IVF16,PQ24x4fs", "PQ24x4fs", "IVF1,PQ12x4fs", "IVF16,RaBitQ"),
    "PQ24x4fs,RFlat",
]


@pytest.mark.parametrize(("factory", "metric"), in_turn(FACTORIES, METRICS))
def test_an_index_gives_exact_scores_and_the_recall_asked_for(factory: str, metric: Metric) -> None:
    """Any index gives k distinct rows, brute force's scores, and the recall; with a tail and with rows masked, too."""
    matrix, queries = data(metric)
    covered = N - 400
    searcher = tuned(index.requested(factory), matrix[:covered], metric)
    mask = np.random.default_rng(2).random(N) < 0.3
    for target, alive in (
        (Target(matrix, metric, N, None, searcher), np.arange(N)),
        (Target(matrix, metric, int(mask.sum()), pack(mask), searcher), np.flatnonzero(mask)),
    ):
        many = index.search(target, queries, 10, 0.99)
        for query, (rows, found) in zip(queries, many, strict=True):
            assert len(set(rows)) == 10
            assert set(rows) <= set(alive.tolist())
            np.testing.assert_allclose(found, scores(matrix[rows], query, metric.value), rtol=1e-4, atol=1e-5)
            assert (np.diff(found) <= 0).all()
            assert index.search(target, query[None], 10, 0.99)[0][0] == rows
        assert recall_of(target, queries, alive, 10, 0.95) >= 0.9  # 30 queries: one standard error is about 0.02
        assert recall_of(target, queries, alive, 10, 1.0) == 1.0


@pytest.mark.parametrize("factory", ["IVF64,Flat", "HNSW4", "PQ12x4fs"])
def test_the_count_is_exact_however_few_rows_are_left(factory: str) -> None:
    """Exactly min(k, rows that may be found) come back, from none to all: what an index misses is found exactly."""
    matrix, queries = data(Metric.COSINE)
    searcher = tuned(index.requested(factory), matrix, Metric.COSINE)
    for alive in (0, 1, 7, 40):
        mask = np.zeros(N, dtype=bool)
        mask[np.random.default_rng(3).choice(N, alive, replace=False)] = True
        target = Target(matrix, Metric.COSINE, alive, pack(mask), searcher)
        for query in queries[:10]:
            rows, _ = index.search(target, query[None], 25, 0.8)[0]
            assert len(rows) == min(25, alive)
            assert set(rows) <= set(np.flatnonzero(mask).tolist())


@pytest.mark.parametrize(
    ("dimension", "metric"),
    [
        *itertools.product([1, 2, 3, 5, 257], METRICS),
        pytest.param(4096, Metric.COSINE, marks=pytest.mark.campaign),
    ],
)
def test_odd_dimensions_work(dimension: int, metric: Metric) -> None:
    """The recommended index exists for every dimension, also when two do not divide it."""
    rows = 4200 if dimension < 100 else 4100
    matrix, queries = data(metric, rows, dimension)
    recipe = index.choose(rows, dimension)
    searcher = None if recipe.exact else tuned(recipe, matrix, metric)
    assert recipe.exact == (dimension < 4)
    target = Target(matrix, metric, rows, None, searcher)
    if dimension > 1 or metric is not Metric.COSINE:  # in one dimension cosine knows two directions: all ties
        assert recall_of(target, queries[:10], np.arange(rows), 10, 0.95) >= 0.9


def test_degenerate_data_can_be_indexed() -> None:
    """All vectors equal: k rows come back, in the order of adding, all with score 1."""
    matrix = np.full((5000, 8), 8**-0.5, dtype=np.float32)
    target = Target(matrix, Metric.COSINE, 5000, None, tuned(index.choose(5000, 8), matrix, Metric.COSINE))
    rows, found = index.search(target, matrix[:1], 10, 0.95)[0]
    assert len(set(rows)) == 10
    np.testing.assert_allclose(found, 1.0, atol=1e-6)
    assert index.search(target, matrix[:1], 10, 1.0)[0][0] == list(range(10))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("NOPE", "FAISS knows no index 'NOPE' for dimension 24"),
        ("IVF4096,Flat", "4096"),
        ("PQ7x4fs", "cannot build|knows no index"),
        ("LSH", "IndexLSH cannot serve here"),
        ("IDMap,Flat", "IndexIDMap cannot serve here"),
    ],
)
def test_an_index_that_cannot_be_is_refused(factory: str, message: str) -> None:
    """Unknown, untrainable and unsuitable factory strings raise with FAISS's reason, without its source line."""
    matrix, _ = data(Metric.L2)
    with pytest.raises(IndexBuildFailed, match=message) as caught:
        index.build(index.requested(factory), matrix, Metric.L2, workers=2)
    assert ".cpp" not in str(caught.value)


def test_extending_gives_the_same_answers_as_building_at_once() -> None:
    """An index filled in two steps ranks like one filled in one, with the same training."""
    matrix, queries = data(Metric.COSINE)
    recipe = index.requested("IVF1,PQ24x4fs")
    grown = index.build(recipe, matrix[:2000], Metric.COSINE, workers=1)
    grown = index.extend(grown, matrix, Metric.COSINE, "", workers=1)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(grown))
    assert grown.ntotal == N
    assert recall_of(target, queries, np.arange(N), 10, 0.999) >= 0.97


def test_a_graph_is_walked_further_the_more_rows_are_masked() -> None:
    """With a quarter of the rows alive efSearch is several times as large: masked rows fill places on the way."""
    matrix, _ = data(Metric.COSINE)
    searcher = tuned(index.requested("HNSW16,SQ8"), matrix, Metric.COSINE)
    searcher.gather = 1e6  # exact search is out of the question
    whole = plan(searcher, 0.95, 10, rows=N, count=N).knobs
    thinned = plan(searcher, 0.95, 10, rows=N, count=N // 4).knobs
    assert thinned.effort >= 2.5 * whole.effort


def test_a_graph_that_met_too_few_of_the_rows_allowed_is_not_believed() -> None:
    """Rows on the far side are met by chance on the way, if at all: then the answer is exact."""
    matrix, queries = data(Metric.COSINE)
    query = queries[0]
    near = matrix @ query
    mask = near <= np.quantile(near, 0.3)
    searcher = tuned(index.requested("HNSW16,SQ8"), matrix, Metric.COSINE)
    target = Target(matrix, Metric.COSINE, int(mask.sum()), pack(mask), searcher)
    rows, _ = index.run_one(target, query, 10, target.planned(Knobs(40, 20)))
    assert rows == np.argsort(-np.where(mask, near, -np.inf), kind="stable")[:10].tolist()


def test_what_is_remembered_between_searches_does_not_grow_with_what_is_asked() -> None:
    """Plans by recall and k, and buffers by number of candidates: a service passes on whatever its users name."""
    matrix, queries = data(Metric.COSINE)
    searcher = tuned(index.Recipe("HNSW16,SQ8", "a test", training_rows=2000), matrix, Metric.COSINE)
    target = Target(matrix, Metric.COSINE, N, None, searcher)
    for number in range(1000):
        found, _ = index.search_one(target, queries[0], 1 + number, 0.5 + number / 1e6)
        assert len(found) == 1 + number
    assert len(target.plans) <= 256
    assert len(searcher._caller._local.buffers) <= 16
