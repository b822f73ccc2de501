"""Measure which effort gives which recall, on held-out queries against exact answers.

The sweep follows the Faiss paper (arXiv 2401.08281, section 3.4): recall and time both grow with every knob, so a
setting whose time is bounded from below by a smaller one's, and whose recall one already measured reaches in less, need
not be timed. What remains are operating points, of which a search takes the cheapest that surely reaches what was
asked for.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.index.engines.searcher import Searcher
from reperio.index.exact.nearest import nearest
from reperio.index.exact.scoring import Scores
from reperio.index.searching.planning import EXACTLY, MEASURED_K, Knobs
from reperio.index.searching.search import Plan, Target, run, run_one
from reperio.index.tuning.questions import Questions
from reperio.index.tuning.verdicts import Verdicts
from reperio.types import FloatMatrix, OperatingPoint, Progress, Rows

# Standard errors on each side. 2.576 would do for 99% of points picked blindly; the cheapest of those that reach a
# recall is, a little, the luckiest.
_CONFIDENCE = 3.0
_IMAGINED = 0.5
_STEPS = {10: (10, 12, 15, 20, 25, 30, 40, 60, 80, 100, 150, 200, 400), 100: (100, 150, 200, 300, 400, 800)}
_LEAST = 0.5  # recall below which no setting is sought
_ENOUGH = 0.001  # less is not worth a greater effort, once a lower bound lies above all that is usually asked for
_LEVELS = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99)  # near which settings are sought more closely
# Recalls between which neighbouring efforts differ by a factor of `_CLOSE` at most: a recall asked for between two
# settings pays for the next one, in time nearly in proportion to the effort.
_DENSE = 0.85, 0.992
_CLOSE = {10: 1.13, 100: 1.3}
_GAIN = 0.9  # part of the misses that may be left for more candidates to be worth a thought
_LONGEST_WALK = {10: 1024, 100: 2048}  # efSearch beyond which a graph is no longer worth its while
_NOISE = 1.05  # a time that is not longer than this many times another may be the shorter one
# Queries of which a recall is measured; of other k all. They say more of a recall@100 than a thousand of a recall@10.
_QUERIES = {100: 400}
_SEED = 7
_TIMED, _REPEATS = 48, (120, 128)  # queries to clock a setting with at first; those that remain, one by one and at once
_ROUNDS = 4  # in which those that remain take turns
_PATIENCE = 30_000  # µs for each of these, where that is enough
_UNDISTURBED = 20  # percentile: of a few times on a machine with other work, the shorter ones tell settings apart
_SLICE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Tuned:
    """The result of a measurement."""

    points: tuple[OperatingPoint, ...]  # cheapest first; exact search is among them
    gather: float  # µs of exact search per row picked out of the vector file
    origin: str  # of the queries


class Share(NamedTuple):
    """Mean recall over the queries, and its 99% confidence interval."""

    mean: float
    low: float
    high: float


def measure(target: Target, asked: Questions, *, thorough: bool, progress: Progress | None = None) -> Tuned:
    """Measure the operating points of target.searcher, over all rows of target.matrix.

    Args:
        target: without a mask, its index covering all rows.
        asked: held-out queries.
        thorough: for k = 10 with all queries, and for k = 100 with 400 at most; otherwise for k = 10 alone.
        progress: called per block with the stage "answers" (rows compared), then per setting with "tune".
    """
    rows = len(target.matrix)
    searcher = target.searcher
    scan, gather = _prices(target, asked.vectors)
    ks = [k for k in MEASURED_K[: 2 if thorough else 1] if 2 * k <= rows]
    # None for a k that is not measured: exact search as its only point would say that nothing else reaches a recall.
    points = [OperatingPoint(k, 0, 0, 1.0, 1.0, 1.0, scan, scan, 1e6 / scan) for k in ks or MEASURED_K[:1]]
    if searcher is not None and ks and len(asked.vectors):
        _, scores = nearest(target.matrix, asked.vectors, max(ks), target.metric, progress)
        if progress is not None:
            progress("tune", 0, None)
        for k in ks:
            every = len(asked.vectors)
            some = np.linspace(0, every - 1, min(_QUERIES.get(k, every), every)).astype(np.int64)
            queries, least = asked.vectors[some], scores[some, k - 1]  # ties count as found
            shares = recalls(target, queries, k, least, progress, dense=thorough)
            for scans in (False, True):  # apart: a scan of codes is kept even where the graph is quicker, for masks
                part = {knobs: share for knobs, share in shares.items() if _scans_codes(searcher, knobs) == scans}
                points += _points(target, queries, k, part)
    points.sort(key=lambda point: (point.k, point.p50, point.effort, point.candidates))
    return Tuned(tuple(points), gather, asked.origin)


def recalls(
    target: Target, queries: FloatMatrix, k: int, least: Scores, progress: Progress | None = None, *, dense: bool = True
) -> dict[Knobs, Share]:
    """Return the recall of every setting worth a thought.

    Efforts by a factor of two, then halved towards the levels, then, if *dense*, those that fill the gaps where
    searches ask.

    Args:
        target: without a mask, with an index.
        queries: (n, d).
        k: results asked for.
        least: the score that a row must have to be among the *k* best, per query.
        progress: called per effort with the stage "tune".
        dense: fill the gaps.
    """
    searcher = target.searcher
    assert searcher is not None
    most = min(searcher.most_effort, _LONGEST_WALK[k]) if searcher.is_graph else searcher.most_effort
    found: dict[int, dict[int, Share]] = {}
    verdicts = Verdicts(target, queries, least)

    def look(effort: int) -> float:
        if effort not in found:
            found[effort] = _by_candidates(target, queries, k, verdicts, effort)
            if progress is not None:
                progress("tune", len(found), None)
        return max((share.low for share in found[effort].values()), default=0.0)

    if searcher.codes is not None:
        look(0)  # a scan of the codes kept with a graph: masks are searched with it
    all_found = interval(np.ones(len(queries))).low
    enough = max(all_found - _ENOUGH, min(all_found, _DENSE[1]))
    effort = (k if searcher.is_graph else 1) if most else 0
    while look(effort) < enough and effort < most:
        effort = min(most, 2 * effort)
    for level in _LEVELS:
        _approach(level, look, found)
    walks = [effort for effort in sorted(found) if effort or not most]
    between = [effort for effort in walks if dense and _DENSE[0] <= look(effort) <= _DENSE[1]]
    for low, high in itertools.pairwise(between):
        parts = math.ceil(math.log(high / low) / math.log(_CLOSE[k]))
        for part in range(1, parts):
            look(round(low * (high / low) ** (part / parts)))
    return {Knobs(effort, step): share for effort, steps in found.items() for step, share in steps.items()}


def _approach(level: float, look: Callable[[int], float], found: Iterable[int]) -> None:
    """Look at efforts between the last that falls short of a lower bound and the first that reaches it, ever nearer."""
    enough = [effort for effort in sorted(found) if effort and look(effort) >= level]
    short = [effort for effort in sorted(found) if effort and (not enough or effort < enough[0])]
    if not enough or not short:
        return
    low, high = short[-1], enough[0]
    while high - low > max(1, low // 12):
        middle = round(math.sqrt(low * high)) if low * high > (low + 1) ** 2 else low + 1
        low, high = (low, middle) if look(middle) >= level else (middle, high)


def _by_candidates(target: Target, queries: FloatMatrix, k: int, verdicts: Verdicts, effort: int) -> dict[int, Share]:
    """Return the recall of one effort by number of candidates, as far as more of them gain anything."""
    searcher = target.searcher
    assert searcher is not None
    steps = sorted({min(step, searcher.rows) for step in _STEPS[k]})
    scan = searcher.codes if not effort else None
    if searcher.is_graph and scan is None:  # efSearch is at least the number of candidates
        steps = [step for step in steps if step <= effort] or [effort]
    # One search serves every number of candidates where FAISS returns them in an order of which each smaller number is
    # a prefix.
    groups = [steps] if searcher.returns_prefixes else [[step] for step in steps]
    shares: list[Share] = []
    for group in groups:
        rows: Sequence[Rows] | Rows
        if scan is not None:
            rows = scan.all.search(queries, group[-1])
        else:
            rows = searcher.search(queries, group[-1], searcher.params(effort, group[-1]))
        shares += _shares(verdicts.of(rows), k, group)
    worth: dict[int, Share] = {}
    last = -1.0
    for step, share in zip(steps, shares, strict=True):
        if share.mean >= _LEAST and 1 - share.mean <= _GAIN * (1 - last):
            worth[step] = share
            last = share.mean
    return worth


def _shares(good: npt.NDArray[np.bool_], k: int, steps: Sequence[int]) -> list[Share]:
    """Return the recall of the first rows found, for each number of them; *good*: (n, rows found)."""
    hits = good.cumsum(axis=1) if good.size else np.zeros((len(good), 1), dtype=np.int64)
    return [interval(np.minimum(hits[:, min(step, hits.shape[1]) - 1], k) / k) for step in steps]


def interval(shares: npt.NDArray[np.float64]) -> Share:
    """Return the mean of recalls per query with its 99% confidence interval."""
    # By the normal approximation, with one more query imagined that missed half: misses come in clumps, most of all in
    # graphs, and a sample that happens to hold none would otherwise be certain of perfection.
    imagined = np.append(shares, min(_IMAGINED, float(shares.mean())))
    error = _CONFIDENCE * float(imagined.std(ddof=1)) / math.sqrt(len(imagined))
    centre = float(imagined.mean())
    return Share(float(shares.mean()), max(0.0, centre - error), min(1.0, centre + error))


def _points(target: Target, queries: FloatMatrix, k: int, shares: dict[Knobs, Share]) -> list[OperatingPoint]:
    some = queries[:_TIMED]
    quick = front(
        {knobs: share.mean for knobs, share in shares.items()},
        lambda knobs: float(np.percentile(_clock(target, some, k, target.planned(knobs)), _UNDISTURBED)),
    )
    timed: dict[Knobs, list[npt.NDArray[np.float64]]] = {knobs: [] for knobs in quick}
    # In turns: other work on a machine comes and goes within seconds, and would slow down one setting and not the next.
    for part in range(_ROUNDS):
        for knobs, took in timed.items():
            many = queries[: _as_many(_REPEATS[0], quick[knobs])]
            took.append(_clock(target, many[part::_ROUNDS], k, target.planned(knobs)))
    middle, high = (
        {knobs: float(np.percentile(np.concatenate(timed[knobs]), at)) for knobs in quick} for at in (50, 95)
    )
    p50s = in_order(middle)
    points: list[OperatingPoint] = []
    for knobs in sorted(quick, key=lambda each: shares[each].low):
        batch = queries[: _as_many(_REPEATS[1], quick[knobs])]
        started = time.perf_counter()
        run(target, batch, k, target.planned(knobs))
        rate = len(batch) / (time.perf_counter() - started)
        p50 = round(p50s[knobs], 1)
        # Timed better, more recall may have proved quicker as well.
        points = [point for point in points if point.p50 <= _NOISE * p50]
        points.append(OperatingPoint(k, *knobs, *shares[knobs], p50, round(max(p50, high[knobs]), 1), round(rate, 1)))
    return points


def _as_many(most: int, micros: float) -> int:
    """Return how many queries to clock a setting with that takes so long."""
    return max(_TIMED // 2, min(most, int(_PATIENCE / micros)))


def in_order(times: dict[Knobs, float]) -> dict[Knobs, float]:
    """Return times of which none is below that of a setting with less effort and no more candidates.

    More work takes no less time: where a clock says so, the machine was busy meanwhile. Each time becomes the middle
    between the longest of those that must not be longer and the shortest of those that must not be shorter.
    """
    return {
        knobs: (
            max(took for other, took in times.items() if _within(other, knobs))
            + min(took for other, took in times.items() if _within(knobs, other))
        )
        / 2
        for knobs in times
    }


def front(recalls: dict[Knobs, float], clock: Callable[[Knobs], float]) -> dict[Knobs, float]:
    """Return the settings that no other beats in recall and time both, with their times; clock few of them."""
    # Settings are tried in random order, as the paper does. The time of one that was tried bounds that of every setting
    # with knobs no smaller from below.
    order = sorted(recalls)
    np.random.default_rng(_SEED).shuffle(order)
    timed: dict[Knobs, float] = {}
    for knobs in (Knobs(*map(int, each)) for each in order):
        least = max((took for other, took in timed.items() if _within(other, knobs)), default=0.0)
        if any(_beats(other, took, knobs, least, recalls) for other, took in timed.items()):
            continue
        if any(recalls[other] >= recalls[knobs] and _within(other, knobs) for other in recalls if other != knobs):
            continue
        timed[knobs] = clock(knobs)
    return {
        knobs: took
        for knobs, took in timed.items()
        if not any(_beats(other, other_took, knobs, took, recalls) for other, other_took in timed.items())
    }


def _beats(other: Knobs, other_took: float, knobs: Knobs, took: float, recalls: dict[Knobs, float]) -> bool:
    """Say whether another setting is quicker and finds no less, and no clock that was disturbed says so."""
    return _NOISE * other_took <= took and recalls[other] >= recalls[knobs] and not _within(knobs, other)


def _scans_codes(searcher: Searcher, knobs: Knobs) -> bool:
    return searcher.codes is not None and not knobs.effort


def _within(small: Knobs, large: Knobs) -> bool:
    return small.effort <= large.effort and small.candidates <= large.candidates


def _clock(target: Target, queries: FloatMatrix, k: int, planned: Plan) -> npt.NDArray[np.float64]:
    """Return µs per query, one thread, after one query to warm up."""
    clock = time.perf_counter_ns
    run_one(target, queries[0], k, planned)
    took = np.empty(len(queries))
    for i, query in enumerate(queries):
        before = clock()
        run_one(target, query, k, planned)
        took[i] = clock() - before
    return took / 1000


def _prices(target: Target, queries: FloatMatrix) -> tuple[float, float]:
    """Return µs of exact search over all rows, and per row when rows are picked out; from a slice of the rows."""
    rows = len(target.matrix)
    part = Target(target.matrix[:_SLICE_ROWS], target.metric, min(rows, _SLICE_ROWS))
    few = queries[:8]
    if not len(few) or not part.count:
        return 1.0, 0.05
    whole = float(np.median(_clock(part, few, min(10, part.count), part.planned(EXACTLY))))
    mask = np.random.default_rng(_SEED).random(part.count) < 0.04
    picked = int(mask.sum())
    if picked < 100:
        return max(1.0, whole * rows / part.count), 0.05
    masked = Target(part.matrix, part.metric, picked, np.packbits(mask, bitorder="little"))
    gathered = float(np.median(_clock(masked, few, 10, masked.planned(EXACTLY))))
    return max(1.0, whole * rows / part.count), gathered / picked
