"""Find rows and scores of a query: index candidates and the tail, rescored exactly.

The one promise of this room: min(k, rows to be found) results, and exact scores, whatever the index does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.engines.codes import Packed
from reperio.index.engines.searcher import Searcher
from reperio.index.exact import exhaustive
from reperio.index.exact.norms import Norms, greatest_of
from reperio.index.exact.read_ahead import LEAST_SECONDS, ReadAhead
from reperio.index.exact.scoring import Nearest, best, scores_of
from reperio.index.library.loading import load_faiss
from reperio.index.searching.planning import MOSTLY, Knobs, plan, plan_codes
from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix

# Allowed rows up to which they are kept next to their bits, at 8 bytes each: comparing more takes a millisecond, of
# which finding them is a small part.
_KEPT_ROWS = 1 << 14
_PLANS = 256  # plans remembered per target: a service may pass on any recall that it is asked for


@dataclass(frozen=True)
class Target:
    """The committed state that a search runs over."""

    matrix: StoredMatrix  # mapped vectors of all rows (rows, d)
    metric: Metric  # how they are compared
    count: int  # rows that may be found
    allowed: npt.NDArray[np.uint8] | None = None  # packed bits (little-endian) of those rows; None when all may
    searcher: Searcher | None = None  # the index over the first rows; None for exact search
    # Lengths of the rows read so far, shared with other states of the same file.
    norms: Norms = field(default_factory=Norms, compare=False, repr=False)
    ahead: ReadAhead = field(default_factory=ReadAhead, compare=False, repr=False)  # shared likewise
    # By (recall, k), filled as they are asked for.
    plans: dict[tuple[float, int], Plan] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def selector(self) -> Any | None:
        """The allowed rows as FAISS takes them."""
        return None if self.allowed is None else load_faiss().IDSelectorBitmap(self.allowed)

    def plan(self, recall: float, k: int) -> Plan:
        """Return how to search for *k* at a recall."""
        known = self.plans.get((recall, k))
        if known is None:
            if len(self.plans) >= _PLANS:
                self.plans.clear()  # at once, since other threads may be reading it
            known = self.plans[recall, k] = self._plan(recall, k)
        return known

    def _plan(self, recall: float, k: int) -> Plan:
        searcher, sizes = self.searcher, {"rows": len(self.matrix), "count": self.count}
        if searcher is None:
            return Plan(0)
        way = plan(searcher, recall, k, **sizes)
        planned = self.planned(way.knobs)
        scan = plan_codes(searcher, recall, k, **sizes)
        if scan is None or scan.micros >= way.micros:
            return planned
        return Plan(scan.knobs.candidates, instead=planned, saving=way.micros - scan.micros)

    def told(self, recall: float, k: int) -> tuple[str, int]:
        """Return how a search is done, for telemetry: "exact", "index", "lists" or "codes", and its candidates."""
        planned = self.plan(recall, min(k, self.count)) if self.count else Plan(0)
        if planned.instead is not None:
            if self.packed(0.0) is not None:
                return "codes", planned.candidates
            planned = planned.instead
        if self.searcher is None or not planned.candidates:
            return "exact", 0
        return "lists" if planned.lists else "index", planned.candidates

    def planned(self, knobs: Knobs) -> Plan:
        """Return the plan that asks the index with given knobs."""
        # A graph under a mask is asked for all rows around the query, of which those allowed are taken: with a selector
        # FAISS would return whatever allowed rows it met on its way, near or not. Lists are probed among those that
        # hold allowed rows. Masks that hide little, as deletes do, need neither.
        searcher = self.searcher
        if searcher is None or not knobs.candidates:
            return Plan(0)
        effort, candidates = knobs
        if searcher.codes is not None and not effort:
            return Plan(candidates, instead=Plan(0), saving=math.inf)
        if self.allowed is None:
            return Plan(candidates, searcher.params(effort, candidates))
        hides_much = self.count < MOSTLY * len(self.matrix)
        if hides_much and searcher.is_graph and searcher.most_effort:
            return Plan(effort, searcher.params(effort, effort), filtered=True, wanted=candidates)
        if not searcher.takes_selector:
            return Plan(candidates, searcher.params(effort, candidates), filtered=True)
        if hides_much and searcher.lists is not None:
            return Plan(candidates, lists=effort)
        return Plan(candidates, searcher.params(effort, candidates, self.selector))

    def packed(self, saving: float) -> Packed | None:
        """Return the codes of the allowed rows, once that pays; *saving*: µs that they would save now."""
        searcher, allowed = self.searcher, self.allowed
        assert searcher is not None
        assert searcher.codes is not None
        if allowed is None:
            return searcher.codes.all
        return searcher.codes.packed(self._key, self.count, lambda: exhaustive.rows_of(allowed, searcher.rows), saving)

    @cached_property
    def _key(self) -> bytes:
        """The key of the mask, in this commit and in later ones that hide no other rows of the index."""
        assert self.allowed is not None
        assert self.searcher is not None
        return blake2b(self.allowed[: (self.searcher.rows + 7) // 8].data, digest_size=16).digest()

    @cached_property
    def whole(self) -> exhaustive.Among:
        """All rows that may be found, to be compared exactly."""
        few = None
        if self.allowed is not None and self.count <= _KEPT_ROWS:
            few = exhaustive.rows_of(self.allowed, len(self.matrix))
        return exhaustive.Among(self.matrix, self.metric, 0, self.allowed, few, self._longest(0, few))

    @cached_property
    def tail(self) -> exhaustive.Among:
        """The rows that are newer than the index."""
        assert self.searcher is not None
        first = self.searcher.rows
        return exhaustive.Among(self.matrix, self.metric, first, self.allowed, longest=self._longest(first))

    def _longest(self, first: int, few: Rows | None = None) -> float:
        """Return a length that no row from *first* on exceeds, or none of *few*; 1.0 where that does not matter."""
        if self.metric is not Metric.INNER_PRODUCT:
            return 1.0
        return self.norms.greatest(self.matrix, first) if few is None else greatest_of(self.matrix, few)

    @cached_property
    def allowed_by_list(self) -> npt.NDArray[np.int64]:
        """Number of rows that may be found in each list of the index, shape (nlist,)."""
        searcher = self.searcher
        assert searcher is not None
        assert searcher.lists is not None
        assert self.allowed is not None
        alive = np.unpackbits(self.allowed, count=searcher.rows, bitorder="little").view(np.bool_)
        return np.bincount(searcher.lists[alive], minlength=searcher.most_effort)


@dataclass(frozen=True, slots=True)
class Plan:
    """The request to the index."""

    candidates: int  # rows; 0 to search exactly
    params: Any | None = None  # FAISS's search parameters
    lists: int = 0  # to be probed among those occupied; 0 to leave it to FAISS
    filtered: bool = False  # what FAISS returns is still to be masked
    wanted: int = 0  # fewer rows than these that may be found are no answer, and the search is done exactly
    # What to do until it pays to pack the codes that this plan scans; None for a plan that scans none.
    instead: Plan | None = None
    saving: float = 0.0  # µs by which the scan is expected to be quicker


def search(target: Target, queries: FloatMatrix, k: int, recall: float) -> list[Nearest]:
    """Return, per query, exactly min(k, target.count) rows with their exact scores, best first.

    Args:
        target: what to search.
        queries: float32 (n, d), normalised under cosine. One query runs on one thread, many on all cores.
        k: results wanted, at least 1.
        recall: knn recall@k to aim at, in (0, 1]; what the index cannot reach is searched exactly.
    """
    k = min(k, target.count)
    return run(target, queries, k, target.plan(recall, k))


def search_one(target: Target, query: FloatMatrix, k: int, recall: float) -> Nearest:
    """Do what `search` does for one query of shape (d,)."""
    k = min(k, target.count)
    return run_one(target, query, k, target.plan(recall, k))


def run(target: Target, queries: FloatMatrix, k: int, planned: Plan) -> list[Nearest]:
    """Search as planned, for *k* of at most target.count rows."""
    searcher = target.searcher
    if searcher is None or not planned.candidates:
        return _exactly(target, queries, k)
    if planned.instead is not None:
        packed = target.packed(planned.saving * len(queries))
        if packed is None:
            return run(target, queries, k, planned.instead)
        scanned = packed.search(queries, planned.candidates)
        tail = _tail(target, searcher, queries, k)
        return [_merged(target, planned, *parts, k) for parts in zip(scanned, tail, queries, strict=True)]
    if len(queries) == 1 or planned.lists:
        return [run_one(target, query, k, planned) for query in queries]
    found = searcher.search(queries, planned.candidates, planned.params)
    tail = _tail(target, searcher, queries, k)
    return [_merged(target, planned, *parts, k) for parts in zip(found, tail, queries, strict=True)]


def run_one(target: Target, query: FloatMatrix, k: int, planned: Plan) -> Nearest:
    """Do what `run` does for one query of shape (d,)."""
    searcher, count = target.searcher, planned.candidates
    if searcher is None or not count:
        return _exactly(target, query[None], k)[0]
    if planned.instead is not None:
        packed = target.packed(planned.saving)
        if packed is None:
            return run_one(target, query, k, planned.instead)
        found = packed.search_one(query, count)
    elif planned.lists:
        found = searcher.search_lists(query, count, planned.lists, target.allowed_by_list, target.selector)
    else:
        found = searcher.search_one(query, count, planned.params)
    if target.allowed is None and searcher.rows == len(target.matrix) and found[-1] >= 0 and count >= k:
        return _ranked(target, found, query, k)
    return _merged(target, planned, found, _tail(target, searcher, query[None], k)[0], query, k)


def _tail(target: Target, searcher: Searcher, queries: FloatMatrix, k: int) -> list[Rows]:
    """Return the best rows that are newer than the index, per query."""
    if searcher.rows == len(target.matrix):
        return [np.empty(0, dtype=np.int64)] * len(queries)
    return exhaustive.candidates(target.tail, queries, k)


def _merged(target: Target, planned: Plan, found: Rows, tail: Rows, query: FloatMatrix, k: int) -> Nearest:
    """Rank what the index found together with the tail; find exactly what the index did not find enough of."""
    # HNSW may find fewer than it is asked for, the probed lists may hold fewer, and few of the rows around the query
    # may be allowed.
    live = found[found >= 0]
    if planned.filtered and target.allowed is not None:
        live = live[(target.allowed[live >> 3] >> (live & 7).astype(np.uint8)) & 1 == 1][: planned.wanted or None]
    if len(live) + len(tail) < k or len(live) < min(planned.wanted, target.count - len(tail)):
        return _exactly(target, query[None], k)[0]
    return _ranked(target, np.concatenate((live, tail)), query, k)


def _ranked(target: Target, rows: Rows, query: FloatMatrix, k: int) -> Nearest:
    begun, ahead = perf_counter(), target.ahead  # not by `reading`, which takes a microsecond
    if ahead.is_due:
        ahead.ask(target.matrix, rows)
    scores = scores_of(target.matrix, rows, query, target.metric)
    taken = perf_counter() - begun
    if ahead.is_due or taken > LEAST_SECONDS:  # else there is nothing to learn
        ahead.note(taken, len(rows))
    return best(rows, scores, k, target.metric)


def _exactly(target: Target, queries: FloatMatrix, k: int) -> list[Nearest]:
    if k == 0:
        return [([], []) for _ in queries]
    whole = target.whole
    if whole.few is None:
        found = exhaustive.candidates(whole, queries, k)
    else:
        with target.ahead.reading(target.matrix, whole.few):
            found = exhaustive.candidates(whole, queries, k)
    return [_ranked(target, rows, query, k) for rows, query in zip(found, queries, strict=True)]
