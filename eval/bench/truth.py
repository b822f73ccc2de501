"""Exact answers over any number of vectors, block by block; and how hard they are to find.

Independent of Reperio on purpose: what is measured must not be judged by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from measuring import Figures, Floats

DEPTH = 100
"""Neighbours kept per query: what the local intrinsic dimension is estimated from."""

_K = 10


class Nearest:
    """The exact nearest neighbours of some queries among unit vectors that are shown once, in any number of blocks.

    Args:
        queries: float32 (n, d), of norm 1; the inner product is then the cosine.
        depth: neighbours kept per query.
    """

    def __init__(self, queries: Floats, depth: int = DEPTH) -> None:
        self._queries = queries
        self._depth = depth
        self._rows: npt.NDArray[np.int64] = np.empty((len(queries), 0), dtype=np.int64)
        self._scores: Floats = np.empty((len(queries), 0), dtype=np.float32)
        self._distances: npt.NDArray[np.float64] = np.zeros(len(queries))
        self.seen = 0

    def show(self, block: Floats) -> None:
        """Take the next rows, float32 (n, d)."""
        scores = self._queries @ block.T
        # Summed before partitioning, which reorders. Rounding may put a cosine beyond 1.
        self._distances += np.sqrt(np.maximum(0, 2 - 2 * scores)).sum(axis=1, dtype=np.float64)
        keep = min(self._depth, len(block))
        best = np.argpartition(scores, len(block) - keep, axis=1)[:, len(block) - keep :]
        rows = np.concatenate((self._rows, best + self.seen), axis=1)
        together = np.concatenate((self._scores, np.take_along_axis(scores, best, axis=1)), axis=1)
        order = np.argsort(-together, axis=1, kind="stable")[:, : self._depth]
        self._rows, self._scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(together, order, axis=1)
        self.seen += len(block)

    def rows(self, k: int = _K) -> npt.NDArray[np.int64]:
        """Return the *k* nearest of the rows shown, best first, (queries, k)."""
        return self._rows[:, :k]

    def hardness(self) -> Figures:
        """Return local intrinsic dimension and relative contrast over the rows shown.

        The dimension is the maximum likelihood estimate of Levina and Bickel, in the form of Amsaleg et al.: the
        negative reciprocal of the mean of ln(rᵢ / r₁₀₀) over the 99 nearer of the hundred nearest neighbours, rᵢ the
        Euclidean distance of unit vectors. Relative contrast: mean distance to all rows, divided by the distance to
        the tenth nearest. Both per query; mean and median over the queries. An easy set has a low dimension and a high
        contrast.
        """
        distances = np.sqrt(np.maximum(1e-12, 2 - 2 * self._scores.astype(np.float64)))
        logs = np.log(distances[:, :-1] / distances[:, -1:])
        with np.errstate(divide="ignore"):  # neighbours all equally far: infinitely many dimensions
            dimension = -1 / logs.mean(axis=1)
        contrast = self.contrast()
        return {
            "rows": self.seen,
            "queries": len(self._queries),
            "neighbours": int(self._scores.shape[1]),
            "local_intrinsic_dimension": {
                "mean": round(float(dimension.mean()), 1),
                "median": round(float(np.median(dimension)), 1),
            },
            "relative_contrast_at_10": {
                "mean": round(float(contrast.mean()), 3),
                "median": round(float(np.median(contrast)), 3),
            },
        }

    def contrast(self) -> npt.NDArray[np.float64]:
        """Return the relative contrast of each query, see `hardness`: the lower, the harder."""
        tenth = np.sqrt(np.maximum(1e-12, 2 - 2 * self._scores[:, _K - 1].astype(np.float64)))
        return np.asarray(self._distances / self.seen / tenth)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `restored` takes, as arrays."""
        return {
            "rows": self._rows,
            "scores": self._scores,
            "distances": self._distances,
            "seen": np.array(self.seen),
        }

    @classmethod
    def restored(cls, queries: Floats, state: dict[str, npt.NDArray[Any]], depth: int = DEPTH) -> Nearest:
        """Go on from a state that was kept."""
        made = cls(queries, depth)
        made._rows, made._scores = state["rows"].astype(np.int64), state["scores"].astype(np.float32)
        made._distances, made.seen = state["distances"].astype(np.float64), int(state["seen"])
        return made
