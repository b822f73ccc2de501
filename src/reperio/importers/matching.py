"""Find where in a file the vectors are that documents name by number."""

from __future__ import annotations

import numpy as np

from reperio.types import Rows


def places_of(asked: list[int], numbers: Rows) -> list[int]:
    """Return where in *numbers* each of these is, −1 for one that is not.

    By sorting, not by a dictionary: what a file says may have been chosen to collide.
    """
    if not len(numbers):
        return [-1] * len(asked)
    order = np.argsort(numbers, kind="stable")
    wanted = np.array(asked, dtype=np.int64)
    at = order[np.minimum(np.searchsorted(numbers, wanted, sorter=order), len(numbers) - 1)]
    found: list[int] = np.where(numbers[at] == wanted, at, -1).tolist()
    return found
