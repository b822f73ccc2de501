"""Filling a trained index from the mapped vector file, in blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.errors import IndexBuildFailed
from reperio.index.building.sampling import BLOCK_ROWS
from reperio.index.exact.read_ahead import in_blocks
from reperio.index.library.loading import innermost, load_faiss, threads
from reperio.printable import logger
from reperio.types import FloatMatrix, Progress
from reperio.vectors import StoredMatrix, to_float32

_log = logger("reperio.index")
_PART_ROWS = 512  # widened and transformed at a time: 2 MiB at 1,024 dimensions, which the cache holds
_NOT_ON_A_CARD: AbstractContextManager[None] = nullcontext()


def fill(
    index: Any,
    matrix: StoredMatrix,
    workers: int,
    progress: Progress | None,
    after_block: Callable[[Any], None] | None,
    name: str,
    *,
    assigning: AbstractContextManager[None] = _NOT_ON_A_CARD,
) -> None:
    """Add the rows of *matrix* that a trained index does not hold yet.

    Args:
        index: trained.
        matrix: all rows, as stored.
        workers: threads.
        progress: called as "index", with the rows in the index.
        after_block: called with the index after each block but the last.
        name: of the index, for an error.
        assigning: the block in which rows are added.

    Raises:
        IndexBuildFailed: FAISS cannot add to this kind of index.
    """
    rows = len(matrix)
    if progress is not None:
        progress("index", index.ntotal, rows)
    inner = innermost(index)
    # NSG is built in one go; it keeps all vectors in any case.
    step = max(1, rows) if "NSG" in type(inner).__name__ else BLOCK_ROWS
    if index.ntotal < rows:
        _reserve(inner, rows)
    with threads(workers), ThreadPoolExecutor(workers) as pool:
        for block in in_blocks(matrix, index.ntotal, step):
            set_levels(inner, index.ntotal + len(block))
            with faiss_errors(name, matrix), assigning:
                _add(index, block, pool)
            if progress is not None:
                progress("index", index.ntotal, rows)
            if after_block is not None and index.ntotal < rows:
                after_block(index)


def _add(index: Any, block: StoredMatrix, pool: Executor) -> None:
    """Add rows as `index.add` does, as they are stored."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        chain = [faiss.downcast_VectorTransform(index.chain.at(place)) for place in range(index.chain.size())]
        _add(index.index, _moved(block, chain, pool), pool)
        index.ntotal = index.index.ntotal
    elif isinstance(index, faiss.IndexRefine):
        block = _moved(block, [], pool)
        _add(index.base_index, block, pool)
        _add(index.refine_index, block, pool)
        index.ntotal = index.refine_index.ntotal
    else:
        index.add(_moved(block, [], pool))


def _moved(block: StoredMatrix, chain: list[Any], pool: Executor) -> FloatMatrix:
    """Return rows widened and transformed."""
    # In parts of one size: how a matrix product is rounded depends on that as well. Several parts at a time: one after
    # the other, this was a third of what an index of lists took to be filled.
    if not chain and block.dtype == np.float32:
        return np.ascontiguousarray(block)
    moved = np.empty((len(block), chain[-1].d_out if chain else block.shape[1]), dtype=np.float32)

    def move(start: int) -> None:
        moved[start : start + _PART_ROWS] = through(chain, block[start : start + _PART_ROWS])

    starts = range(0, len(block), _PART_ROWS)
    try:
        moving: Iterable[None] = pool.map(move, starts)
    except RuntimeError as error:  # Python ends, waits for this build, and lets no pool begin; or there is no thread
        _log.debug("one thread moves %d rows: %s", len(block), error)
        moving = map(move, starts)
    for _ in moving:
        pass
    return moved


def through(chain: list[Any], rows: StoredMatrix) -> FloatMatrix:
    """Return rows as the index behind transforms takes them, float32."""
    moved = np.ascontiguousarray(to_float32(rows))
    with threads(1):  # how a matrix product is rounded depends on the number of threads
        for transform in chain:
            moved = transform.apply(moved)
    return moved


def set_levels(inner: Any, rows: int) -> None:
    """Give the rows up to *rows* of a graph their levels, which FAISS takes instead of drawing them."""
    # FAISS draws from a generator that it does not write to files: a build that was resumed would draw other levels
    # than one in one go. Here a row's level follows from its number, with FAISS's own frequencies.
    if not hasattr(inner, "hnsw"):
        return
    levels, known = inner.hnsw.levels, inner.hnsw.levels.size()
    drawn = _levels(inner.hnsw, known, rows)
    levels.resize(rows)
    load_faiss().rev_swig_ptr(levels.data(), rows)[known:] = drawn


def _levels(hnsw: Any, first: int, stop: int) -> npt.NDArray[np.int32]:
    """Return the number of layers that rows [first, stop) are in, at least 1."""
    # splitmix64 (Steele, Lea, Flood 2014): consecutive numbers to independent bits, without state.
    bits = (np.arange(first + 1, stop + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)) / float(1 << 53)
    shares = np.cumsum(load_faiss().vector_to_array(hnsw.assign_probas))
    layers = 1 + np.minimum(np.searchsorted(shares, uniform, side="right"), len(shares) - 1)
    return np.asarray(layers, dtype=np.int32)


def _reserve(inner: Any, rows: int) -> None:
    """Let a graph have the memory for all rows at once."""
    # Growing block by block, each of FAISS's vectors doubles when it is full, and holds old and new while it is copied:
    # up to twice the index at the peak. A vector that is made long and short again keeps its place.
    if not hasattr(inner, "hnsw"):
        return
    hnsw = inner.hnsw
    links = load_faiss().vector_to_array(hnsw.cum_nneighbor_per_level)
    known = hnsw.levels.size()
    growing = [(hnsw.neighbors, int(links[_levels(hnsw, known, rows)].sum()))]
    codes = getattr(load_faiss().downcast_index(inner.storage), "codes", None)
    if codes is not None:
        growing.append((codes, (rows - known) * int(inner.storage.sa_code_size())))
    for vector, more in growing:
        size = vector.size()
        vector.resize(size + more)
        vector.resize(size)


# Errors


@contextmanager
def faiss_errors(factory: str, matrix: StoredMatrix) -> Iterator[None]:
    """Raise what FAISS raises in the block as `IndexBuildFailed`."""
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError) as error:
        raise IndexBuildFailed(
            f"FAISS cannot build {factory!r} over {len(matrix):,} rows of {matrix.shape[1]} dimensions: "
            f"{reason_of(error)}; choose another index, or none for the recommended one"
        ) from error


def reason_of(error: Exception) -> str:
    """Return what an error of FAISS says, without the place in its code."""
    # FAISS puts the C++ function, file and line in front, and often the failed condition.
    told = re.sub(r"^Error in .*? at \S+:\d+: (Error: )?", "", str(error).strip(), flags=re.S).splitlines()
    return told[0] if told else "it takes more memory than there is"
