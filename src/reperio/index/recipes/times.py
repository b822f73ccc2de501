"""Predict how long an index takes to be chosen, built and measured, from rates that were measured.

The rates are of two cores; docs/decisions/0019-measured-and-left.md has what they were fitted to, and how far off they
are. Another machine is told by how quickly it multiplies matrices.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

_FLOPS = 1.2e11  # float32 operations per second of a matrix product, on the two cores of the rates below
_READING = 1e9  # bytes of vectors read per second, from memory
# The same, and seconds per row of a training sample, where the vectors do not fit in memory: of one virtual disk.
_PAGING, _PAGED_ROW = 4e8, 5e-5
_ITERATIONS, _FEW_ITERATIONS, _MANY_LISTS = 10, 6, 1024  # of k-means; from so many lists on, the fewer
_SAMPLE_BYTES = 1 << 30  # as `training.SAMPLE_BYTES`
_CLUSTERING = 2.5  # times the multiplications of k-means that it takes in all
_GRAPH_STEP = 4e-8  # seconds per row and dimension to walk to the nearest of thousands of centroids
_SETTINGS = 30.0  # seconds to try the settings of a graph over 100,000 rows
_DEAREST, _MOST_QUERIES = 4e12, 1000  # as in `tuning.questions`: what exact answers cost at most
# A matrix product that BLAS gives to one thread, whatever else runs: its best time varies by 1% where a larger product,
# whose threads wait for one another, took up to a hundred times as long.
_SIDE, _LONGEST_SAMPLE = 64, 0.1
_SMALL_FLOPS = 6.6e10  # operations per second of such a product on one of the two cores


@dataclass(frozen=True, slots=True)
class Machine:
    """The speed of a machine.

    Attributes:
        threads: that a build uses.
        speed: of one thread, relative to one of the two cores whose rates these are.
        memory: bytes.
    """

    threads: int = 2
    speed: float = 1.0
    memory: float = 23.5 * 2**30

    @property
    def shared(self) -> float:
        """Seconds that a second of work takes here which all threads share."""
        return 2 / (self.threads * self.speed)

    @property
    def alone(self) -> float:
        """Seconds that a second of work takes here which one thread does."""
        return 1 / self.speed


REFERENCE = Machine()


@cache
def this_machine() -> Machine:
    """Multiply small matrices for a tenth of a second, once per process, to tell how fast a thread is here."""
    factor = np.random.default_rng(0).standard_normal((_SIDE, _SIDE)).astype(np.float32)
    product = np.empty_like(factor)
    best, started = math.inf, time.perf_counter()
    while (before := time.perf_counter()) - started < _LONGEST_SAMPLE:
        np.matmul(factor, factor, out=product)
        best = min(best, time.perf_counter() - before)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(len(os.sched_getaffinity(0)), 2 * _SIDE**3 / best / _SMALL_FLOPS, memory)


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of work on the two cores whose rates these are.

    Attributes:
        shared: that all threads share.
        alone: that one thread does.
        waiting: that the disk does.
    """

    shared: float = 0.0
    alone: float = 0.0
    waiting: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.shared + other.shared, self.alone + other.alone, self.waiting + other.waiting)

    def on(self, machine: Machine) -> float:
        """Return the seconds that it takes on a machine."""
        return self.shared * machine.shared + self.alone * machine.alone + self.waiting


NOTHING = Work()


def reading(rows: int, dimension: int, kept: int) -> Work:
    """Return the work to read all vectors and reduce them to *kept* dimensions, which one thread does."""
    took = rows * dimension * 4 / _READING
    if kept < dimension:
        took += (2 * rows * dimension * kept + 20 * dimension**3) / (_FLOPS / 2)
    return Work(alone=took)


def paging(rows: int, dimension: int, sample: int, memory: float) -> Work:
    """Return the work to read vectors that do not fit in memory, once as a whole and a sample of them at random."""
    size = rows * dimension * 4
    return Work(waiting=size / _PAGING + sample * _PAGED_ROW) if size > memory else NOTHING


def linking(rows: int, kept: int, construction: int, width: int) -> Work:
    """Return the work to insert rows into an HNSW.

    Args:
        rows: of the graph.
        kept: dimensions of each.
        construction: efConstruction.
        width: bytes per dimension.
    """
    slower = {1: 1.0, 2: 1.15, 4: 1.3}[width]
    # Per row and unit of efConstruction, measured at 100,000 rows; a larger graph no longer fits the caches.
    return Work(rows * construction * 1e-6 * (0.35 + 0.0023 * kept) * slower * (rows / 1e5) ** 0.1)


def symphony(rows: int, dimension: int) -> Work:
    """Return the work to build a graph of SymphonyQG, which has 200 rows in view."""
    return Work(rows * (60e-6 + 0.5e-6 * dimension) * (rows / 1e5) ** 0.1)


def clustering(rows: int, lists: int, kept: int, points: int, dimension: int) -> Work:
    """Return the work to find the centroids of *lists* lists, by *points* rows each."""
    if lists == 1:
        return NOTHING
    sample = min(rows, points * lists, _SAMPLE_BYTES // (4 * dimension))
    iterations = _FEW_ITERATIONS if lists >= _MANY_LISTS else _ITERATIONS
    return Work(_CLUSTERING * iterations * 2 * sample * lists * kept / _FLOPS)


def assigning(rows: int, lists: int, kept: int, *, graph: bool) -> Work:
    """Return the work to find the list of each row, by comparing all centroids or by a graph over them."""
    return Work(rows * (_GRAPH_STEP * kept if graph else _CLUSTERING * 2 * lists * kept / _FLOPS))


def measuring(rows: int, dimension: int, share: float) -> Work:
    """Return the work to measure an index thoroughly.

    Args:
        rows: covered.
        dimension: of the vectors.
        share: of what the settings of a graph of 8-bit codes take.
    """
    queries = min(_MOST_QUERIES, _DEAREST / (rows * dimension))
    exact = 2 * queries * rows * dimension / _FLOPS
    return Work(exact, _SETTINGS * share * (rows / 1e5) ** 0.2)


def in_words(seconds: float) -> str:
    """Return a predicted time as people say it: "about 1 h 45 min"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {10 * round(seconds / 10)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    if minutes < 600:
        hours, rest = divmod(5 * round(minutes / 5), 60)
        return f"about {hours} h" + (f" {rest} min" if rest else "")
    return f"about {round(minutes / 60)} h"
