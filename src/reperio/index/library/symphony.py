"""SymphonyQG graphs, through rabitqlib: built once, written, loaded and walked. Nothing else imports it.

A graph numbers its rows from 0, in the order in which it was given them, and takes no further ones. `Graphs` is what
serves as an index: graphs over consecutive runs of rows, and 4-bit codes of all rows in a FAISS index.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reperio import forks
from reperio.errors import IndexBuildFailed, MissingDependency, StorageFailed
from reperio.index.library.files import FileUnusable, Written, hash_file, opened_once_verified
from reperio.index.library.loading import patient_threads
from reperio.layout import storage_errors, sync_directory, sync_file
from reperio.optional import OptionalImport
from reperio.types import FloatMatrix, Metric, Rows

# Its next versions name the arguments otherwise, and may write another format: none of that is tested here.
_LEAST_VERSION, _FIRST_UNTESTED = (0, 7, 1), (0, 8)
_LEAST_PYTHON = 3, 11
_FACTORY = re.compile(r"SymphonyQG([1-9][0-9]{0,3}),RaBitQ([48])", re.IGNORECASE)
NARROWEST = 64  # dimensions; its rotation takes no fewer
_LAST_SECONDS = 10.0  # that the end of Python waits for a build, as for other indexes
_TOO_FEW = "could not produce k results"  # what it says of a walk that ended too early
_STEP = 32  # links and dimensions come in multiples of it


class Shape(NamedTuple):
    """The parameters of a graph."""

    links: int  # of each row, a multiple of 32
    bits: int  # per dimension of what a row is compared by; 4 or 8

    @property
    def factory(self) -> str:
        """Return the name of the graph, as `optimize(index=)` takes it."""
        return f"SymphonyQG{self.links},RaBitQ{self.bits}"

    def row_bytes(self, dimension: int) -> int:
        """Return the bytes of one row: its own code, the codes of its neighbours, and who they are."""
        width = _STEP * -(-dimension // _STEP)
        return width * self.bits // 8 + 8 + self.links * (width // 8 + 12)


STANDARD = Shape(32, 8)
"""The shape that was measured to be best (docs/decisions/0018-symphonyqg.md)."""


def shape_of(factory: str) -> Shape | None:
    """Return the shape of the graph of this name; None for the name of a FAISS index.

    Raises:
        IndexBuildFailed: it is the name of no graph that there could be.
    """
    if not factory.lower().startswith("symphonyqg"):
        return None
    match = _FACTORY.fullmatch(factory)
    if match is None or int(match[1]) % _STEP:
        raise IndexBuildFailed(
            f"{factory!r:.100} names no SymphonyQG graph: that is SymphonyQG<links>,RaBitQ<bits>, links a multiple of "
            f'{_STEP}, bits 4 or 8; pass "symphonyqg" for {STANDARD.factory}'
        )
    return Shape(int(match[1]), int(match[2]))


@cache
def is_installed() -> bool:
    """Say whether rabitqlib is there, in a version that is known to work."""
    try:
        _load()
    except MissingDependency:
        return False
    return True


@cache
def _load() -> Any:
    """Import rabitqlib.

    Raises:
        MissingDependency: it is not there, or in a version that is not known to work; with the cure.
    """
    if sys.version_info < _LEAST_PYTHON:
        raise MissingDependency(
            "a SymphonyQG graph needs rabitqlib, which has no build for Python 3.10; use Python 3.11 or later, or "
            "another index"
        )
    needed = OptionalImport("a SymphonyQG graph", "rabitqlib", extra="graph")
    with needed:
        version = metadata.version("rabitqlib")
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if not _LEAST_VERSION <= found < _FIRST_UNTESTED:
        raise MissingDependency(
            f"a SymphonyQG graph needs rabitqlib 0.7.1 or a later 0.7, and {version} is installed; run: "
            "pip install 'reperio[graph]'"
        )
    with needed, patient_threads():  # it brings an OpenMP runtime of its own
        from rabitqlib import SymqgIndex
    return SymqgIndex


class Graph:
    """A graph over the rows [first, first + rows) of a collection. It never changes, and may be shared.

    Args:
        native: rabitqlib's index.
        first: the row that it knows as 0.
        file: name of its file in the directory of indexes; None while it has none.
        written: what that file holds.
    """

    def __init__(self, native: Any, first: int, file: str | None = None, written: Written | None = None) -> None:
        self.native, self.first, self.file, self.written = native, first, file, written
        self.rows = int(native.num_points)


def require_possible(shape: Shape, rows: int, dimension: int) -> None:
    """Raise `IndexBuildFailed` where no such graph can be built, or `MissingDependency`."""
    _load()
    if dimension < NARROWEST or rows <= shape.links:
        raise IndexBuildFailed(
            f"a graph {shape.factory} takes vectors of at least {NARROWEST} dimensions and more than {shape.links} "
            f"rows; here are {rows:,} of {dimension} dimensions. Choose another index, or none for the recommended one"
        )


def build_graph(
    vectors: FloatMatrix, first: int, shape: Shape, metric: Metric, *, construction: int, workers: int
) -> Graph:
    """Build a graph over vectors (n, d), C-contiguous; *first* is the number of the first of them in the collection.

    The library draws the seed of its rotation itself: no two builds give the same bytes, nor quite the same answers.

    Raises:
        IndexBuildFailed: it takes more memory than there is, or the library refuses the vectors.
    """
    made: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            native = _load()(vectors.shape[1], shape.links, _name(metric), shape.bits)
            native.build(vectors, construction, 1 if forks.in_child() else workers)
            made.append(native)
        except BaseException as error:  # the thread that waits raises it
            failed.append(error)

    # One call of minutes, during which Python could not handle a signal: this thread only waits, and can be
    # interrupted. What goes on then is forgotten, and ends by itself.
    worker = threading.Thread(target=work, name="reperio-graph", daemon=True)
    _building.add(worker)
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
    _building.discard(worker)
    if failed:
        error = failed[0]
        if isinstance(error, (RuntimeError, ValueError, MemoryError)):
            told = str(error) or "it takes more memory than there is"
            raise IndexBuildFailed(
                f"rabitqlib cannot build {shape.factory} over {len(vectors):,} rows: {told}"
            ) from error
        raise error
    return Graph(made[0], first)


_building: set[threading.Thread] = set()


@atexit.register
def _rest() -> None:
    """Let builds that were interrupted end before Python does: its threads would abort the process."""
    until = time.monotonic() + _LAST_SECONDS
    for worker in list(_building):
        worker.join(max(0.0, until - time.monotonic()))


def _name(metric: Metric) -> str:
    return "l2" if metric is Metric.L2 else "ip"  # cosine is the inner product of normalised vectors


def write_graph(graph: Graph, path: Path) -> Written:
    """Write a graph, durably, under a new name that becomes *path* when all of it is on disk.

    Raises:
        StorageFailed: the disk is full, say; nothing is left behind.
    """
    fresh = path.with_name(path.name + ".new")
    with storage_errors(path, "write"):
        try:
            fresh.unlink(missing_ok=True)  # never through a link
            try:
                graph.native.save(str(fresh))
            except RuntimeError as error:
                raise StorageFailed(f"cannot write {path}: {error}") from error
            sync_file(fresh)
            written = hash_file(fresh)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_directory(path.parent)
    return written


# By path and checksum. Every handle of a process that opens the same file gets the same graph, and a build that grows
# an index keeps those that stay: they may be gigabytes.
_loaded: weakref.WeakValueDictionary[tuple[str, str], Graph] = weakref.WeakValueDictionary()


def known_graph(path: Path, written: Written, first: int, rows: int) -> Graph | None:
    """Return the graph that this process has loaded from a file, or written to it; None where it has not."""
    known = _loaded.get((os.path.realpath(path), written.sha256))
    fits = known is not None and (known.first, known.rows) == (first, rows)
    return known if fits and path.exists() else None


def read_graph(path: Path, written: Written, first: int, rows: int, dimension: int, metric: Metric) -> Graph:
    """Verify and load a graph.

    Raises:
        FileUnusable: missing, damaged, or another graph than the one recorded.
        MissingDependency: rabitqlib is not installed.
        MemoryError: it takes more than there is.
    """
    native = _load()
    with opened_once_verified(path, written) as verified:
        try:
            index = native.load(verified)
        except (RuntimeError, ValueError) as error:
            raise FileUnusable(f"{path}: rabitqlib cannot read it ({error!s:.200})") from error
    found = (int(index.num_points), int(index.dim), str(index.metric))
    if found != (rows, dimension, _name(metric)):
        raise FileUnusable(f"{path} holds {found}, which is not what was recorded")
    graph = Graph(index, first, path.name, written)
    _loaded[os.path.realpath(path), written.sha256] = graph
    return graph


def remember(graph: Graph, path: Path, written: Written) -> None:
    """Note the file that a graph was written to, for who reads it in this process."""
    graph.file, graph.written = path.name, written
    _loaded[os.path.realpath(path), written.sha256] = graph


def walk(
    graph: Graph, queries: FloatMatrix, count: int, effort: int, workers: int
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Return rows of the collection, int64 (n, count), nearest first, −1 where there are fewer; and how far they are.

    Args:
        graph: to walk.
        queries: float32 (n, d), C-contiguous.
        count: at least 1; at most the rows of the graph.
        effort: rows kept in view on the way, at least *count*.
        workers: threads; one in a child of a fork.
    """
    try:
        found, far = graph.native.search(queries, count, effort, 1 if forks.in_child() else workers)
    except RuntimeError as error:
        # It raises where a walk ends before *count* rows were met, among equal rows by the thousand: for all queries of
        # a call, whichever it was.
        if _TOO_FEW not in str(error):
            raise
        if len(queries) == 1:
            return np.full((1, count), -1, dtype=np.int64), np.full((1, count), np.inf, dtype=np.float32)
        parts = [walk(graph, queries[i : i + 1], count, effort, 1) for i in range(len(queries))]
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([far for _, far in parts])
    rows: Rows = found.astype(np.int64)
    return rows + graph.first if graph.first else rows, far


class Graphs:
    """An index of graphs: each over a run of rows, one after the other, and codes of all rows next to them.

    Without graphs, which are not loaded yet or cannot be, the codes alone serve.

    Args:
        codes: FAISS's `IndexPQ` with 4 bits, behind transforms or not; row r is its r-th code.
        graphs: in the order of rows, without gaps, from row 0.
        packed: the same codes as they are scanned; None where they are still to be packed.
    """

    def __init__(self, codes: Any, graphs: Sequence[Graph], packed: Any | None = None) -> None:
        self.codes, self.graphs, self.packed = codes, tuple(graphs), packed

    @property
    def d(self) -> int:
        """Return the dimension."""
        return int(self.codes.d)

    @property
    def ntotal(self) -> int:
        """Return the number of rows."""
        return int(self.codes.ntotal)

    @property
    def metric_type(self) -> int:
        """Return FAISS's number for the metric."""
        return int(self.codes.metric_type)
