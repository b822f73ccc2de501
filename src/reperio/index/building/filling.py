"""Filling a trained index from the mapped vector file, in blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.errors import IndexBuildFailed
from reperio.index.building.sampling import BLOCK_ROWS
from reperio.index.exact.converting import converted
from reperio.index.exact.read_ahead import in_blocks
from reperio.index.library.loading import innermost, load_faiss, threads
from reperio.types import FloatMatrix, Progress
from reperio.vectors import StoredMatrix, to_float32

_LARGEST_BLOCK = 1 << 28  # bytes as float32
_FOR_EACH_LIST = 16  # rows of a block, where it has the memory
_EFFORT_OF_LISTS = 8
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
    step = _step(inner, matrix)
    if index.ntotal < rows:
        _reserve(inner, rows)
    with threads(workers), ThreadPoolExecutor(workers) as pool:
        for block in in_blocks(matrix, index.ntotal, step):
            set_levels(inner, index.ntotal + len(block))
            with faiss_errors(name, matrix), assigning, _quick_choice_of_lists(inner):
                _add(index, block, pool)
            if progress is not None:
                progress("index", index.ntotal, rows)
            if after_block is not None and index.ntotal < rows:
                after_block(index)


def _step(inner: Any, matrix: StoredMatrix) -> int:
    """Return how many rows are added at a time."""
    kind = type(inner).__name__
    if "NSG" in kind:  # is built in one go; it keeps all vectors in any case
        return max(1, len(matrix))
    if "FastScan" in kind and hasattr(inner, "nlist"):
        # Codes for SIMD are put into lists 32 at a time. With four of a block for each list, as 16,384 rows have among
        # 4,096, most of that is done for a few: with sixteen filling takes a tenth less.
        wanted = _FOR_EACH_LIST * int(inner.nlist)
        return max(BLOCK_ROWS, min(wanted, _LARGEST_BLOCK // (4 * int(matrix.shape[1]))))
    return BLOCK_ROWS


@contextmanager
def _quick_choice_of_lists(inner: Any) -> Iterator[None]:
    """Find the list of each row with less effort than FAISS's own in the block, where a graph finds it."""
    # 98% of rows come into the same list, the others into one that is hardly farther, in .85 of the time. Questions
    # look into dozens of lists; the recall of the index is measured afterwards, as it is.
    quantizer = getattr(inner, "quantizer", None)
    hnsw = getattr(load_faiss().downcast_index(quantizer), "hnsw", None) if quantizer is not None else None
    if hnsw is None:
        yield
        return
    before, hnsw.efSearch = hnsw.efSearch, min(_EFFORT_OF_LISTS, hnsw.efSearch)
    try:
        yield
    finally:
        hnsw.efSearch = before


def _add(index: Any, block: StoredMatrix, pool: Executor) -> None:
    """Add rows as `index.add` does, as they are stored."""
    faiss = load_faiss()
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        chain = [faiss.downcast_VectorTransform(index.chain.at(place)) for place in range(index.chain.size())]
        _add(index.index, _converted(block, chain, pool), pool)
        index.ntotal = index.index.ntotal
    elif isinstance(index, faiss.IndexRefine):
        block = _converted(block, [], pool)
        _add(index.base_index, block, pool)
        _add(index.refine_index, block, pool)
        index.ntotal = index.refine_index.ntotal
    else:
        index.add(_converted(block, [], pool))


def _converted(block: StoredMatrix, chain: list[Any], pool: Executor) -> FloatMatrix:
    """Return rows widened and transformed."""
    if not chain and block.dtype == np.float32:
        return np.ascontiguousarray(block)
    # All cores at it: one after the other, this was a third of what an index of lists took to be filled. Converting the
    # next block meanwhile brings nothing, since adding keeps all cores busy, too.
    return converted(block, partial(through, chain), chain[-1].d_out if chain else block.shape[1], pool)


def through(chain: list[Any], rows: StoredMatrix) -> FloatMatrix:
    """Return rows as the index behind transforms takes them, float32."""
    floats = np.ascontiguousarray(to_float32(rows))
    with threads(1):  # how a matrix product is rounded depends on the number of threads
        for transform in chain:
            floats = transform.apply(floats)
    return floats


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
