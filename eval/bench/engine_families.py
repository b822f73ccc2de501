"""Graphs of SymphonyQG worth trying on one set of unit vectors, built and searched as rabitqlib does it.

Its own bytes are counted, without the codes that Reperio keeps next to a graph.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from faiss_families import BREADTHS, Built
from measuring import Floats

from reperio.index.library.symphony import NARROWEST, Shape, is_installed

_SHAPES = (  # links, bits (0: the vectors themselves), efConstruction
    (32, 8, 100),
    (32, 8, 200),
    (32, 8, 400),
    (64, 8, 200),
    (32, 4, 200),
    (32, 0, 200),
)


@dataclass(eq=False)
class Walked(Built):
    """A graph of rabitqlib."""

    def __post_init__(self) -> None:
        """Keep the base class from asking FAISS what the index is."""

    @property
    def walks(self) -> bool:
        """Say that it is a graph."""
        return True

    def nearest(self, queries: Floats, count: int, effort: int) -> npt.NDArray[np.int64]:
        """Return the rows found for many queries by all cores, (n, count), nearest first."""
        found = self.index.search(queries, count, max(effort, count), len(os.sched_getaffinity(0)))[0]
        return np.asarray(found, dtype=np.int64)

    def finder(self, count: int, effort: int) -> Callable[[Floats], npt.NDArray[np.int64]]:
        """Return a function that finds the rows nearest to one query."""
        search, width = self.index.search, max(effort, count)

        def find(query: Floats) -> npt.NDArray[np.int64]:
            found: npt.NDArray[np.int64] = search(query[None], count, width, 1)[0][0]
            return found

        return find


def is_possible(matrix: Floats) -> bool:
    """Say whether graphs can be built over a matrix here."""
    return is_installed() and matrix.shape[1] >= NARROWEST and len(matrix) > max(links for links, _, _ in _SHAPES)


def all_built(matrix: Floats) -> Iterator[Built]:
    """Build all graphs; none where rabitqlib is not installed, or takes no such vectors."""
    if not is_possible(matrix):
        return
    from rabitqlib import SymqgIndex

    for links, bits, construction in _SHAPES:
        started = time.perf_counter()
        graph = SymqgIndex(matrix.shape[1], links, "ip", bits)
        graph.build(matrix, construction, len(os.sched_getaffinity(0)))
        size = Shape(links, bits or 32).row_bytes(matrix.shape[1])
        name = f"SymphonyQG{links},{f'RaBitQ{bits}' if bits else 'Flat'} (efConstruction {construction})"
        seconds = round(time.perf_counter() - started, 2)
        yield Walked(name, graph, float(size), seconds, rescored=bits > 0, efforts=BREADTHS)
