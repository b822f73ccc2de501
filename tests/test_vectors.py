"""The door for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reperio import InvalidVectors, Metric
from reperio.vectors import MAX_NORM, MIN_COSINE_NORM, MIN_NORM, to_matrix, to_query, to_stored

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
        (
            np.ones((2, 2), np.int8),
            r"dtype int8: quantized or binary embeddings .* numpy.asarray\(vectors, dtype='float32'\)",
        ),
        (np.ones((2, 2), np.complex64), r"dtype complex64"),
        (np.array([["a", "b"]]), r"dtype <U1"),
        ([[1.0, 2.0], [1.0]], r"cannot be read as one array"),
        ([[1.0, 2.0], [np.nan, 1.0]], r"row 11 contains NaN"),
        ([[1.0, 2.0], [np.inf, 1.0]], r"row 11 contains Inf"),
        ([[1.0, 2.0], [1e300, 1.0]], r"row 11 contains Inf \(or a float64 beyond float32's range\)"),
        ([[1.0, 2.0], [1e19, 1.0]], r"row 11 has norm 1.0e\+19, above 1e\+18"),
        ([[1.0, 2.0], [0.0, 0.0]], r"row 11 is the zero vector"),
        ([[1.0, 2.0], [1e-38, 0.0]], r"row 11 has norm 1.0e-38, below 1e-37"),
        ([[1.0, 2.0], [0.0, 1e-60]], r"row 11 would be the zero vector in float32: its largest component is 1.0e-60"),
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


@pytest.mark.parametrize(
    "bad", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], [1e300, 0.0], ["a", "b"], [True, 2], None, {}]
)
def test_a_bad_query_is_refused(bad: Any) -> None:
    """Whatever cannot be a query vector is refused before FAISS sees it."""
    with pytest.raises(InvalidVectors):
        to_query(bad, dimension=2, metric=Metric.COSINE)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e17, 1e17, width=64)))
@example(np.array([[9.4e-38, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
def test_normalisation_is_right_at_every_magnitude(values: Any) -> None:
    """From 1e-300 to 1e17 a row is refused as zero or too small, or comes back with norm 1 and its direction."""
    narrow = values.astype(np.float32).astype(np.float64)
    norms = np.linalg.norm(narrow, axis=1)
    reasons = ["zero vector"] * bool((norms == 0).any())
    reasons += ["too small for float32"] * bool(((norms > 0) & (norms < MIN_COSINE_NORM)).any())
    if reasons:  # where there are rows of both kinds, either may be named
        with pytest.raises(InvalidVectors, match="|".join(reasons)):
            matrix(values, dimension=4)
        return
    out = matrix(values, dimension=4)
    expected = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(to_query(values[0], dimension=4, metric=Metric.COSINE)[0], expected[0], atol=1e-6)


@pytest.mark.parametrize("metric", [Metric.INNER_PRODUCT, Metric.L2])
@pytest.mark.parametrize("norm", [1e-24, 1e-19, 9e-16, 1.1e18])
def test_lengths_whose_squares_float32_cannot_hold_are_refused(metric: Metric, norm: float) -> None:
    """Rows and queries alike, with the row, the bound and the cure; zero, and whatever lies between, is taken."""
    rows = np.array([[3.0, 4.0], [0.6 * norm, 0.8 * norm]], dtype=np.float32)
    with pytest.raises(InvalidVectors, match=r"row 11 has norm .*(below 1e-15|above 1e\+18).*scale the vectors"):
        matrix(rows, metric)
    with pytest.raises(InvalidVectors, match=r"vector: row 0 has norm"):
        to_query(rows[1], dimension=2, metric=metric)
    for fine in (0.0, 1.01 * MIN_NORM, 0.99 * MAX_NORM):
        assert matrix(np.array([[fine, 0.0]], dtype=np.float32), metric)[0, 0] == np.float32(fine)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_float64_row_that_float32_would_make_zero_is_refused(metric: Metric) -> None:
    """Not taken for the zero vector; single components that vanish next to others are no loss."""
    with pytest.raises(InvalidVectors, match=r"row 12 would be the zero vector.*1\.0e-60"):
        matrix([[1.0, 2.0], [1.0, 1e-60], [0.0, 1e-60]], metric)
    with pytest.raises(InvalidVectors, match="would be the zero vector"):
        to_query([1e-60, 0.0], dimension=2, metric=metric)
    assert matrix([[1.0, 1e-60]], metric).tolist() == [[1.0, 0.0]]


def test_a_row_that_float16_cannot_keep_is_refused() -> None:
    """Without any component from 3e-8 on it would become zero; zero itself is kept, and so is what is rounded."""
    for size in (1e-12, 2.9e-8):
        rows = np.array([[1.0, 0.0], [0.0, -size], [size, size / 2]], dtype=np.float32)
        with pytest.raises(InvalidVectors, match=r"row 8 has no component larger than .* dtype='float32'"):
            to_stored(rows, "float16", what="vectors", first=7)
    fine = np.array([[6.2e-8, 1e-9], [0.0, 0.0], [1.0, 1e-8]], dtype=np.float32)
    assert to_stored(fine, "float16", what="vectors").dtype == np.float16
