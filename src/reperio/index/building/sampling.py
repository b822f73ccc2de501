"""A sample of the mapped vector file: always the same rows, in memory as float32."""

from __future__ import annotations

import numpy as np

from reperio.types import FloatMatrix, Rows
from reperio.vectors import StoredMatrix, to_float32

BLOCK_ROWS = 16_384
SEED = 20_240


def choose_rows(rows: range, count: int) -> Rows:
    """Choose *count* of *rows*, always the same, in file order for the sake of the disk."""
    chosen = np.random.default_rng(SEED).choice(len(rows), min(count, len(rows)), replace=False)
    chosen.sort()
    return rows.start + chosen


def gather(matrix: StoredMatrix, rows: Rows) -> FloatMatrix:
    """Copy rows as float32, without a second copy of all of them on the way."""
    gathered = np.empty((len(rows), matrix.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        gathered[start : start + BLOCK_ROWS] = to_float32(matrix[rows[start : start + BLOCK_ROWS]])
    return gathered
