"""The one door for arrays: dtype, shape, finiteness, normalisation.

Whatever comes in leaves as a C-contiguous float32 matrix that FAISS and the vector file can take as it is,
or is refused with the offending row named.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recollect.errors import InvalidVectors
from recollect.types import FloatMatrix, Metric

MAX_NORM = 1e18
"""Largest Euclidean norm accepted: beyond it a squared distance (up to 4·norm²) overflows float32."""

_LEAST_SQUARE, _LARGEST_SQUARE = 1e-30, 1e30  # squared norms that float32 computes well; others get a second look


def to_matrix(values: Any, *, dimension: int, metric: Metric, what: str, first: int = 0) -> FloatMatrix:
    """Convert to float32 (n, dimension), checked, and normalised under cosine.

    Args:
        values: array-like of floats, shape (n, dimension); float16 and float64 are converted.
        dimension: of the collection.
        metric: of the collection; under cosine rows come back with norm 1 and zero rows are refused.
        what: names the input in an error, e.g. "vectors".
        first: number of the first row in an error, for a batch from a longer input.

    Raises:
        InvalidVectors: with the first offending row and the cure.

    """
    array = _to_float32(values, what)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise InvalidVectors(
            f"{what}: shape {array.shape}, but this collection takes (n, {dimension}); "
            f"use the model the collection was created with, or create one of that dimension"
        )
    return _scale(array, metric, what, first)


def to_query(values: Any, *, dimension: int, metric: Metric) -> FloatMatrix:
    """Convert one query vector, shape (dimension,) or (1, dimension), to a (1, dimension) matrix."""
    plain = type(values) is np.ndarray and values.dtype == np.float32 and values.flags.c_contiguous
    array = values if plain else _to_float32(values, "vector")
    if array.shape not in ((dimension,), (1, dimension)):
        raise InvalidVectors(
            f"vector: shape {array.shape}, but this collection takes ({dimension},); "
            "for several queries at once use search_many(vectors=...)"
        )
    flat = array.reshape(dimension)
    square = float(flat.dot(flat))
    if not _LEAST_SQUARE < square < _LARGEST_SQUARE:
        return _scale(flat[None], metric, "vector", 0)
    # The common case in three numpy calls: this stands in the way of every search.
    return np.multiply(flat, np.float32(1.0 / math.sqrt(square)))[None] if metric is Metric.COSINE else flat[None]


def _to_float32(values: Any, what: str) -> FloatMatrix:
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidVectors(f"{what}: cannot be read as one array ({error}); pass float32 (n, d)") from None
    if array.dtype.kind != "f":
        raise InvalidVectors(
            f"{what}: dtype {array.dtype}, but vectors are floats; convert with .astype('float32') "
            "(quantized or binary embeddings are not comparable by this metric as they are)"
        )
    with np.errstate(over="ignore"):  # a float64 too large becomes Inf, which is refused below with its row
        return np.ascontiguousarray(array, dtype=np.float32)


def _scale(matrix: FloatMatrix, metric: Metric, what: str, first: int) -> FloatMatrix:
    # Squared norms find every bad value in one pass: NaN and Inf propagate into them.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float32)
    suspect = ~((squares > _LEAST_SQUARE) & (squares < _LARGEST_SQUARE))
    if suspect.any():
        norms = np.sqrt(squares, dtype=np.float64)
        norms[suspect] = np.linalg.norm(matrix[suspect].astype(np.float64), axis=1)
        _refuse(matrix, norms, metric, what, first)
    else:
        norms = np.sqrt(squares)
    if metric is not Metric.COSINE:
        return matrix
    return np.asarray(matrix / norms[:, None], dtype=np.float32)


def _refuse(matrix: FloatMatrix, norms: npt.NDArray[Any], metric: Metric, what: str, first: int) -> None:
    for row in np.flatnonzero(~(norms <= MAX_NORM)):
        where = f"{what}: row {first + row}"
        if np.isnan(matrix[row]).any():
            raise InvalidVectors(f"{where} contains NaN; check the embedding of that text")
        if np.isinf(matrix[row]).any():
            raise InvalidVectors(f"{where} contains Inf (or a float64 beyond float32's range); scale it")
        raise InvalidVectors(f"{where} has norm {norms[row]:.1e}, above {MAX_NORM:.0e}; scale the vectors")
    if metric is Metric.COSINE:
        for row in np.flatnonzero(norms == 0.0):
            raise InvalidVectors(
                f"{what}: row {first + row} is the zero vector, which has no direction under cosine; "
                "leave it out, or use metric='inner_product' or 'l2'"
            )
