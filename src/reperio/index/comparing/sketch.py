"""Bound the scores of pairs from above by short vectors, so that few pairs need their whole vectors.

A product of all pairs of 100,000 vectors of length 384 is 3.8 trillion operations. A rotation puts what distinguishes
the vectors into the first components. The rest of a vector is known by its length, and two rests can be no more alike
than if they had one direction (Cauchy and Schwarz). So a product of short vectors bounds the score, and no pair is
missed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.index.exact.scoring import Scores, slack, underflow
from reperio.types import FloatMatrix, Metric, Rows
from reperio.vectors import StoredMatrix, to_float32

_SAMPLE = 1000  # rows that the rotation is made from
_FEW = 2000  # rows whose product takes no longer than to find a rotation
_SEED = 5
_BLOCK = 4096  # rows that are rotated at once
_AT_ONCE = 1 << 20  # numbers of float64 that are scored at once
# Scoring one pair costs as much as so many components of one pair in a product: a microsecond against 0.03 ns.
_PAIR_COST = 33_000
_COMPONENTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
_MARGIN = 4  # times the rounding of one product: rotation, lengths and the product each round


class Sketch(NamedTuple):
    """Short vectors of rows: ``left[i] @ right[j] >= limit`` wherever the score of i and j reaches the threshold."""

    left: FloatMatrix  # (n, p + 3)
    right: FloatMatrix  # (n, p + 3)
    limit: float


class _Rotation(NamedTuple):
    centre: FloatMatrix  # (d,)
    axes: FloatMatrix  # (d, p)


def sketch(matrix: StoredMatrix, rows: Rows, metric: Metric, threshold: float) -> Sketch:
    """Return the sketch of some rows for a threshold, in their order.

    Args:
        matrix: (rows of the file, d), mapped, as stored.
        rows: any number, in any order.
        metric: of the collection.
        threshold: least score, as `pair_scores` gives it.
    """
    rotation = _rotation(matrix, rows, metric, threshold)
    width, dimension = rotation.axes.shape[1], matrix.shape[1]
    left = np.empty((len(rows), width + 3), dtype=np.float32)
    right = np.empty_like(left)
    for low in range(0, len(rows), _BLOCK):
        part = slice(low, low + _BLOCK)
        with np.errstate(invalid="ignore", over="ignore"):  # of vectors that are damaged: they are near nothing
            shifted = _vectors(matrix, rows[part], metric) - rotation.centre
            short = shifted @ rotation.axes
            squares = np.vecdot(shifted, shifted)
            rest = np.sqrt(np.maximum(squares - np.vecdot(short, short), 0))
            # What rounding may take from a pair is added to both of its rows, in proportion to their own size.
            spare = _MARGIN * slack(dimension) * squares
            own = spare if metric is Metric.INNER_PRODUCT else spare - squares / 2
        left[part, :width] = right[part, :width] = short
        left[part, width] = right[part, width] = rest + np.sqrt(spare)
        left[part, width + 1] = right[part, width + 2] = own
        left[part, width + 2] = right[part, width + 1] = 1
    return Sketch(left, right, _limit(metric, threshold) - _MARGIN * underflow(dimension))


def pair_scores(matrix: StoredMatrix, left: Rows, right: Rows, metric: Metric) -> Scores:
    """Return the score of each pair of rows, float64, in the order given.

    Under cosine it is divided by both lengths, which float16 has rounded, so that equal vectors have 1.
    """
    step = max(1, _AT_ONCE // matrix.shape[1])
    parts = [
        _scores(matrix, left[low : low + step], right[low : low + step], metric) for low in range(0, len(left), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _scores(matrix: StoredMatrix, left: Rows, right: Rows, metric: Metric) -> Scores:
    one, other = (to_float32(matrix.take(rows, axis=0)).astype(np.float64) for rows in (left, right))
    if metric is Metric.L2:
        apart = one - other
        squared: Scores = 0.0 - np.vecdot(apart, apart)
        return squared
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Scores = np.vecdot(one, other)
        if metric is Metric.COSINE:
            found = found / np.sqrt(np.vecdot(one, one) * np.vecdot(other, other))
            # Of equal vectors the last digits may lack.
            found = np.where(found > 1 - 1e-12, 1.0, np.maximum(found, -1.0))
    return found


def _limit(metric: Metric, threshold: float) -> float:
    # Scores by distance are bounded as minus half of the squared distance: of unit vectors, the cosine less 1.
    if metric is Metric.INNER_PRODUCT:
        return threshold
    return threshold - 1 if metric is Metric.COSINE else threshold / 2


def _rotation(matrix: StoredMatrix, rows: Rows, metric: Metric, threshold: float) -> _Rotation:
    """Return the axes along which the rows differ most, as many as make the comparison cheapest."""
    if len(rows) <= _FEW:
        dimension = matrix.shape[1]
        return _Rotation(np.zeros(dimension, np.float32), np.eye(dimension, dtype=np.float32))
    drawn = rows
    if len(rows) > _SAMPLE:
        drawn = np.random.default_rng(_SEED).choice(rows, _SAMPLE, replace=False)
    with np.errstate(invalid="ignore", over="ignore"):
        sample = _vectors(matrix, np.sort(drawn), metric).astype(np.float64)
        sample = sample[np.isfinite(np.vecdot(sample, sample))]
    dimension = matrix.shape[1]
    centre = np.zeros(dimension)
    if metric is not Metric.INNER_PRODUCT and len(sample):  # a distance does not change where all are moved
        centre = sample.mean(axis=0)
    sample = sample - centre
    size = np.abs(sample).max(initial=0.0) or 1.0  # squares of what is large or small would leave no digits
    axes = np.linalg.eigh((sample / size).T @ (sample / size))[1][:, ::-1]
    width = _cheapest(sample @ axes, metric, _limit(metric, threshold))
    return _Rotation(centre.astype(np.float32), np.ascontiguousarray(axes[:, :width], dtype=np.float32))


def _cheapest(rotated: npt.NDArray[np.float64], metric: Metric, limit: float) -> int:
    """Return how many components to compare by, from the pairs of the sample that each number would let through."""
    dimension = rotated.shape[1]
    if len(rotated) < 2:  # all others are damaged
        return int(dimension)
    squares = np.vecdot(rotated, rotated)
    own = np.zeros_like(squares) if metric is Metric.INNER_PRODUCT else -squares / 2
    pairs = np.tri(len(rotated), k=-1, dtype=np.bool_)
    best, least = int(dimension), np.inf
    for width in [each for each in _COMPONENTS if each < dimension] + [dimension]:
        short = rotated[:, :width]
        rest = np.sqrt(np.maximum(squares - np.vecdot(short, short), 0))
        bounds = short @ short.T + np.outer(rest, rest) + own[:, None] + own
        through = float(np.mean((bounds >= limit)[pairs]))
        if width + _PAIR_COST * through < least:
            best, least = width, width + _PAIR_COST * through
        if width > least:  # more components can only cost more
            break
    return best


def _vectors(matrix: StoredMatrix, rows: Rows, metric: Metric) -> FloatMatrix:
    found = to_float32(matrix.take(rows, axis=0))
    if metric is not Metric.COSINE:
        return found
    return np.asarray(found / np.sqrt(np.vecdot(found, found))[:, None], dtype=np.float32)
