"""A sample of the mapped vector file: always the same rows, in memory as float32."""

from __future__ import annotations

import numpy as np

from reperio.index.exact.read_ahead import ReadAhead
from reperio.types import FloatMatrix, Rows
from reperio.vectors import StoredMatrix, to_float32

BLOCK_ROWS = 16_384
SEED = 20_240
_PART_ROWS = 4096  # as many as are asked for at once where they come from the disk


def choose_rows(rows: range, count: int) -> Rows:
    """Choose *count* of *rows*, always the same, in file order for the sake of the disk."""
    chosen = np.random.default_rng(SEED).choice(len(rows), min(count, len(rows)), replace=False)
    chosen.sort()
    return rows.start + chosen


def gather(matrix: StoredMatrix, rows: Rows) -> FloatMatrix:
    """Copy rows as float32, without a second copy of all of them on the way."""
    gathered = np.empty((len(rows), matrix.shape[1]), dtype=np.float32)
    ahead = ReadAhead()
    for start in range(0, len(rows), _PART_ROWS):
        part = rows[start : start + _PART_ROWS]
        with ahead.reading(matrix, part):
            gathered[start : start + _PART_ROWS] = to_float32(matrix[part])
    return gathered
