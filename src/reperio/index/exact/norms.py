"""Find the greatest length among stored vectors, which bounds the rounding of their inner products."""

from __future__ import annotations

import math
import threading

import numpy as np

from reperio.index.exact.scoring import underflow
from reperio.types import FloatMatrix, Rows
from reperio.vectors import StoredMatrix, to_float32

_BLOCK = 4096  # rows whose greatest length is kept together


class Norms:
    """Greatest lengths of the rows of one file, by block: each row is read once, when it is first asked for.

    Rows of a file never change, so what was read stays true as others are appended. For any number of threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[int, float]] = {}  # block → rows of it read, greatest squared length of those

    def greatest(self, matrix: StoredMatrix, first: int = 0) -> float:
        """Return a length that no row of [first, len(matrix)) exceeds."""
        with self._lock:
            blocks = range(first // _BLOCK, -(-len(matrix) // _BLOCK))
            return math.sqrt(max((self._square(matrix, block) for block in blocks), default=0.0))

    def _square(self, matrix: StoredMatrix, block: int) -> float:
        read, square = self._known.get(block, (0, 0.0))
        rows = matrix[block * _BLOCK + read : (block + 1) * _BLOCK]
        if len(rows):
            square = max(square, _greatest_square(to_float32(rows)))
            self._known[block] = read + len(rows), square
        return square


def greatest_of(matrix: StoredMatrix, rows: Rows) -> float:
    """Return the greatest length of some rows."""
    parts = (rows[low : low + _BLOCK] for low in range(0, len(rows), _BLOCK))
    return math.sqrt(max((_greatest_square(to_float32(matrix.take(part, axis=0))) for part in parts), default=0.0))


def _greatest_square(vectors: FloatMatrix) -> float:
    # A hundredth for float32's rounding, and what squares that are too small for it may lose.
    return 1.01 * float(np.vecdot(vectors, vectors).max()) + underflow(vectors.shape[1])
