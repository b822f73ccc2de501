"""Index files that others have written: their vectors are taken out, and the index is not used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import InvalidInput
from reperio.index.library.files import blocks_of, names_a_file
from reperio.index.library.loading import load_faiss
from reperio.layout import open_regular, storage_errors
from reperio.types import FloatMatrix, Metric, Rows

_LEAST_LIMIT = 1 << 20
_LONGEST = 65_536
_FLAT = ("IndexFlat", "IndexFlatL2", "IndexFlatIP")
_GRAPHS = ("IndexHNSWFlat", "IndexNSGFlat")
_RENUMBERING = ("IndexIDMap", "IndexIDMap2")


class VectorsLost(InvalidInput):
    """The vectors cannot be had as they were added; they can only be made again."""


@dataclass(frozen=True, slots=True)
class ForeignIndex:
    """An index that another program has written."""

    kind: str  # FAISS's name of its type, e.g. "IndexFlatL2"
    dimension: int  # of the vectors
    metric: Metric  # L2 or INNER_PRODUCT; FAISS has no cosine
    numbers: Rows  # by which each vector is known, int64 (n,), distinct
    lost: str | None  # why `vectors` has none to give; None where it has
    _outer: Any  # owns what `_index` points to
    _index: Any
    _by_number: bool = False  # `_index` knows its vectors by number, not by place

    def vectors(self, places: Rows) -> FloatMatrix:
        """Return the vectors at these places in `numbers`, as they were added: float32 (len(places), d).

        Raises:
            VectorsLost: they cannot be had.
        """
        if self.lost is not None:
            raise VectorsLost(self.lost)
        if len(places) == 0:
            return np.empty((0, self.dimension), dtype=np.float32)
        keys = self.numbers[places] if self._by_number else places
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(keys, dtype=np.int64)))


def read_foreign(path: Path, *, own_numbers: bool = False) -> ForeignIndex:
    """Read an index file of unknown origin; nothing in it may be longer than the file.

    Args:
        path: path of the file.
        own_numbers: the caller joins vectors and documents by the numbers that were added with the vectors, also those
            of an IVF index. Without, an IVF must know its vectors by 0, 1, 2 ….

    Raises:
        InvalidInput: it is no index that FAISS reads, contradicts itself, or compares in a way that is unknown here.
        StorageFailed: the file cannot be read.
        MissingDependency: FAISS is not installed.
    """
    with storage_errors(path, "read"), open(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if names_a_file(blocks_of(file), size):
            raise InvalidInput(f"{path} says that its lists are in another file, which is not read here")
    faiss = load_faiss()
    faiss.set_deserialization_vector_byte_limit(max(size, _LEAST_LIMIT))
    faiss.set_deserialization_loop_limit(max(size, _LEAST_LIMIT))
    try:
        # Read-only, a second fence: what FAISS might still open would else be opened for writing.
        return _opened(faiss.read_index(str(path), faiss.IO_FLAG_READ_ONLY), size, own_numbers)
    except (RuntimeError, MemoryError, _Contradiction) as error:
        raise InvalidInput(f"{path} is no index that can be read: {error!s:.300}") from None


class _Contradiction(Exception):
    """The file says two things that cannot both be true."""


def _opened(outer: Any, size: int, own_numbers: bool) -> ForeignIndex:
    faiss = load_faiss()
    _require(0 <= outer.ntotal <= size, f"{outer.ntotal} vectors in {size} bytes")
    kind, index = type(outer).__name__, outer
    numbers: Rows = np.arange(outer.ntotal)
    if kind in _RENUMBERING:
        index, numbers = faiss.downcast_index(outer.index), faiss.vector_to_array(outer.id_map)
        kind = f"{kind} over an {type(index).__name__}"
    for part in (outer, index):
        _require(1 <= part.d <= _LONGEST and part.d == outer.d, f"vectors of {part.d} dimensions")
        _require(part.ntotal == len(numbers), f"{part.ntotal} vectors, {len(numbers)} numbers")
        _require(part.metric_type in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT), "a metric unknown here")
        _require(part.metric_type == outer.metric_type, "two metrics")
    _require(len(np.unique(numbers)) == len(numbers), "a number twice")
    metric = Metric.L2 if outer.metric_type == faiss.METRIC_L2 else Metric.INNER_PRODUCT
    source, lost = _source(index)
    if own_numbers and index is outer and type(index).__name__ == "IndexIVFFlat" and lost is not None:
        held = np.sort(np.concatenate(_lists(index)))
        _require(len(np.unique(held)) == len(held) == outer.ntotal, "a number twice")
        index.set_direct_map_type(faiss.DirectMap.Hashtable)
        return ForeignIndex(kind, outer.d, metric, held, None, outer, index, _by_number=True)
    return ForeignIndex(kind, outer.d, metric, numbers, lost, outer, source)


def _source(index: Any) -> tuple[Any, str | None]:
    """Return what the vectors can be read from, and why not where they cannot."""
    faiss = load_faiss()
    name = type(index).__name__
    if name == "IndexRefineFlat":  # an index of codes, next to which lie the vectors themselves
        storage = faiss.downcast_index(index.refine_index)
        _require((storage.d, storage.ntotal) == (index.d, index.ntotal), "codes of other vectors")
        index, name = storage, type(storage).__name__
    if name in _GRAPHS:
        storage = faiss.downcast_index(index.storage)
        _require((storage.d, storage.ntotal) == (index.d, index.ntotal), "a graph over other vectors")
        index, name = storage, type(storage).__name__
    if name in _FLAT:
        _require(index.codes.size() == index.ntotal * index.d * 4, f"{index.codes.size()} bytes of vectors")
        return index, None
    if name != "IndexIVFFlat":
        return None, f"a FAISS {name} does not hold its vectors as they were added"
    lists = faiss.downcast_InvertedLists(index.invlists)
    _require(type(lists) is faiss.ArrayInvertedLists, "its vectors in another file")
    _require((lists.code_size, lists.nlist) == (index.d * 4, index.nlist), "lists of another shape")
    # What is deleted from an IVF leaves a gap, and an add takes a number that is in use: whose a vector is, is lost.
    if not np.array_equal(np.sort(np.concatenate(_lists(index))), np.arange(index.ntotal)):
        return None, "after a delete, the numbers in a FAISS IndexIVFFlat no longer tell whose a vector is"
    index.make_direct_map()
    return index, None


def _lists(index: Any) -> list[Rows]:
    """Return the numbers in each list of an IVF index."""
    faiss = load_faiss()
    lists = faiss.downcast_InvertedLists(index.invlists)
    return [faiss.rev_swig_ptr(lists.get_ids(place), lists.list_size(place)) for place in range(lists.nlist)]


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise _Contradiction(f"it has {otherwise}")
