"""The one door for arrays: dtype, shape, finiteness, normalisation.

Whatever comes in leaves as a C-contiguous float32 matrix that FAISS can take as it is, or is refused with the
offending row named. A collection may keep its vectors as float16: `to_stored` rounds them, `to_float32` widens them.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.errors import InvalidVectors
from reperio.types import FloatMatrix, Metric

# float32 or float16, shape (n, d), C-contiguous: vectors as the file keeps them.
StoredMatrix: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float16]
LARGEST_HALF = 65504.0  # largest magnitude that float16 holds
MAX_NORM = 1e18  # largest Euclidean norm accepted: beyond it a squared distance (up to 4·norm²) overflows float32
# Least Euclidean norm accepted under inner product and L2, apart from zero: its square is 1e-30. Squared differences
# down to a ten-thousandth of it stay above 1.2e-38, where float32 begins to lose digits.
MIN_NORM = 1e-15
# The same under cosine, where vectors are scaled: below it float32 has lost digits of the components already.
MIN_COSINE_NORM = 1e-37
# The types that lists of integers become. Models write quantized or binary embeddings in narrower ones.
_WHOLE_NUMBERS = (np.int32, np.int64, np.uint32, np.uint64)
_LEAST_SQUARE, _LARGEST_SQUARE = 1e-30, 1e30  # squared norms that float32 computes well; others get a second look

# A half's exponent and mantissa, moved to where a float keeps them, make a float 2¹¹² times too small.
_HALF_SHIFT, _HALF_SCALE = 13, np.float32(2.0**112)
_HALF_BITS = np.array(0x8FFFE000, dtype=np.uint32).view(np.int32)


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
    array = _to_float32(values, what, first)
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


def to_stored(matrix: FloatMatrix, dtype: Literal["float32", "float16"], *, what: str, first: int = 0) -> StoredMatrix:
    """Round checked float32 vectors to what the file keeps; float32 comes back as it is.

    float16 has 11 significant bits: a component is kept to a relative 2⁻¹¹, or, below 6.1e-5, to an absolute 3e-8, so
    that what is smaller becomes zero; a vector of which nothing is left is refused. Scores are exact for the vectors
    kept. They differ from those of the vectors given, under cosine by less than 5e-4, and under inner product by that
    times the lengths of both vectors.

    Args:
        matrix: (n, d), from `to_matrix`.
        dtype: of the collection.
        what: names the input in an error.
        first: number of the first row in an error.

    Raises:
        InvalidVectors: a component beyond ±65504, or none from 3e-8 on, with its row. Under cosine there is neither.
    """
    if dtype == "float32" or len(matrix) == 0:
        return matrix.astype(dtype, copy=False)
    if max(float(matrix.max()), -float(matrix.min())) > LARGEST_HALF:
        sizes = np.abs(matrix).max(axis=1)
        row = int(np.argmax(sizes > LARGEST_HALF))
        raise InvalidVectors(
            f"{what}: row {first + row} holds a component of size {sizes[row]:.6g}, and float16 ends at 65504; "
            "scale the vectors, or keep them in a collection with dtype='float32'"
        )
    with np.errstate(under="ignore"):
        stored = matrix.astype(np.float16)
    for place in np.flatnonzero(~(stored.view(np.uint16) & 0x7FFF).any(axis=1)):  # as integers, which is quicker
        size = float(np.abs(matrix[place]).max())
        if size > 0:
            raise InvalidVectors(
                f"{what}: row {first + place} has no component larger than {size:.1e}, of which float16 keeps nothing; "
                "scale the vectors, or keep them in a collection with dtype='float32'"
            )
    return stored


def mapping_of(matrix: StoredMatrix) -> mmap.mmap | None:
    """Return the mapping that a matrix lies in; None for one without rows, which has none."""
    base: object = matrix
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def to_float32(stored: StoredMatrix) -> FloatMatrix:
    """Widen vectors as stored to float32, exactly; float32 comes back as it is, not copied."""
    # By moving bits, as numpy's own cast takes 0.9 ns per component, one at a time, and this 0.33. Matrices beyond the
    # processor's cache are better widened in parts. Inf and NaN, which are never stored, become large numbers.
    if stored.itemsize == 4:
        return stored  # type: ignore[return-value]  # the size tells the type, in a fifth of the time
    bits = stored.view(np.int16).astype(np.int32)
    bits <<= _HALF_SHIFT
    bits &= _HALF_BITS  # the sign was extended over three bits too many
    floats = bits.view(np.float32)
    floats *= _HALF_SCALE
    return floats


def cosines(left: npt.ArrayLike, right: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of *left* to the same row of *right*: float64 (n,), 0 for a row of zeros."""
    one, other = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: npt.NDArray[np.float64] = np.einsum("ij,ij->i", one, other) / np.maximum(lengths, 1e-300)
    return found


def _to_float32(values: Any, what: str, first: int = 0) -> FloatMatrix:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O" and array.ndim:  # of pandas, or of Arrow
            array = np.asarray(_unpacked(array.tolist()))
    except (ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
        raise InvalidVectors(
            f"{what}: cannot be read as one array ({error}); pass float32 (n, d): every vector there, of one length"
        ) from None
    if array.dtype.kind != "f" and (array.dtype not in _WHOLE_NUMBERS or _has_flags(values)):
        raise InvalidVectors(f"{what}: {_no_vectors(array)}")
    try:
        with np.errstate(over="ignore", under="raise"):  # too large becomes Inf, which is refused below with its row
            return np.ascontiguousarray(array, dtype=np.float32)
    except FloatingPointError:
        return _without_the_smallest(array, what, first)


def _without_the_smallest(array: npt.NDArray[np.floating[Any]], what: str, first: int) -> FloatMatrix:
    """Convert float64 of which some is too small for float32; refuse a row of which nothing would be left."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.ascontiguousarray(array, dtype=np.float32)
    gone = np.atleast_1d(array.any(axis=-1) & ~narrow.any(axis=-1))
    if gone.ndim == 1 and gone.any():
        row = int(np.argmax(gone))
        size = float(np.abs(np.atleast_2d(array)[row]).max())
        raise InvalidVectors(
            f"{what}: row {first + row} would be the zero vector in float32: its largest component is {size:.1e}; "
            "scale the vectors"
        )
    return narrow


def _unpacked(values: Any) -> Any:
    """Return what a column of vectors holds (of pandas, an object per row; of Arrow, a scalar per number) as lists."""
    if isinstance(values, list):
        return [_unpacked(each) for each in values]
    return values.as_py() if hasattr(values, "as_py") else values


def _has_flags(values: Any) -> bool:
    """Say whether lists hold a boolean, which numpy makes a number of where there are others."""
    return isinstance(values, (list, tuple)) and any(isinstance(each, bool) or _has_flags(each) for each in values)


def _no_vectors(array: npt.NDArray[Any]) -> str:
    if array.dtype in _WHOLE_NUMBERS:
        return "holds true or false among numbers; a vector has numbers alone"
    if array.dtype.kind in "iu":
        return (
            f"dtype {array.dtype}: quantized or binary embeddings are not comparable by this metric as they are; bring "
            "the model's floats, or, if these are the vectors, convert them: numpy.asarray(vectors, dtype='float32')"
        )
    shown = f"dtype {array.dtype}" if array.ndim else f"one {type(array.item()).__name__}"
    return f"{shown}, but vectors are numbers: pass a list of lists of floats, or an array of float32 (n, d)"


def _scale(matrix: FloatMatrix, metric: Metric, what: str, first: int) -> FloatMatrix:
    # Squared norms find every bad value in one pass: NaN and Inf propagate into them.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float32)
    suspect = ~((squares > _LEAST_SQUARE) & (squares < _LARGEST_SQUARE))
    if suspect.any():
        norms = np.sqrt(squares, dtype=np.float64)
        with np.errstate(invalid="ignore"):  # a signalling NaN, from a file that is damaged
            norms[suspect] = np.linalg.norm(matrix[suspect].astype(np.float64), axis=1)
        _refuse(matrix, norms, metric, what, first)
    else:
        norms = np.sqrt(squares)
    if metric is not Metric.COSINE:
        return matrix
    return np.asarray(matrix / norms[:, None], dtype=np.float32)


def _refuse(matrix: FloatMatrix, norms: npt.NDArray[Any], metric: Metric, what: str, first: int) -> None:
    for row in np.flatnonzero(~(norms <= MAX_NORM)):  # not >, which no NaN is
        where = f"{what}: row {first + row}"
        if np.isnan(matrix[row]).any():
            raise InvalidVectors(f"{where} contains NaN; check the embedding of that text")
        if np.isinf(matrix[row]).any():
            raise InvalidVectors(f"{where} contains Inf (or a float64 beyond float32's range); scale it")
        raise InvalidVectors(f"{where} has norm {norms[row]:.1e}, above {MAX_NORM:.0e}; scale the vectors")
    least = MIN_COSINE_NORM if metric is Metric.COSINE else MIN_NORM
    for row in np.flatnonzero((norms > 0.0) & (norms < least)):
        raise InvalidVectors(
            f"{what}: row {first + row} has norm {norms[row]:.1e}, below {least:.0e}, too small for float32; "
            "scale the vectors (all of them, and the queries, by the same factor)"
        )
    if metric is Metric.COSINE:
        for row in np.flatnonzero(norms == 0.0):
            raise InvalidVectors(
                f"{what}: row {first + row} is the zero vector, which has no direction under cosine; "
                "leave it out, or use metric='inner_product' or 'l2'"
            )


def load_array(file: BinaryIO) -> Any:
    """Return what `numpy.load` finds in an open file, once its header has been compared with the file's length.

    numpy sets aside what a header asks for, terabytes for a hundred bytes. No pickle is read.

    Raises:
        ValueError, EOFError: it is no array, or shorter than it says.
    """
    if file.read(len(_NPY)) == _NPY:
        file.seek(0)
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the format")
        try:
            shape, _, dtype = _HEADERS[version](file)
        except (MemoryError, RecursionError, TypeError) as error:  # of a header that is nested deeply
            raise ValueError("its header cannot be read") from error
        there = os.fstat(file.fileno()).st_size - file.tell()
        if any(type(length) is not int or length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > there:
            raise ValueError(f"{there} bytes do not hold an array of shape {shape!s:.80}")
    file.seek(0)
    return np.load(file, allow_pickle=False)


_NPY = b"\x93NUMPY"
_HEADERS: dict[tuple[int, int], Callable[[BinaryIO], tuple[Any, bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
