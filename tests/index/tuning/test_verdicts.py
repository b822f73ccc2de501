"""Judge rows once, and as comparing each of them would."""

from __future__ import annotations

import numpy as np

from reperio import Metric
from reperio.index import Target
from reperio.index.exact.scoring import scores_of
from reperio.index.tuning.verdicts import Verdicts

ROWS, QUERIES = 500, 40


def test_verdicts_are_those_of_comparing_each_row() -> None:
    """With thousands of equal scores, nothing found in between, and rows that come again in another order."""
    rng = np.random.default_rng(3)
    matrix = rng.integers(-2, 3, (ROWS, 8)).astype(np.float32)  # few values: many rows have the same score
    queries = rng.integers(-2, 3, (QUERIES, 8)).astype(np.float32)
    target = Target(matrix, Metric.INNER_PRODUCT, ROWS)
    every = np.arange(ROWS)
    scores = np.array([scores_of(matrix, every, query, Metric.INNER_PRODUCT) for query in queries])
    least = np.partition(scores, -10, axis=1)[:, -10]
    verdicts = Verdicts(target, queries, least)
    for width in (1, 10, 60, 60, ROWS):
        found = np.array([rng.choice(ROWS, width, replace=False) for _ in queries])
        for gaps in (False, True):
            some = np.where(rng.random(found.shape) < 0.3, -1, found) if gaps else found
            good = verdicts.of(some)
            for line, rows, each, bound in zip(good, some, scores, least, strict=True):
                there = rows[rows >= 0]
                assert line[: len(there)].tolist() == (each[there] >= bound).tolist()
                assert not line[len(there) :].any()


def test_lists_of_uneven_length_and_nothing_at_all() -> None:
    matrix = np.eye(4, dtype=np.float32)
    verdicts = Verdicts(Target(matrix, Metric.INNER_PRODUCT, 4), matrix[:2], np.array([1.0, 1.0]))
    uneven = [np.array([1, 0, 3]), np.array([1])]
    assert verdicts.of(uneven).tolist() == [[False, True, False], [True, False, False]]
    assert verdicts.of([np.empty(0, dtype=np.int64)] * 2).shape == (2, 0)
    assert verdicts.of(np.full((2, 3), -1)).tolist() == [[False] * 3] * 2
