"""Fuse two ranked lists of the same rows, by meaning and by words, into one.

Both ways keep every row of either list and give it one score, higher is better; equal scores are ordered by row. The
scores a row came with stay next to the fused one, NaN in the list that did not find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.types import Rows

Scores: TypeAlias = npt.NDArray[np.float64]
"""One score per row, higher is better, float64 (n,)."""

RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as its authors fixed it before they measured (Cormack et al. 2009, section 2)."""


class Ranked(NamedTuple):
    """One ranked list, best first."""

    rows: npt.ArrayLike  # int64 (n,), each row once
    scores: npt.ArrayLike  # (n,), finite, never rising


@dataclass(frozen=True, slots=True)
class Fused:
    """Two lists made one, best first; every array is (n,) and in the same order."""

    rows: Rows  # each row of either list once
    scores: Scores  # the fused scores
    dense: Scores  # the scores the row came with; NaN where the dense list lacks it
    lexical: Scores  # likewise


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
        weight: weight of the dense list, in [0, 1]. 1 keeps that list's order, and 0 the other's: what only the list
            of no weight holds gets the score 0, which the last row of the list that counts has as well.
    """
    parts = weight * _stretched(dense.scores), (1.0 - weight) * _stretched(lexical.scores)
    return _sum((dense, lexical), parts)


def reciprocal_rank(dense: Ranked, lexical: Ranked, *, constant: float = RANK_CONSTANT) -> Fused:
    """Fuse by the sum of 1 / (constant + rank) over the lists that hold a row; only the order within a list counts.

    A rank is the position in the list, from 1: rows of equal score still follow each other. A row that a list lacks
    gets nothing from it. With the constant 60 no score exceeds 2/61.

    Source: Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion outperforms Condorcet and individual Rank
    Learning Methods.

    Args:
        dense, lexical: the lists.
        constant: their k; the larger, the less the first ranks stand out.
    """
    lists = dense, lexical
    return _sum(lists, [1.0 / (constant + np.arange(1.0, np.size(each.rows) + 1)) for each in lists])


def _stretched(given: npt.ArrayLike) -> Scores:
    scores: Scores = np.asarray(given, dtype=np.float64)
    if not len(scores):
        return scores
    best, worst = scores[0], scores[-1]
    # Halved, because the difference of two finite numbers need not be finite.
    return (scores / 2 - worst / 2) / (best / 2 - worst / 2) if best > worst else np.ones_like(scores)


def _sum(lists: Sequence[Ranked], parts: Sequence[Scores]) -> Fused:
    """Add up what each list gives to its rows, in the order of these."""
    rows = np.unique(np.concatenate([np.asarray(each.rows, dtype=np.int64) for each in lists]))
    total, own = np.zeros(len(rows)), np.full((len(lists), len(rows)), np.nan)
    for number, (each, part) in enumerate(zip(lists, parts, strict=True)):
        # `np.unique` has sorted the rows, so each is found by bisection.
        at = np.searchsorted(rows, each.rows)
        own[number, at] = each.scores
        total[at] += part
    # A stable sort by score leaves equal scores in the order of rows.
    order = np.argsort(-total, kind="stable")
    return Fused(rows[order], total[order], *own[:, order])
