"""Operating points: measured on held-out queries, and kept on others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from reperio import Metric, OperatingPoint, index
from reperio.index import Questions, Target, searcher_of
from reperio.index.exact.nearest import nearest
from reperio.index.searching.planning import Knobs, cheapest
from reperio.index.searching.search import Plan
from reperio.index.tuning import measuring
from reperio.index.tuning.measuring import front, in_order, interval, recalls
from reperio.vectors import to_matrix
from tests.brute_force import scores

D, N = 32, 12_000


def data(metric: Metric, rows: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors in overlapping clusters of few directions, and queries of the same kind that are not stored."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((60, D))
    basis = rng.standard_normal((60, 8, D)) / 3
    of = rng.integers(0, 60, rows + queries)
    points = centres[of] + np.einsum("nk,nkd->nd", rng.standard_normal((rows + queries, 8)), basis[of])
    points += 0.15 * rng.standard_normal(points.shape)
    made = to_matrix(points, dimension=D, metric=metric, what="vectors")
    return made[:rows], made[rows:]


def settled(target: Target, queries: np.ndarray, ks: tuple[int, ...] = (10,)) -> tuple[OperatingPoint, ...]:
    """Return measured recalls with a price by rule instead of a clock, so that every run takes the same points."""
    _, found = nearest(target.matrix, queries, max(ks), target.metric)
    points = []
    for k in ks:
        for knobs, share in recalls(target, queries, k, found[:, k - 1] - np.float32(1e-6)).items():
            price = 10 + 3 * knobs.effort + 0.5 * knobs.candidates
            points.append(OperatingPoint(k, *knobs, *share, price, price, 1e6 / price))
        points.append(OperatingPoint(k, 0, 0, 1, 1, 1, 1e5, 1e5, 10))
    return tuple(points)


def recall_of(target: Target, queries: np.ndarray, least: np.ndarray, knobs: Knobs, k: int) -> np.ndarray:
    """Return the recall of each query, by brute force's k-th score."""
    planned = target.planned(knobs)
    found = [index.run_one(target, query, k, planned)[1] for query in queries]
    return np.array([np.mean(np.array(scored) >= bound) for scored, bound in zip(found, least, strict=True)])


def thresholds(matrix: np.ndarray, queries: np.ndarray, metric: Metric, k: int) -> np.ndarray:
    return np.array([np.partition(scores(matrix, query, metric.value), -k)[-k] for query in queries]) - 1e-5


@pytest.mark.parametrize(
    ("factory", "repetitions"),
    [
        ("IVF64,PQ32x4fs", 5),
        *(pytest.param(factory, 50, marks=pytest.mark.campaign) for factory in ("IVF64,PQ32x4fs", "HNSW16,SQ8")),
    ],
)
def test_points_hold_on_queries_that_were_not_used_for_tuning(factory: str, repetitions: int) -> None:
    """In repetitions with other queries, the recall of the point chosen lies in the interval stated, all except one."""
    metric = Metric.COSINE
    matrix, pool = data(metric, N, 11_000)
    built = index.build(index.requested(factory), matrix, metric, workers=2)
    target = Target(matrix, metric, N, None, searcher_of(built))
    fresh = pool[:4000]
    least = thresholds(matrix, fresh, metric, 10)
    known: dict[Knobs, float] = {}
    inside = 0
    rng = np.random.default_rng(11)
    for _ in range(repetitions):
        asked = pool[4000 + rng.choice(7000, 400, replace=False)]
        point = index.cheapest(settled(target, asked), 0.95, 10)
        assert point is not None
        assert point.candidates
        knobs = Knobs(point.effort, point.candidates)
        if knobs not in known:
            known[knobs] = float(recall_of(target, fresh, least, knobs, 10).mean())
        assert known[knobs] >= 0.95 - 0.003  # 4,000 fresh queries: one standard error is about 0.001
        inside += point.low <= known[knobs] <= point.high
    assert inside >= repetitions - 1


@pytest.mark.parametrize("timed", ["by a clock", "by rule"])
def test_points_are_worth_having_and_sorted(timed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheapest first, more recall for more time, exact search last at recall 1, for k = 10 and 100."""
    matrix, queries = data(Metric.L2, N, 300)
    built = index.build(index.requested("IVF64,PQ32x4fs"), matrix, Metric.L2, workers=2)
    target = Target(matrix, Metric.L2, N, None, searcher_of(built))
    if timed == "by rule":  # a busy machine's clock may leave two of many settings: by rule, each has its price
        monkeypatch.setattr(measuring, "_clock", priced)
    seen: dict[str, int] = {}
    tuned = index.measure(
        target,
        Questions(queries, "300 queries given", True),
        thorough=True,
        progress=lambda stage, done, _: seen.update({stage: done}),
    )
    assert seen["answers"] == N
    assert list(seen) == ["answers", "tune"]
    assert tuned.origin == "300 queries given"
    assert tuned.gather > 0
    for k in (10, 100):
        points = [point for point in tuned.points if point.k == k]
        assert [point.p50 for point in points] == sorted(point.p50 for point in points)
        indexed = [point for point in points if point.candidates]
        assert len(indexed) >= (3 if timed == "by rule" else 1)
        for a, b in itertools.pairwise(indexed):
            assert b.low >= a.low or b.p50 <= 1.05 * a.p50 + 0.1  # less recall only within the noise of times
        [exact] = [point for point in points if not point.candidates]
        assert (exact.recall, exact.low) == (1, 1)
        for point in indexed:
            assert point.low <= point.recall <= point.high
            assert point.p50 <= point.p95
            assert point.rate > 0
            assert point.candidates >= k


def priced(target: Target, queries: np.ndarray, k: int, planned: Plan) -> np.ndarray:
    """Return the same time for each query: more for more effort and candidates, and most for exact search."""
    del target, k
    price = 10 + 3 * planned.params.nprobe + 0.5 * planned.candidates if planned.params else 1e5
    return np.full(len(queries), price)


@pytest.mark.parametrize("factory", ["IVF64,PQ32x4fs", "HNSW16,SQ8"])
def test_efforts_lie_close_where_searches_ask(factory: str) -> None:
    """Between lower bounds of 0.85 and 0.99 no effort is more than an eighth, or one step, beyond the one before."""
    matrix, queries = data(Metric.COSINE, N, 600)
    built = index.build(index.requested(factory), matrix, Metric.COSINE, workers=2)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(built))
    least = thresholds(matrix, queries, Metric.COSINE, 10).astype(np.float32)
    reached: dict[int, float] = {}
    for knobs, share in recalls(target, queries, 10, least).items():
        reached[knobs.effort] = max(share.low, reached.get(knobs.effort, 0.0))
    efforts = [effort for effort, low in sorted(reached.items()) if 0.85 <= low <= 0.99]
    assert len(efforts) > 5
    for low, high in itertools.pairwise(efforts):
        assert high <= max(low + 1, 1.14 * low)


def test_what_no_setting_reaches_is_searched_exactly() -> None:
    """Sixteen bits for 32 random dimensions: no number of candidates gives 0.99, so only exact search does."""
    rng = np.random.default_rng(0)
    matrix = to_matrix(rng.standard_normal((4000, 32)), dimension=32, metric=Metric.COSINE, what="vectors")
    queries = to_matrix(rng.standard_normal((100, 32)), dimension=32, metric=Metric.COSINE, what="vectors")
    built = index.build(index.requested("IVF1,PQ4x4fs"), matrix, Metric.COSINE, workers=2)
    target = Target(matrix, Metric.COSINE, 4000, None, searcher_of(built))
    tuned = index.measure(target, Questions(queries, "", True), thorough=False)
    point = index.cheapest(tuned.points, 0.99, 10)
    assert point is not None
    assert point.candidates == 0
    target = Target(matrix, Metric.COSINE, 4000, None, searcher_of(built, tuned.points, tuned.gather))
    for query in queries[:20]:
        rows, _ = index.search_one(target, query, 10, 0.99)
        assert set(rows) == set(np.argsort(-scores(matrix, query, "cosine"))[:10].tolist())


def test_front_clocks_few_settings_and_misses_none() -> None:
    """Of 96 settings, those on the front of recall and time are found, and others are left unclocked."""
    recalls = {
        Knobs(effort, step): (1 - 0.5 ** (effort / 3)) * (1 - 0.3 ** (step / 10))
        for effort in (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)
        for step in (10, 15, 20, 30, 40, 60, 100, 200)
    }
    times = {knobs: 20.0 + 3 * knobs.effort + 0.5 * knobs.candidates for knobs in recalls}
    clocked = []

    def clock(knobs: Knobs) -> float:
        clocked.append(knobs)
        return times[knobs]

    found = front(recalls, clock)
    best = {
        knobs for knobs in recalls if not any(times[o] < times[knobs] and recalls[o] >= recalls[knobs] for o in recalls)
    }
    assert best <= set(found)
    assert all(found[knobs] == times[knobs] for knobs in found)
    assert len(clocked) < len(recalls)
    assert len(clocked) == len(set(clocked))


def test_a_disturbed_clock_takes_no_cheaper_setting_away() -> None:
    """Settings whose time was taken while the machine was busy stay on the front, where only greater ones beat them."""
    recalls = {Knobs(effort, 10): 1 - 0.5 ** (effort / 20) for effort in (10, 20, 30, 40, 60, 80, 120, 160)}
    busy = {Knobs(20, 10), Knobs(30, 10), Knobs(60, 10)}
    found = front(recalls, lambda knobs: (3.0 if knobs in busy else 1.0) * (20.0 + knobs.effort))
    assert set(found) == set(recalls)

    settled = in_order(found)
    times = [settled[knobs] for knobs in sorted(settled)]
    assert times == sorted(times)
    assert settled[Knobs(10, 10)] == 30.0  # nothing says that it was disturbed
    assert settled[Knobs(160, 10)] == 210.0  # between its own 180 and the 240 of a smaller one
    quiet = {knobs: 20.0 + knobs.effort for knobs in recalls}
    assert in_order(quiet) == quiet


def test_a_busy_machine_chooses_the_effort_of_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the settings of even effort are clocked at twice their time, a search takes those of a quiet machine."""
    matrix, queries = data(Metric.COSINE, N, 300)
    built = index.build(index.requested("HNSW4,Flat"), matrix, Metric.COSINE, workers=1)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(built))

    def efforts(slower: float) -> list[int | None]:
        def clock(target: Target, queries: np.ndarray, k: int, planned: Plan) -> np.ndarray:
            del target, k
            if planned.params is None:
                return np.full(len(queries), 1e5)
            effort = planned.params.efSearch
            return np.full(len(queries), (1.0 if effort % 2 else slower) * (10 + effort + 0.1 * planned.candidates))

        monkeypatch.setattr(measuring, "_clock", clock)
        points = index.measure(target, Questions(queries, "300 queries given", True), thorough=True).points
        chosen = (cheapest(points, recall, 10) for recall in (0.8, 0.85, 0.9, 0.93, 0.95, 0.97))
        return [point and point.effort for point in chosen]

    quiet = efforts(1.0)
    assert None not in quiet
    assert len(set(quiet)) > 3
    assert any(effort and effort % 2 == 0 for effort in quiet)
    assert efforts(2.0) == quiet


def test_an_interval_is_never_certain_and_narrows_with_the_queries() -> None:
    """A sample without a miss leaves room for some; ten times the queries leave a third of the room."""
    assert interval(np.ones(1000)).low == pytest.approx(0.998, abs=2e-4)
    assert interval(np.ones(100)).low < 0.995
    rng = np.random.default_rng(2)
    few, many = (interval(rng.choice([0.9, 1.0], count)) for count in (100, 10_000))
    assert 8 < (few.high - few.low) / (many.high - many.low) < 16  # the imagined query weighs more among few
    covered = 0
    for _ in range(400):
        share = interval(rng.binomial(10, 0.95, 300) / 10)
        covered += share.low <= 0.95 <= share.high
    assert covered >= 390


@pytest.mark.parametrize("metric", list(Metric))
def test_stored_vectors_serve_as_queries_when_there_are_no_others(metric: Metric) -> None:
    """They are moved away from where they are stored, stay of the collection's kind, and are the same every time."""
    matrix, _ = data(metric, 5000, 0)
    first, again = (index.questions(matrix, metric, given=None, factory="HNSW32,SQ8", thorough=True) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert not first.given
    assert "real questions may be harder" in first.origin
    assert first.vectors.dtype == np.float32
    assert len(first.vectors) == 1000
    assert np.isfinite(first.vectors).all()
    nearest = np.array([scores(matrix, query, "l2").max() for query in first.vectors[:50]])
    assert (nearest < 0).all()
    if metric is Metric.COSINE:
        np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-5)


def test_stored_vectors_are_moved_as_far_as_the_index_needs() -> None:
    """A graph of FAISS is flattered most, then one of reduced vectors, then SymphonyQG, then lists."""
    matrix, _ = data(Metric.L2, 2000, 0)

    def moved(factory: str) -> np.ndarray:
        return index.questions(matrix, Metric.L2, given=None, factory=factory, thorough=False).vectors

    lists, graph = moved("SQ8"), moved("HNSW32,SQ8")
    for factory in ("PCA24,IVF64,PQ24x4fs", "IVF256_HNSW32,SQ8", ""):
        np.testing.assert_array_equal(moved(factory), lists)
    for factory in ("CAGRA64,SQ8", "HNSW32,SQ8,Refine(PQ8x4)"):
        np.testing.assert_array_equal(moved(factory), graph)
    # The same vectors in the same directions: how much of the way lies between.
    symphony, reduced = (
        np.linalg.norm(moved(factory) - lists, axis=1) / np.linalg.norm(graph - lists, axis=1)
        for factory in ("SymphonyQG32,RaBitQ8", "PCA24,HNSW24,SQ8,Refine(PQ8x4)")
    )
    assert (symphony > 0).all()
    assert (reduced > symphony).all()
    assert (reduced < 1).all()


def test_given_queries_are_taken_as_they_are_or_sampled() -> None:
    """A thousand suffice; of more, a thousand are drawn, and that is said."""
    matrix, queries = data(Metric.COSINE, 2000, 1500)
    few = index.questions(matrix, Metric.COSINE, given=queries[:40], factory="SQ8", thorough=True)
    np.testing.assert_array_equal(few.vectors, queries[:40])
    assert (few.origin, few.given) == ("40 queries given", True)
    many = index.questions(matrix, Metric.COSINE, given=queries, factory="SQ8", thorough=True)
    assert many.origin == "1,000 of 1,500 queries given"
    assert len(np.unique(many.vectors, axis=0)) == 1000


def test_as_many_queries_measure_a_recall_as_its_interval_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them a recall@10; of those of a recall@100 four hundred, from the first to the last."""
    matrix, queries = data(Metric.COSINE, 1500, 600)
    built = index.build(index.requested("SQ8"), matrix, Metric.COSINE, workers=1)
    target = Target(matrix, Metric.COSINE, 1500, None, searcher_of(built))
    asked: dict[int, np.ndarray] = {}

    def noted(_target: Target, queries: np.ndarray, k: int, *_: object, **__: object) -> dict[Knobs, object]:
        asked[k] = queries
        return {}

    monkeypatch.setattr(measuring, "recalls", noted)
    index.measure(target, Questions(queries, "", True), thorough=True)
    assert np.array_equal(asked[10], queries)
    assert asked[100].shape == (400, D)
    assert np.array_equal(asked[100][[0, -1]], queries[[0, -1]])


@pytest.mark.parametrize("rows", [1, 2, 15, 60])
@pytest.mark.parametrize("factory", ["SQfp16", "HNSW4", "SQ8", "IVF1,Flat"])
def test_tiny_and_equal_rows_can_be_measured(rows: int, factory: str) -> None:
    """All vectors equal, fewer than k of them: everything is found, or search is exact; nothing breaks."""
    matrix = np.full((rows, 8), 8**-0.5, dtype=np.float32)
    searcher = searcher_of(index.build(index.requested(factory), matrix, Metric.COSINE, workers=1))
    target = Target(matrix, Metric.COSINE, rows, None, searcher)
    asked = index.questions(matrix, Metric.COSINE, given=None, factory=factory, thorough=True)
    tuned = index.measure(target, asked, thorough=True)
    target = Target(matrix, Metric.COSINE, rows, None, searcher_of(searcher.index, tuned.points, tuned.gather))
    found, _ = index.search_one(target, matrix[0], 10, 0.95)
    assert len(set(found)) == min(10, rows)


def test_kept_queries_come_back_and_damage_is_no_harm(path: Path) -> None:
    """They survive a new process; a file that is none, or of another dimension, counts as none."""
    path.mkdir()
    _, queries = data(Metric.COSINE, 10, 50)
    assert index.kept(path, D) is None
    index.keep(queries, path)
    np.testing.assert_array_equal(index.kept(path, D), queries)
    assert index.kept(path, D + 1) is None
    (path / "queries.npy").write_bytes(b"\x93NUMPY garbage")
    assert index.kept(path, D) is None


def test_cheapest_takes_the_lower_bound_at_its_word() -> None:
    """The quickest point whose lower bound reaches the recall, among those measured for that k."""
    points = [
        OperatingPoint(10, 4, 20, 0.96, 0.94, 0.98, 50, 60, 1),
        OperatingPoint(10, 8, 20, 0.97, 0.955, 0.98, 80, 90, 1),
        OperatingPoint(100, 1, 100, 0.99, 0.98, 1.0, 10, 11, 1),
        OperatingPoint(10, 0, 0, 1, 1, 1, 900, 900, 1),
    ]
    assert index.cheapest(points, 0.94, 10) is points[0]
    assert index.cheapest(points, 0.95, 10) is points[1]
    assert index.cheapest(points, 0.99, 10) is points[3]
    assert index.cheapest(points[:2], 0.99, 10) is None
