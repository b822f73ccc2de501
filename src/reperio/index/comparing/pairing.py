"""Compare all rows with each other, block by block: memory grows with the rows, never with the pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from reperio.index.comparing.sketch import Sketch, pair_scores, sketch
from reperio.index.exact.scoring import Scores
from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix

_BLOCK = 2048  # rows on either side of one product: 16 MiB of bounds
_PART = 1 << 16  # pairs that are scored before others are looked at

Report = Callable[[int], None]


class Compared(NamedTuple):
    """The rows to compare, and what nearness means.

    Attributes:
        matrix: (rows of the file, d), mapped, as stored.
        rows: distinct, in the order in which they are to be kept.
        metric: of the collection.
        threshold: least score.
    """

    matrix: StoredMatrix
    rows: Rows
    metric: Metric
    threshold: float


class Pairs(NamedTuple):
    """Pairs of rows and their scores, of one length."""

    first: Rows
    second: Rows
    scores: Scores


def pairs(compared: Compared, report: Report) -> Iterator[Pairs]:
    """Yield all pairs that reach the threshold, each once, the first row before the second in the order of the rows.

    Args:
        compared: what to compare.
        report: called with how many rows have been compared with all behind them.
    """
    rows = compared.rows
    made = sketch(*compared)
    for low in range(0, len(rows), _BLOCK):
        for start in range(low, len(rows), _BLOCK):
            one, other = _near(made, slice(low, low + _BLOCK), made.right[start : start + _BLOCK])
            one, other = one + low, other + start
            if start == low:
                one, other = _ordered(one, other)
            for first in range(0, len(one), _PART):
                found = _reaching(compared, rows[one[first : first + _PART]], rows[other[first : first + _PART]])
                if len(found.scores):
                    yield found
        report(min(low + _BLOCK, len(rows)))


def lead(compared: Compared, report: Report) -> tuple[Rows, Scores]:
    """Say which rows to keep, and which of them stands for each of the others.

    Each row in order is kept, unless it reaches the threshold with one that is kept: the first such stands for it. So
    all that is not kept has a kept row that is near enough, and no two kept ones are.

    Returns:
        Per row the position of the one that stands for it, −1 for those that are kept; and its score.
    """
    leaders = _Leaders(compared)
    for low in range(0, len(compared.rows), _BLOCK):
        leaders.take(low, min(low + _BLOCK, len(compared.rows)))
        report(min(low + _BLOCK, len(compared.rows)))
    return leaders.of, leaders.scores


class _Leaders:
    """The rows kept so far, and who stands for the others."""

    def __init__(self, compared: Compared) -> None:
        count = len(compared.rows)
        self.of: Rows = np.full(count, -1, dtype=np.int64)
        self.scores: Scores = np.full(count, np.nan)
        self._compared = compared
        self._sketch = sketch(*compared)
        # Sketches of kept rows move to the front: there are never more of them than rows that were looked at.
        self._kept: Rows = np.empty(count, dtype=np.int64)
        self._count = 0

    def take(self, low: int, high: int) -> None:
        """Decide on the rows at [low, high); all before are decided."""
        for start in range(0, self._count, _BLOCK):
            left = np.flatnonzero(self.of[low:high] < 0) + low
            block = slice(start, min(start + _BLOCK, self._count))
            self._follow(left, *_near(self._sketch, left, self._sketch.right[block]), self._kept[block])
        left = np.flatnonzero(self.of[low:high] < 0) + low
        self._among(left)
        kept = left[self.of[left] < 0]
        self._sketch.right[self._count : self._count + len(kept)] = self._sketch.right[kept]
        self._kept[self._count : self._count + len(kept)] = kept
        self._count += len(kept)

    def _follow(self, left: Rows, one: Rows, other: Rows, kept: Rows) -> None:
        """Put rows behind the first kept one that they reach the threshold with; *one* is in order, then *other*."""
        for first in range(0, len(one), _PART):
            members, leaders = left[one[first : first + _PART]], kept[other[first : first + _PART]]
            undecided = self.of[members] < 0
            self._put(members[undecided], leaders[undecided])

    def _among(self, left: Rows) -> None:
        """Decide among rows of one block, in order."""
        one, other = _ordered(*_near(self._sketch, left, self._sketch.right[left]))
        for leader in np.unique(one):
            if self.of[left[leader]] >= 0:
                continue
            members = left[other[slice(*np.searchsorted(one, (leader, leader + 1)))]]
            members = members[self.of[members] < 0]
            self._put(members, np.full(len(members), left[leader]))

    def _put(self, members: Rows, leaders: Rows) -> None:
        compared = self._compared
        scores = pair_scores(compared.matrix, compared.rows[members], compared.rows[leaders], compared.metric)
        reach = scores >= compared.threshold
        found, at = np.unique(members[reach], return_index=True)  # of several leaders the first
        self.of[found], self.scores[found] = leaders[reach][at], scores[reach][at]


def _near(made: Sketch, left: slice | Rows, right: FloatMatrix) -> tuple[Rows, Rows]:
    """Return the positions of the pairs that may reach the threshold, in order of the first, then of the second."""
    with np.errstate(invalid="ignore", over="ignore"):
        bounds = made.left[left] @ right.T
    found = np.flatnonzero(bounds >= np.float32(made.limit))
    return np.divmod(found, max(1, len(right)))


def _ordered(one: Rows, other: Rows) -> tuple[Rows, Rows]:
    forward = one < other
    return one[forward], other[forward]


def _reaching(compared: Compared, first: Rows, second: Rows) -> Pairs:
    scores = pair_scores(compared.matrix, first, second, compared.metric)
    reach = scores >= compared.threshold
    return Pairs(first[reach], second[reach], scores[reach])
