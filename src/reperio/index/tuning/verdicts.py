"""Tell which rows are among the k best of each held-out query, comparing each pair once.

One setting of an index finds nearly the same rows as the next. Scoring all of them again for each took a third of the
time of measuring.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reperio.index.exact.scoring import Scores, scores_of
from reperio.index.searching.search import Target
from reperio.types import FloatMatrix, Rows


class Verdicts:
    """Remember for each pair of query and row whether the row is good enough.

    Args:
        target: whose rows are found.
        queries: (n, d).
        least: the score that a row must have, per query (n,).
    """

    def __init__(self, target: Target, queries: FloatMatrix, least: Scores) -> None:
        self._target, self._queries, self._least = target, queries, least
        self._rows = max(1, len(target.matrix))
        # query · rows + row, ascending; the last is greater than any, so that each place is one.
        self._pairs = np.array([np.iinfo(np.int64).max])
        self._good = np.zeros(1, dtype=np.bool_)

    def of(self, found: Sequence[Rows] | Rows) -> npt.NDArray[np.bool_]:
        """Return for each query which of the rows found for it are good enough, (n, most rows of one query).

        Rows below 0, which stand for nothing found, are left out, and those behind them move up.
        """
        whole = _compact(found)
        pairs = whole + np.arange(len(whole), dtype=np.int64)[:, None] * self._rows
        places = np.searchsorted(self._pairs, pairs)
        good, there = self._good[places], whole >= 0
        new = there & (self._pairs[places] != pairs)
        good[new] = self._learnt(pairs[new])
        return good & there

    def _learnt(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Compare pairs that are not known yet, and remember them."""
        fresh = np.sort(pairs)  # np.unique takes 20 times as long
        fresh = fresh[np.diff(fresh, prepend=-1) > 0]
        whose, rows = np.divmod(fresh, self._rows)
        good = np.empty(len(fresh), dtype=np.bool_)
        starts = np.flatnonzero(np.diff(whose, prepend=-1))
        for low, high in itertools.pairwise([*starts.tolist(), len(fresh)]):
            query = whose[low]
            scores = scores_of(self._target.matrix, rows[low:high], self._queries[query], self._target.metric)
            good[low:high] = scores >= self._least[query]
        places = np.searchsorted(self._pairs, fresh)
        self._pairs, self._good = np.insert(self._pairs, places, fresh), np.insert(self._good, places, good)
        return good[np.searchsorted(fresh, pairs)]


def _compact(found: Sequence[Rows] | Rows) -> Rows:
    """Return the rows found for each query as one array, rows below 0 behind the others."""
    if isinstance(found, np.ndarray) and (not found.size or found.min() >= 0):
        return found
    width = max((len(rows) for rows in found), default=0)
    whole = np.full((len(found), width), -1, dtype=np.int64)
    for line, rows in zip(whole, found, strict=True):
        there = rows[rows >= 0]
        line[: len(there)] = there
    return whole
