"""Pairs and leaders, against all pairs compared one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from reperio.index.comparing.pairing import Compared, lead, pairs
from reperio.types import Metric
from reperio.vectors import StoredMatrix

N, D = 2500, 24  # more than one block


def vectors(metric: Metric, dtype: str) -> StoredMatrix:
    """Make clusters of several widths, far from the origin under L2, with exact copies and vectors of many lengths."""
    rng = np.random.default_rng(3)
    made = rng.normal(size=(N // 5, D))[rng.integers(0, N // 5, N)] * rng.uniform(0.5, 2, (N, 1))
    made += rng.normal(size=(N, D)) * rng.choice([0, 0.01, 0.1, 0.3], (N, 1))
    if metric is Metric.L2:
        made += 30
    if metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(dtype)  # type: ignore[return-value]  # one of the two


def all_scores(matrix: StoredMatrix, metric: Metric) -> npt.NDArray[np.float64]:
    wide = matrix.astype(np.float64)
    if metric is Metric.L2:
        return -np.square(wide[:, None] - wide[None]).sum(axis=2) if len(wide) < 600 else _squared(wide)
    if metric is Metric.COSINE:
        wide = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return wide @ wide.T


def _squared(wide: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([-np.square(wide - one).sum(axis=1) for one in wide])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("metric", Metric)
def test_every_pair_and_no_other_is_found(metric: Metric, dtype: str) -> None:
    """With its exact score, also among some of the rows in an order of their own; leaders are those of the rule."""
    matrix = vectors(metric, dtype)
    rows = np.random.default_rng(1).permutation(N)[: N - 100]
    expected = all_scores(matrix, metric)[np.ix_(rows, rows)]
    upper = np.triu_indices(len(rows), 1)
    threshold = float(np.quantile(expected[upper], 0.999))
    compared = Compared(matrix, rows, metric, threshold)
    told: list[int] = []

    found = {
        (int(one), int(other)): score
        for block in pairs(compared, told.append)
        for one, other, score in zip(*block, strict=True)
    }
    places = [(i, j) for i, j in zip(*upper, strict=True) if expected[i, j] >= threshold]
    assert set(found) == {(rows[i], rows[j]) for i, j in places}
    assert np.allclose([found[rows[i], rows[j]] for i, j in places], [expected[i, j] for i, j in places], rtol=1e-9)
    assert told[-1] == len(rows)

    of, scores = lead(compared, told.append)
    kept: list[int] = []
    for position in range(len(rows)):
        leader = next((one for one in kept if expected[one, position] >= threshold), -1)
        assert of[position] == leader, position
        if leader < 0:
            kept.append(position)
        else:
            assert scores[position] == pytest.approx(expected[leader, position], rel=1e-9)
    assert len(kept) < len(rows) - 500


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e15])
def test_copies_have_the_highest_score_at_any_size(metric: Metric, scale: float) -> None:
    """Equal vectors reach the highest threshold there is: 1 by cosine, 0 by distance, their square."""
    matrix = (np.random.default_rng(0).normal(size=(50, 7)) * scale).astype(np.float32)
    matrix[9] = matrix[4]
    square = float(np.vecdot(matrix[4].astype(np.float64), matrix[4].astype(np.float64)))
    threshold = {Metric.COSINE: 1.0, Metric.L2: 0.0, Metric.INNER_PRODUCT: square}[metric]
    found = [
        tuple(map(int, pair[:2]))
        for block in pairs(Compared(matrix, np.arange(50), metric, threshold), id)
        for pair in zip(*block, strict=True)
    ]
    assert (4, 9) in found
    if metric is not Metric.INNER_PRODUCT:  # where a longer vector is nearer than a copy
        assert found == [(4, 9)]


def test_a_damaged_vector_hides_no_other() -> None:
    """What is no number is near nothing."""
    matrix = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    matrix[9], matrix[3], matrix[5] = matrix[4], np.nan, np.inf
    assert lead(Compared(matrix, np.arange(40), Metric.COSINE, 0.999), id)[0].tolist().count(-1) == 39


def test_nothing_to_compare_is_no_error() -> None:
    """No row, and one."""
    matrix = np.ones((3, 4), dtype=np.float32)
    for count in (0, 1):
        compared = Compared(matrix, np.arange(count), Metric.COSINE, 0.9)
        assert not list(pairs(compared, id))
        assert lead(compared, id)[0].tolist() == [-1] * count
