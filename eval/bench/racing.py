"""Bare indexes, searched at every useful setting in the way that Reperio searches, and the quickest of them kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from faiss_families import CANDIDATES, Built
from measuring import Figures, Floats, K, p50

from reperio.index.library.loading import threads

LEVELS = (0.90, 0.95, 0.99)
_WARM = 20  # queries before those that are timed
_HOPELESS_US = (
    3000  # what takes longer wins no race, and is not worth exact figures; exact search takes four times that
)
KEPT = 5
"""The best per race, which are timed again, side by side."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to search one index: the knob, the candidates, and what came of it (µs per query)."""

    built: Built
    effort: int
    candidates: int
    recall: float
    p50: float = 0.0

    def to_figures(self) -> Figures:
        """Return what goes into the results file."""
        return {
            "index": self.built.name,
            "effort": self.effort,
            "candidates": self.candidates,
            "knn_recall": self.recall,
            "p50_us": round(self.p50, 1),
            "bytes_per_vector": self.built.bytes,
            "build_seconds": self.built.seconds,
        }


class Sweep:
    """Searches FAISS indexes with single queries, in the same way as Reperio does.

    Args:
        matrix: float32 (n, d), rows of norm 1.
        queries: (m, d), those that measure.
        nearest: the exact ten of each, (m, 10).
        first: queries of a first timing.
    """

    def __init__(self, matrix: Floats, queries: Floats, nearest: npt.NDArray[np.int64], first: int) -> None:
        self._matrix = matrix
        self._queries = queries
        self._nearest = nearest
        self._first = first

    def settings(self, built: Built, levels: Iterable[float]) -> list[Setting]:
        """Return, per level, the quickest setting of an index that reaches it; none for a level out of reach."""
        reaching = self._recalls(built)
        timed: dict[tuple[int, int], Setting] = {}
        best = []
        for level in levels:
            enough = [setting for setting in reaching if setting.recall >= level]
            least: dict[int, Setting] = {}  # by candidates: more effort than the least that suffices never pays
            for setting in enough:
                least.setdefault(setting.candidates, setting)
            for setting in least.values():
                key = (setting.effort, setting.candidates)
                if key not in timed:
                    timed[key] = replace(setting, p50=self.p50(setting, self._first))
            reached = [timed[setting.effort, setting.candidates] for setting in least.values()]
            best += [min(reached, key=lambda setting: setting.p50)] if reached else []
        return best

    def _recalls(self, built: Built) -> list[Setting]:
        """Return all settings with their recall, by rising effort.

        Rescoring is exact, so a true neighbour among the candidates is among the ten best: recall follows from the
        candidates alone, and from one search for every number of them, each being a prefix.
        """
        counts = CANDIDATES if built.rescored else (K,)
        found: list[Setting] = []
        for effort in built.efforts:
            fitting = [count for count in counts if not built.walks or count <= effort or count == K]
            started = time.perf_counter()
            rows = built.nearest(self._queries, max(fitting), effort)
            each = (time.perf_counter() - started) / len(self._queries)
            hits = (rows[:, :, None] == self._nearest[:, None, :]).any(axis=2)
            shares = {count: round(float(hits[:, :count].sum() / hits.shape[0] / K), 4) for count in fitting}
            found += [Setting(built, effort, count, share) for count, share in shares.items()]
            if shares[K] >= LEVELS[-1] or each > _HOPELESS_US / 1e6:
                break  # more effort could only be slower
        return found

    def p50(self, setting: Setting, queries: int | None = None) -> float:
        """Return the median µs of a search, on one thread; roughly, when asked for a part of the queries, if long."""
        search = self.subject(setting)
        with threads(1):
            rough = p50(search, self._queries[:_WARM])
            if queries is not None and rough > _HOPELESS_US:
                return rough
            return p50(search, self._queries[:queries])

    def subject(self, setting: Setting) -> Callable[[Floats], Any]:
        """Return a function that searches for one query, and rescores exactly."""
        find, matrix = setting.built.finder(setting.candidates, setting.effort), self._matrix

        def rescored(query: Floats) -> Any:
            found = find(query)
            scores = np.vecdot(matrix.take(found, axis=0), query)
            return found[(-scores).argsort()[:K]]

        return rescored if setting.built.rescored else find


class Race:
    """The quickest few of all settings that reach a recall within a number of bytes per vector."""

    def __init__(self, level: float, most_bytes: float | None) -> None:
        self.level = level
        self.most_bytes = most_bytes
        self.leading: list[Setting] = []

    def enter(self, settings: Iterable[Setting]) -> None:
        """Take the quickest of one index's settings that qualifies."""
        allowed = (one for one in settings if self.most_bytes is None or one.built.bytes <= self.most_bytes)
        reached = [one for one in allowed if one.recall >= self.level]
        if reached:
            self.leading.append(min(reached, key=lambda one: one.p50))
            self.leading = sorted(self.leading, key=lambda one: one.p50)[:KEPT]
