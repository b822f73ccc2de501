"""The door for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from recollect import InvalidVectors, Metric
from recollect.vectors import to_matrix, to_query

GOOD = np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32)


def matrix(values: Any, metric: Metric = Metric.COSINE, dimension: int = 2) -> Any:
    return to_matrix(values, dimension=dimension, metric=metric, what="vectors", first=10)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_of_any_width_become_contiguous_float32(dtype: str) -> None:
    """Every float width is accepted, in any memory order, and leaves as C-contiguous float32."""
    out = matrix(np.asfortranarray(GOOD.astype(dtype)), Metric.L2)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, GOOD)


def test_cosine_normalises_and_leaves_the_input_alone() -> None:
    """Under cosine rows come back with norm 1; the caller's array is not touched."""
    given_array = GOOD.copy()
    np.testing.assert_allclose(matrix(given_array), [[0.6, 0.8], [0.0, 1.0]], rtol=1e-7)
    np.testing.assert_array_equal(given_array, GOOD)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3), np.float32), r"vectors: shape \(2, 3\), but this collection takes \(n, 2\)"),
        (np.zeros(2, np.float32), r"shape \(2,\)"),
        (np.ones((2, 2), np.int8), r"dtype int8, but vectors are floats"),
        (np.ones((2, 2), np.complex64), r"dtype complex64"),
        (np.array([["a", "b"]]), r"dtype <U1"),
        ([[1.0, 2.0], [1.0]], r"cannot be read as one array"),
        ([[1.0, 2.0], [np.nan, 1.0]], r"row 11 contains NaN"),
        ([[1.0, 2.0], [np.inf, 1.0]], r"row 11 contains Inf"),
        ([[1.0, 2.0], [1e300, 1.0]], r"row 11 contains Inf \(or a float64 beyond float32's range\)"),
        ([[1.0, 2.0], [1e19, 1.0]], r"row 11 has norm 1.0e\+19, above 1e\+18"),
        ([[1.0, 2.0], [0.0, 0.0]], r"row 11 is the zero vector"),
    ],
)
def test_a_bad_array_is_refused_with_the_row_named(values: Any, message: str) -> None:
    """Wrong shape, dtype, NaN, Inf, overflow and zero rows are refused; the row is counted in the whole input."""
    with pytest.raises(InvalidVectors, match=message):
        matrix(values)


def test_zero_vectors_are_fine_where_they_have_a_meaning() -> None:
    """A zero row is a point like any other under inner product and L2."""
    for metric in (Metric.INNER_PRODUCT, Metric.L2):
        assert not matrix(np.zeros((1, 2), np.float32), metric).any()


def test_a_query_is_one_vector() -> None:
    """One query is (d,) or (1, d); anything else is told about search_many."""
    for shape in ((2,), (1, 2)):
        assert to_query(np.ones(shape, np.float32), dimension=2, metric=Metric.COSINE).shape == (1, 2)
    with pytest.raises(InvalidVectors, match="search_many"):
        to_query(GOOD, dimension=2, metric=Metric.COSINE)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], [1e300, 0.0], ["a", "b"], [1, 2], None, {}])
def test_a_bad_query_is_refused(bad: Any) -> None:
    """Whatever cannot be a query vector is refused before FAISS sees it."""
    with pytest.raises(InvalidVectors):
        to_query(bad, dimension=2, metric=Metric.COSINE)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e17, 1e17, width=64)))
def test_normalisation_is_right_at_every_magnitude(values: Any) -> None:
    """From 1e-300 to 1e17 a row is refused as zero in float32, or comes back with norm 1 and its direction."""
    narrow = values.astype(np.float32).astype(np.float64)
    if (np.abs(narrow).max(axis=1) == 0).any():
        with pytest.raises(InvalidVectors, match="zero vector"):
            matrix(values, dimension=4)
        return
    out = matrix(values, dimension=4)
    expected = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(to_query(values[0], dimension=4, metric=Metric.COSINE)[0], expected[0], atol=1e-6)
