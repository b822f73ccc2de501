"""The truth by numpy alone: what every exact search must equal, in order and in score."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

TOLERANCE = 2e-5


def scores(matrix: npt.ArrayLike, query: npt.ArrayLike, metric: str) -> npt.NDArray[np.float64]:
    """Return the public score of every row for one query, in float64."""
    rows, vector = np.asarray(matrix, dtype=np.float64), np.asarray(query, dtype=np.float64)
    if metric == "l2":
        return -((rows - vector) ** 2).sum(axis=1)
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        vector = vector / np.linalg.norm(vector)
    return rows @ vector


def assert_top_k(found: list[tuple[int, float]], truth: npt.NDArray[np.float64], k: int) -> None:
    """Assert that (row, score) pairs are the k best: right scores, in order, equal scores in the order of rows.

    Rows whose true scores differ by less than float32 can tell may stand in either order.
    """
    allowed = TOLERANCE * max(1.0, float(np.abs(truth).max(initial=0)))
    assert len(found) == min(k, len(truth))
    assert len({row for row, _ in found}) == len(found)
    best = np.sort(truth)[::-1][: len(found)]
    for (row, score), expected in zip(found, best, strict=True):
        assert abs(score - truth[row]) <= allowed
        assert abs(score - expected) <= allowed
    for (row, score), (next_row, next_score) in pairwise(found):
        assert score > next_score or (score == next_score and row < next_row)
