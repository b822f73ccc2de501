"""Two ranked lists of the same rows, by meaning and by words, made one.

Both ways keep every row of either list and give it one score, higher is better; equal scores are ordered by row. The
scores a row came with stay next to the fused one, NaN in the list that did not find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.errors import InvalidInput
from reperio.types import Rows

Scores: TypeAlias = npt.NDArray[np.float64]
"""One score per row, higher is better, float64 (n,)."""

RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as its authors fixed it before they measured (Cormack et al. 2009, section 2)."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One ranked list, best first.

    Args:
        rows: int64 (n,), each row once.
        scores: (n,), finite, never rising.

    """

    rows: npt.ArrayLike
    scores: npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Fused:
    """What two lists became, best first; every array is (n,) and in the same order.

    Attributes:
        rows: each row of either list once.
        scores: the fused scores.
        dense, lexical: the scores the row came with; NaN where that list lacks it.

    """

    rows: Rows
    scores: Scores
    dense: Scores
    lexical: Scores


def convex(dense: Ranked, lexical: Ranked, *, weight: float = 0.5) -> Fused:
    """Fuse by weight · dense + (1 − weight) · lexical, each list's scores first stretched to [0, 1].

    Min-max normalisation over the list as given, so its depth matters: 100 of each is usual. In detail:

    - A row that one list lacks counts 0 there, as much as the last row of that list: all that is known is that it is
      no better. So the fused scores are in [0, 1].
    - Where all scores of a list are equal, a list of one among them, there is nothing to stretch, and each of its rows
      counts 1: it was found, and 0 would say that it was not.
    - An empty list counts 0 for every row: the other one's order stands.

    Convex combination beats reciprocal rank fusion in and out of domain, and needs few examples to choose the weight
    (Bruch, Gai and Ingber 2023, An Analysis of Fusion Functions for Hybrid Retrieval).

    Args:
        dense, lexical: the lists.
        weight: of the dense list, in [0, 1]. 1 keeps that list's order, and 0 the other's: what only the list of no
            weight holds gets the score 0, which the last row of the list that counts has as well.

    Raises:
        InvalidInput: a weight beyond [0, 1], or a list that is no ranking; see `Ranked`.

    """
    if not 0.0 <= weight <= 1.0:
        raise InvalidInput(f"weight {weight!r}: the dense list's share of the fused score is between 0 and 1")
    left, right = _Checked(dense, "dense"), _Checked(lexical, "lexical")
    return _sum(left, weight * _stretched(left.scores), right, (1.0 - weight) * _stretched(right.scores))


def reciprocal_rank(dense: Ranked, lexical: Ranked, *, constant: float = RANK_CONSTANT) -> Fused:
    """Fuse by the sum of 1 / (constant + rank) over the lists that hold a row; only the order within a list counts.

    A rank is the position in the list, from 1: rows of equal score still follow each other. A row that a list lacks
    gets nothing from it. With the constant 60 no score exceeds 2/61.

    Source: Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods.

    Args:
        dense, lexical: the lists.
        constant: their k; the larger, the less the first ranks stand out.

    Raises:
        InvalidInput: a constant that is negative or not finite, or a list that is no ranking; see `Ranked`.

    """
    if not 0.0 <= constant < np.inf:
        raise InvalidInput(f"constant {constant!r}: reciprocal rank fusion takes a number from 0 up, usually 60")
    left, right = _Checked(dense, "dense"), _Checked(lexical, "lexical")
    return _sum(left, _reciprocals(left, constant), right, _reciprocals(right, constant))


class _Checked:
    """A list as arrays, once it is known to be a ranking."""

    def __init__(self, ranked: Ranked, name: str) -> None:
        self.rows: Rows = np.asarray(ranked.rows, dtype=np.int64)
        self.scores: Scores = np.asarray(ranked.scores, dtype=np.float64)
        if self.rows.ndim != 1 or self.rows.shape != self.scores.shape:
            raise InvalidInput(
                f"{name} list: {self.rows.shape} rows with {self.scores.shape} scores; pass two arrays of one length"
            )
        # Unsorted lists are refused, not sorted: whoever hands them over is wrong about more than their order.
        if not (self.scores[1:] <= self.scores[:-1]).all():
            at = int(np.argmin(self.scores[1:] <= self.scores[:-1]))
            raise InvalidInput(f"{name} list: {self.scores[at + 1]} follows {self.scores[at]}; sort it best first")
        if len(self.scores) and not (np.isfinite(self.scores[0]) and np.isfinite(self.scores[-1])):
            raise InvalidInput(f"{name} list: scores from {self.scores[0]} to {self.scores[-1]}; they must be finite")


def _stretched(scores: Scores) -> Scores:
    if not len(scores):
        return scores
    best, worst = scores[0], scores[-1]
    # Halved, because the difference of two finite numbers need not be finite.
    return (scores / 2 - worst / 2) / (best / 2 - worst / 2) if best > worst else np.ones_like(scores)


def _reciprocals(ranked: _Checked, constant: float) -> Scores:
    return 1.0 / (constant + np.arange(1, len(ranked.rows) + 1, dtype=np.float64))


def _sum(dense: _Checked, dense_parts: Scores, lexical: _Checked, lexical_parts: Scores) -> Fused:
    rows, places = np.unique(np.concatenate([dense.rows, lexical.rows]), return_inverse=True)
    at_dense, at_lexical = places[: len(dense.rows)], places[len(dense.rows) :]
    total, own = np.zeros(len(rows)), np.full((2, len(rows)), np.nan)
    for name, at, parts, scores, column in (
        ("dense", at_dense, dense_parts, dense.scores, own[0]),
        ("lexical", at_lexical, lexical_parts, lexical.scores, own[1]),
    ):
        column[at] = scores
        if np.count_nonzero(~np.isnan(column)) < len(at):
            twice = rows[np.argmax(np.bincount(at))]
            raise InvalidInput(f"{name} list: row {twice} occurs twice; a ranking holds each row once")
        total[at] += parts
    # `np.unique` has sorted the rows, so that a stable sort by score leaves equal scores in the order of rows.
    order = np.argsort(-total, kind="stable")
    return Fused(rows[order], total[order], own[0, order], own[1, order])
