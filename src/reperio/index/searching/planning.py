"""Plan one search: exactly, or by the index, how hard and with how many candidates.

Pure. What it knows are the operating points measured when the index was tuned: for k = 10 and k = 100, over all rows.
Other k and row masks are reasoned from those: the k-th best of a share s of the rows is, unless the mask follows the
query, the (k/s)-th best of all of them. So a mask is searched as a larger k is, and both by the slope between the two
measured ones. Where that costs more than comparing the masked rows one by one, they are compared one by one.

A graph that comes with codes has points of both: those with effort 0 and candidates are scans of all codes. Under a
mask the codes of the allowed rows alone are scanned, which costs in proportion to their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from reperio.index.engines.searcher import Searcher
from reperio.types import OperatingPoint

MEASURED_K = 10, 100  # the k for which operating points are measured; a smaller k is searched as carefully as the first
MOSTLY = 0.9  # a mask that leaves more than this share of the rows is no filter but what deletes have left
_AROUND = 1.3  # rows around the query that a graph is asked for, for each row that a mask must leave
# Of a graph, and of lists: log effort by log k where only one k was measured, and at least under a mask.
_SLOPES = {True: 1.0, False: 0.6}
_FARTHER = 2.0
_BLURRED = 3.0  # candidates of codes beyond those measured, for each that was: under a mask of hardly any rows
_CALL = 0.2  # part of a scan of all codes that does not depend on their number: the query's tables, the best rows


class Knobs(NamedTuple):
    """The effort of one search: `nprobe` or `efSearch`, and rows to rescore; 0 candidates: search exactly."""

    effort: int
    candidates: int


EXACTLY = Knobs(0, 0)


class Way(NamedTuple):
    """A way to search, and the µs it is expected to take."""

    knobs: Knobs
    micros: float


def plan(searcher: Searcher, recall: float, k: int, *, rows: int, count: int) -> Way:
    """Choose the cheapest way that reaches *recall* and needs no packed codes.

    Args:
        searcher: the index and its measured points.
        recall: knn recall@k wanted.
        k: results wanted, at most *count*.
        rows: in the collection.
        count: of them may be found.
    """
    exactly = Way(EXACTLY, searcher.gather * count)
    points = [point for point in searcher.points if not _scans_codes(searcher, point)]
    base = cheapest(points, recall, MEASURED_K[0])
    if base is None or not base.candidates or k < 1:
        return exactly
    share = count / rows
    wide = cheapest(points, recall, MEASURED_K[1])
    if wide is not None and not wide.candidates:
        if k > MEASURED_K[0]:
            return exactly  # ten are found by the index at this recall, a hundred are not
        wide = None
    asked = max(k, MEASURED_K[0])
    effort = _effort(searcher, base, wide, asked, share)
    candidates = _candidates(base, wide, asked)
    walks = searcher.is_graph and searcher.most_effort > 0
    if not searcher.takes_selector and not (walks and share < MOSTLY):
        # As many more as are masked on average, and as lie farther; the masked ones are dropped afterwards.
        spread = (1 + _FARTHER * (1 - share)) / share
        candidates = math.ceil(candidates * spread) + 10 if count < rows else candidates
    elif not searcher.is_graph:
        candidates = math.ceil(candidates * _blur(share))
    candidates = min(candidates, searcher.rows)
    if searcher.is_graph:
        around = 1.0 if share >= MOSTLY else _AROUND / share
        effort = min(searcher.rows, max(effort, math.ceil(candidates * around)))
    price = _price(base, effort, candidates, searcher.is_graph)
    return exactly if price > exactly.micros else Way(Knobs(effort, candidates), price)


def plan_codes(searcher: Searcher, recall: float, k: int, *, rows: int, count: int) -> Way | None:
    """Return the scan of the allowed rows' codes that reaches *recall*; None where none was measured that does."""
    points = [point for point in searcher.points if _scans_codes(searcher, point)]
    base, wide = (cheapest(points, recall, measured) for measured in MEASURED_K)
    if base is None or k < 1 or (wide is None and k > MEASURED_K[0]):
        return None
    share = count / rows
    candidates = min(math.ceil(_candidates(base, wide, max(k, MEASURED_K[0])) * _blur(share)), searcher.rows)
    scan = base.p50 * (_CALL + (1 - _CALL) * share)
    return Way(Knobs(0, candidates), scan + _RESCORING * max(0, min(candidates, count) - base.candidates))


def _blur(share: float) -> float:
    """Return how many times the measured candidates codes need under a mask of a share of the rows."""
    # Under a mask that has nothing to do with the vectors, those measured over all rows are enough. Rows that a mask
    # leaves far from the query differ less in their scores than codes can tell: there the best are farther down. Masks
    # by the first component and by cluster, of 1% to 10%, take up to three times as many (0009).
    return 1 + _BLURRED * (1 - share)


def _scans_codes(searcher: Searcher, point: OperatingPoint) -> bool:
    return searcher.codes is not None and point.effort == 0 and point.candidates > 0


def cheapest(points: Sequence[OperatingPoint], recall: float, k: int) -> OperatingPoint | None:
    """Return the quickest point measured at *k* whose lower bound reaches *recall*; None where none does."""
    return min(
        (point for point in points if point.k == k and point.low >= recall), key=lambda point: point.p50, default=None
    )


def _effort(searcher: Searcher, base: OperatingPoint, wide: OperatingPoint | None, k: int, share: float) -> int:
    """Return the effort for *k* of a share of the rows, from that for ten and for a hundred of all of them."""
    if not searcher.most_effort:
        return 0
    default = _SLOPES[searcher.is_graph]
    slope = default
    if wide is not None:
        slope = math.log(max(1, wide.effort) / max(1, base.effort)) / math.log(MEASURED_K[1] / MEASURED_K[0])
        slope = min(1.0, max(0.0, slope))
    more: float = (k / MEASURED_K[0]) ** slope
    if share < 1:
        # Those allowed are spread up to rank k / share, and farther ranks are missed more often than the mean tells.
        more *= ((1 + _FARTHER * (1 - share)) / share) ** max(slope, default)
    return min(searcher.most_effort, math.ceil(base.effort * more))


def _candidates(base: OperatingPoint, wide: OperatingPoint | None, k: int) -> int:
    """Return the candidates for *k*: as many per result as for ten, or, towards a hundred, as for a hundred."""
    low = base.candidates / MEASURED_K[0]
    if wide is None:
        return math.ceil(low * k)
    high = wide.candidates / MEASURED_K[1]
    part = min(1.0, math.log(k / MEASURED_K[0]) / math.log(MEASURED_K[1] / MEASURED_K[0]))
    return math.ceil(k * (low + part * (high - low)) - 1e-9)


def _price(base: OperatingPoint, effort: int, candidates: int, graph: bool) -> float:
    """Estimate µs: in proportion to the effort, and for each row to be rescored."""
    more = effort / base.effort if base.effort else 1.0
    growth = more if graph else 0.2 + 0.8 * more  # a probe of lists starts with comparing all centroids
    return base.p50 * growth + _RESCORING * max(0, candidates - base.candidates)


_RESCORING = 0.3  # µs to fetch a vector from the mapped file and score it: 384 dimensions, in the page cache
